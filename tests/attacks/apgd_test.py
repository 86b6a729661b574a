"""APGD against a plain NumPy loop, a closed form, frozen figures of the authors' suite, and promises."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.attacks import apgd, threat


def test_checkpoints_are_those_of_the_paper():
    windows = apgd.windows(100)
    assert (np.flatnonzero(windows) + 1).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert windows[windows > 0].tolist() == [22, 19, 16, 13, 10, 7, 6, 6]


@pytest.mark.parametrize(("steps", "expected"), [(1, [1]), (10, [2, 3, 4, 5, 6, 7, 8, 9, 10])])
def test_checkpoints_of_short_runs(steps, expected):
    assert (np.flatnonzero(apgd.windows(steps)) + 1).tolist() == expected


def reference(x, y, V, W, epsilon, start, steps):
    """One example, cross-entropy of V tanh(W x), Linf; a list of losses as the authors keep it."""

    def loss_and_gradient(point):
        hidden = np.tanh(W @ point)
        z = V @ hidden
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        hot = np.eye(len(V))[y]
        return -np.log(p[y]), W.T @ ((1 - hidden**2) * (V.T @ (p - hot))), z.argmax() != y

    def inside(point):
        return np.clip(np.clip(point, x - epsilon, x + epsilon), 0, 1)

    point = old = start
    loss, gradient, wrong = loss_and_gradient(point)
    best, best_point, best_gradient, latest, fooled = loss, point, gradient, point, wrong
    eta, history, reduced, at_check = 2 * epsilon, np.zeros(steps), True, loss
    checks, window, count = [], max(int(0.22 * steps), 1), 0
    for i in range(steps):
        a = 0.75 if i else 1.0
        ahead = inside(point + eta * np.sign(gradient))
        point, old = inside(point + a * (ahead - point) + (1 - a) * (point - old)), point
        loss, gradient, wrong = loss_and_gradient(point)
        history[i] = loss
        if wrong:
            latest, fooled = point, True
        if loss > best:
            best, best_point, best_gradient = loss, point, gradient
        count += 1
        if count == window:
            rises = sum(history[i - j] > history[i - j - 1] for j in range(window))
            reduced, at_check = rises <= 0.75 * window or (not reduced and at_check >= best), best
            if reduced:
                eta, point, gradient = eta / 2, best_point, best_gradient
            checks.append((i, reduced))
            window, count = max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)), 0
    return best, best_point, latest, fooled, eta, checks


def test_every_decision_is_that_of_a_plain_loop():
    random = np.random.default_rng(0)
    W, V, x = random.normal(size=(16, 12)) * 2, random.normal(size=(5, 16)), random.uniform(size=(8, 12))
    y, epsilon, steps = (np.tanh(x @ W.T) @ V.T).argmax(1), 0.3, 40
    start = np.clip(x + epsilon * random.uniform(-1, 1, x.shape), 0, 1)

    def network(points):
        return tf.tanh(tf.reshape(points, [-1, 12]) @ W.T) @ V.T

    ball = threat.get("linf")(tf.constant(x.reshape(8, 2, 2, 3)), epsilon)
    labels = tf.constant(y, tf.int32)
    loss = apgd.APGD(epsilon).loss(network, ball.images, 0)
    evaluate = apgd.averaged(network, loss, labels, 1)
    end = apgd.climb(evaluate, ball, labels, tf.constant(start.reshape(8, 2, 2, 3)), steps)
    halvings = set()
    for n in range(8):
        best, best_point, latest, fooled, eta, checks = reference(x[n], y[n], V, W, epsilon, start[n], steps)
        assert abs(end.best_loss[n] - best) < 1e-9 and bool(end.fooled[n]) == fooled
        assert np.abs(np.ravel(end.best_points[n]) - best_point).max() < 1e-9
        assert np.abs(np.ravel(end.adversarial[n]) - latest).max() < 1e-9
        assert abs(end.step_size[n] - eta) < 1e-12
        halvings.add(sum(reduced for _, reduced in checks))
    assert len(halvings) > 1, "the examples should differ in their step sizes"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_network_is_maximised_exactly(norm):
    random = np.random.default_rng(2)
    w = random.normal(size=12).astype(np.float32)
    images = random.uniform(0.3, 0.7, (6, 2, 2, 3)).astype(np.float32)

    def network(points):
        z = tf.linalg.matvec(tf.reshape(points, [-1, 12]) - 0.5, w)
        return tf.stack([z, -z], 1)

    labels = np.zeros(6, np.int32)
    ball = threat.get(norm)(tf.constant(images), 0.1)
    attack = apgd.APGD(0.1, norm, steps=30, objective="margin")
    evaluate = apgd.averaged(network, attack.loss(network, images, 0), labels, 1)
    end = apgd.climb(evaluate, ball, tf.constant(labels), ball.boundary_start(tf.constant([1, 2])), 30)
    reach = np.abs(w).sum() if norm == "linf" else np.linalg.norm(w)
    best = -2 * ((images.reshape(6, 12) - 0.5) @ w) + 2 * 0.1 * reach
    assert np.abs(end.best_loss - best).max() < 2e-4


def test_the_best_point_is_that_of_the_highest_loss_on_the_way(network, images, labelled):
    labels = tf.constant(labelled(network, images))
    ball = threat.get("linf")(tf.constant(images), 0.03)
    start = ball.boundary_start(tf.constant([1, 2]))
    measured, visited = apgd.averaged(network, apgd.APGD().loss(network, ball.images, 0), labels, 1), []

    def evaluate(points):
        found = measured(points)
        visited.append((found[0].numpy(), points.numpy()))
        return found

    end = apgd.climb(evaluate, ball, labels, start, 12)
    losses, points = (np.stack(values) for values in zip(*visited, strict=True))
    assert len(losses) == 13 and (losses.argmax(0) > 0).any()
    np.testing.assert_array_equal(end.best_loss, losses.max(0))
    np.testing.assert_array_equal(end.best_points, points[losses.argmax(0), np.arange(24)])


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 100])
def test_number_of_classes(classes, networks, images, labelled):
    network = networks(classes)
    labels = labelled(network, images)
    attack = apgd.apgd_t(0.05, steps=8)
    assert attack.rounds(classes) == min(9, classes - 1)
    call = tf.function(lambda x, y: attack(network, x, y, tf.constant([1, 2])), autograph=False)
    adversarial = call(images, labels)
    right = np.arange(24) % 6 != 0
    still = network(adversarial).numpy().argmax(1) == labels
    assert still.sum() < right.sum() and np.isfinite(adversarial).all()


def test_gradients_of_a_network_that_answers_at_random_are_averaged():
    flips = []

    def network(points):
        flips.append(1)
        sign = 1.0 if len(flips) % 4 else -1.0
        z = sign * tf.reduce_sum(points, [1, 2, 3])
        return tf.stack([z, -z], 1)

    loss = apgd.APGD(objective="margin").loss(network, None, 0)
    evaluate = apgd.averaged(network, loss, tf.constant([0]), 4)
    values, gradient, _ = evaluate(tf.ones([1, 1, 1, 1]))
    # Three passes with gradient -2 and a last one with +2; loss and logits are the last pass's.
    assert len(flips) == 4 and float(gradient[0, 0, 0, 0]) == -1.0 and float(values[0]) == 2.0


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("objective", ["cross_entropy", "dlr", "targeted_dlr"])
def test_figures_of_the_authors_suite(norm, objective, official):
    network, images, labels, start, epsilon = official.problem(norm)
    case = official.case("apgd", norm=norm, objective=objective)
    ball, attack = (
        threat.get(norm)(tf.constant(images), epsilon),
        apgd.APGD(epsilon, norm, objective=objective),
    )

    @tf.function(autograph=False)
    def run():
        evaluate = apgd.averaged(network, attack.loss(network, ball.images, 0), labels, 1)
        return apgd.climb(evaluate, ball, labels, tf.constant(start), 100)

    end = run()
    assert np.allclose(end.best_loss, case["best"], rtol=1e-6, atol=1e-6)
    assert np.allclose(end.loss, case["last"], rtol=1e-6, atol=1e-6)
    assert len(set(case["stands"])) == 2
    assert (~end.fooled.numpy()).tolist() == case["stands"]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
