"""Threat models and PGD: closed forms on linear networks, CleverHans as second opinion, the best iterate."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, rng
from fairat_tf.attacks import pgd, threat

SEED = (1, 2)


def linear(w):
    """Logits (z, 0) with z = w . x: the loss of label 0 rises along -w."""

    def network(points):
        z = tf.linalg.matvec(tf.reshape(points, [-1, len(w)]), tf.cast(w, points.dtype))
        return tf.stack([z, tf.zeros_like(z)], 1)

    return network


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("objective", ["cross_entropy", "margin"])
def test_linf_end_point_on_a_linear_network_is_the_corner(objective, random_start):
    random = np.random.default_rng(0)
    w = random.normal(size=12)
    images = random.uniform(0.0, 1.0, (5, 2, 2, 3))
    attack = pgd.PGD(0.1, 0.03, 10, objective=objective, random_start=random_start)
    found = attack(linear(w), tf.constant(images), tf.zeros([5], tf.int32), tf.constant(SEED))
    corner = np.clip(images - 0.1 * np.sign(w).reshape(2, 2, 3), 0, 1)
    assert np.abs(found - corner).max() < 1e-12


def test_l2_end_point_on_a_linear_network_is_along_the_weights():
    random = np.random.default_rng(0)
    w = random.normal(size=12)
    images = random.uniform(0.4, 0.6, (5, 2, 2, 3))
    attack = pgd.PGD(0.2, 0.05, 10, norm="l2", random_start=False)
    found = attack(linear(w), tf.constant(images), tf.zeros([5], tf.int32), tf.constant(SEED))
    expected = images - 0.2 * (w / np.linalg.norm(w)).reshape(2, 2, 3)
    assert np.abs(found - expected).max() < 1e-12


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_and_pgd_are_those_of_cleverhans(norm, network, images, labelled):
    if norm == "l2":
        # CleverHans clips to [0, 1] before it projects; away from 0 and 1 the order does not matter.
        images = 0.4 + 0.2 * images
    labels = tf.constant(labelled(network, images))
    radius = {"linf": 0.03, "l2": 0.3}[norm]
    order = {"linf": np.inf, "l2": 2}[norm]
    from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    x = tf.constant(images)
    theirs = fast_gradient_method(network, x, radius, order, y=labels, clip_min=0.0, clip_max=1.0)
    ours = attacks.get("fgsm")(radius, norm=norm)(network, x, labels, tf.constant(SEED))
    assert np.abs(ours - theirs).max() < 1e-6
    theirs = projected_gradient_descent(
        network, x, radius, radius / 4, 10, order, y=labels, clip_min=0.0, clip_max=1.0, rand_init=0
    )
    ours = pgd.PGD(radius, steps=10, norm=norm, random_start=False)(network, x, labels, tf.constant(SEED))
    # A gradient that is 0 up to rounding has no sign that two programs must agree on.
    assert np.mean(np.abs(ours - theirs) > 1e-6) < 1e-3
    assert np.abs(ours - images).max() > 0.01
    wrapped = attacks.get("cleverhans-pgd")(radius, steps=10, norm=norm)(
        network, x, labels, tf.constant(SEED)
    )
    assert np.abs(wrapped - theirs).max() < 1e-6


def test_keep_best_is_at_least_as_strong_as_the_last_point(network, images, labelled):
    labels = labelled(network, images)
    # Steps as long as the radius overshoot, so the last point is often not the best one.
    results = {}
    for keep in (False, True):
        attack = pgd.PGD(0.03, 0.06, 7, objective="margin", keep_best=keep)
        logits = network(attack(network, tf.constant(images), tf.constant(labels), tf.constant(SEED))).numpy()
        own = logits[np.arange(24), labels]
        logits[np.arange(24), labels] = -np.inf
        results[keep] = logits.max(1) - own
    assert (results[True] >= results[False] - 1e-5).all() and (results[True] > results[False] + 1e-3).any()


def test_more_restarts_are_never_weaker(network, images, labelled):
    labels = labelled(network, images)
    wrong = []
    for restarts in (1, 3):
        attack = pgd.PGD(0.012, steps=3, restarts=restarts, keep_best=True)
        found = attack(network, tf.constant(images), tf.constant(labels), tf.constant(SEED))
        wrong.append(network(found).numpy().argmax(1) != labels)
    assert (wrong[1] | ~wrong[0]).all()


def test_restarts_keep_the_strongest_of_walks_from_different_starts(network, images, labelled):
    labels = labelled(network, images)
    rows, seed = np.arange(len(images)), tf.constant(SEED)
    given = network, tf.constant(images), tf.constant(labels)
    own = {"loss": lambda z, y: tf.reduce_sum(z, -1)}  # may well be highest where the prediction is right
    walk = pgd.PGD(0.1, steps=3, keep_best=True)
    points = np.stack([walk(*given, s, **own) for s in (seed, rng.fold(seed, 1), rng.fold(seed, 2))])
    logits = np.stack([network(p) for p in points])
    wrong, loss = logits.argmax(-1) != labels, logits.sum(-1)
    best = np.lexsort((loss, wrong), axis=0)[-1]  # misclassified before not, then by loss
    found = pgd.PGD(0.1, steps=3, restarts=3)(*given, seed, **own)
    np.testing.assert_array_equal(found, points[best, rows])
    assert set(best) == {0, 1, 2} and (best != loss.argmax(0)).any()


def test_linf_start_is_uniform_and_l2_start_fills_the_ball():
    images = tf.fill([4000, 1, 1, 3], 0.5)
    start = threat.get("linf")(images, 0.1).random_start(rng.key(0, "t")).numpy() - 0.5
    counts = np.histogram(start / 0.1, 4, (-1, 1))[0] / start.size
    assert np.abs(counts - 0.25).max() < 0.02 and abs(start.mean()) < 2e-3
    radius = np.linalg.norm(
        threat.get("l2")(images, 0.1).random_start(rng.key(0, "t")).numpy() - 0.5, axis=-1
    )
    # The share of a ball in d = 3 within half of its radius is 1/8.
    assert radius.max() <= 0.1 + 1e-6 and abs((radius < 0.05).mean() - 1 / 8) < 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_boundary_start_is_on_the_boundary(norm):
    images = tf.fill([50, 2, 2, 3], 0.5)
    radii = np.linspace(0.01, 0.3, 50).astype(np.float32)
    ball = threat.get(norm)(images, tf.constant(radii))
    assert np.abs(ball.distance(ball.boundary_start(rng.key(0, "t"))) - radii).max() < 1e-6
    half = ball.boundary_start(rng.key(0, "t"), fraction=0.5)
    assert np.abs(ball.distance(half) - radii / 2).max() < 1e-6


def test_projection_and_distance_by_hand():
    image = tf.constant([[[[0.9, 0.5]]]])
    linf, l2 = threat.get("linf")(image, 0.2), threat.get("l2")(image, 0.25)
    assert np.allclose(linf.project(tf.constant([[[[1.5, 0.1]]]])), [[[[1.0, 0.3]]]])
    # The change (0.3, -0.4) has length 0.5: halved to (0.15, -0.2), then 1.05 is clipped to 1.
    assert np.allclose(l2.project(tf.constant([[[[1.2, 0.1]]]])), [[[[1.0, 0.3]]]])
    assert np.allclose(linf.distance(tf.constant([[[[0.8, 0.7]]]])), 0.2)
    assert np.allclose(l2.length(tf.constant([[[[0.3, 0.4]]]])), 0.5)


def test_gradient_is_of_each_example_alone():
    def network(points):
        return tf.reshape(points, [-1, 2]) ** 2

    points = tf.constant([[[[1.0, 2.0]]], [[[3.0, 5.0]]]])
    loss, gradient, _ = pgd.loss_and_gradient(
        network, lambda z, y: z[:, 0] - z[:, 1], points, tf.constant([0, 0])
    )
    assert np.allclose(loss, [-3, -16]) and np.allclose(np.reshape(gradient, (2, 2)), [[2, -4], [6, -10]])


@pytest.mark.parametrize("options", [{"steps": 0}, {"epsilon": -0.1}, {"restarts": 0}, {"objective": "no"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError):
        pgd.PGD(**options)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
