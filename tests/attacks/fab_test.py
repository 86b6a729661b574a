"""FAB: its projection against SciPy's optimiser, exact distances on linear networks, the authors' figures."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from fairat_tf.attacks import fab, hyperplane


def best_linf(t, w, f):
    """Smallest s with |d| <= s, 0 <= t + d <= 1, f + w d = 0, as a linear programme."""
    n = len(t)
    bound = np.concatenate([np.eye(n), -np.eye(n)])
    found = optimize.linprog(
        np.append(np.zeros(n), 1),
        A_ub=np.column_stack([bound, -np.ones(2 * n)]),
        b_ub=np.zeros(2 * n),
        A_eq=[np.append(w, 0)],
        b_eq=[-f],
        bounds=[*zip(-t, 1 - t, strict=True), (0, None)],
    )
    return found.x[-1] if found.success else None


def best_l2(t, w, f):
    found = optimize.minimize(
        lambda d: d @ d,
        np.clip(-f * w / (w @ w), -t, 1 - t),
        jac=lambda d: 2 * d,
        bounds=list(zip(-t, 1 - t, strict=True)),
        constraints={"type": "eq", "fun": lambda d: f + w @ d, "jac": lambda d: w},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return np.sqrt(found.fun)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_step_onto_the_hyperplane_is_the_shortest(norm):
    random = np.random.default_rng(0)
    points = np.clip(random.uniform(-0.2, 1.2, (12, 6)), 0, 1)
    normal = random.normal(size=(12, 6)) * (random.uniform(size=(12, 6)) > 0.2)
    room = np.where(normal > 0, points, 1 - points)
    reach = (np.abs(normal) * room).sum(1)
    value = reach * np.linspace(0.05, 0.95, 12)
    change = hyperplane.step(tf.constant(points), tf.constant(normal), tf.constant(value), norm).numpy()
    assert np.abs(value + (normal * change).sum(1)).max() < 1e-9
    assert (points + change).min() >= 0 and (points + change).max() <= 1
    for n in range(12):
        best = (best_linf if norm == "linf" else best_l2)(points[n], normal[n], value[n])
        size = np.abs(change[n]).max() if norm == "linf" else np.linalg.norm(change[n])
        assert size == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_where_no_image_reaches_the_hyperplane_the_step_goes_to_the_corner(norm):
    points, normal = np.array([[0.2, 0.7, 0.5]]), np.array([[1.0, -2.0, 0.0]])
    change = hyperplane.step(tf.constant(points), tf.constant(normal), tf.constant([100.0], tf.float64), norm)
    assert np.allclose(change, [[-0.2, 0.3, 0.0]])


def test_a_flat_function_gives_no_step():
    zero = tf.zeros([2, 3])
    assert np.array_equal(hyperplane.step(zero + 0.5, zero, tf.constant([1.0, -1.0]), "linf"), zero)


@pytest.mark.parametrize("targets", [0, 9])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_distance_to_the_boundary_of_a_linear_network(norm, targets):
    random = np.random.default_rng(3)
    W = random.normal(size=(4, 12))
    images = random.uniform(0.35, 0.65, (10, 2, 2, 3))

    def network(points):
        return (tf.reshape(points, [-1, 12]) - 0.5) @ W.T

    logits = network(tf.constant(images)).numpy()
    labels = logits.argmax(1)
    distances = []
    for n, y in enumerate(labels):
        others = [c for c in range(4) if c != y]
        sizes = [np.linalg.norm(W[y] - W[c], 1 if norm == "linf" else 2) for c in others]
        distances.append(min((logits[n, y] - logits[n, c]) / s for c, s in zip(others, sizes, strict=True)))
    distances = np.array(distances)
    assert distances.max() < 0.3, "the box must not matter here"
    attack = fab.FAB(1.0, norm, steps=40, targets=targets)
    runs = range(attack.rounds(4))
    assert len(runs) == (3 if targets else 1)
    y, seed = tf.constant(labels, tf.int32), tf.constant([1, 2])
    found = [attack.nearest(network, tf.constant(images), y, seed, n) for n in runs]
    nearest = np.min([distance for _, distance in found], axis=0)
    assert (nearest >= distances * (1 - 1e-9)).all() and (nearest <= distances * 1.02).all()
    points, distance = found[0]
    assert (network(points).numpy().argmax(1) != labels).all()
    change = np.reshape(points - images, (10, 12))
    size = np.abs(change).max(1) if norm == "linf" else np.linalg.norm(change, axis=1)
    assert np.abs(size - distance).max() < 1e-12


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_figures_of_the_authors_suite(norm, official):
    network, images, labels, _, epsilon = official.problem(norm)
    attack = fab.fab_t(epsilon, norm=norm)
    call = tf.function(
        lambda n: attack.nearest(network, tf.constant(images), labels, tf.constant([1, 2]), n)[1],
        autograph=False,
    )
    for rank, expected in enumerate(official.case("fab", norm=norm)["distance"]):
        found = call(tf.constant(rank)).numpy()
        assert (np.isfinite(found) == (np.array(expected) > 0)).all()
        both = np.isfinite(found)
        error = np.abs(found[both] / np.array(expected)[both] - 1)
        assert np.median(error) < 1e-4 and error.max() < 0.02


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
