"""DAFA: the weights by loops over pairs of classes, what is collected when, and the switch."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.methods.dafa import weights
from fairat_tf.training_loop import Loop, Position
from tests import support
from tests.methods import oracle

SIMILARITY = np.array([[0.5, 0.3, 0.2], [0.15, 0.8, 0.05], [0.3, 0.1, 0.6]])


def by_loops(p, strength):
    classes = len(p)
    w = [1.0] * classes
    for i in range(classes):
        for j in range(classes):
            if i != j and p[i, i] < p[j, j]:
                w[i] += strength * p[i, j] * p[j, j]
            elif i != j:
                w[i] -= strength * p[j, i] * p[i, i]
    return w


@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_weights_by_loops(strength):
    for seed in range(5):
        p = np.random.default_rng(seed).dirichlet(np.ones(6), 6)
        p = 0.5 * p + 0.5 * np.diag(np.random.default_rng(seed).uniform(size=6))
        np.testing.assert_allclose(weights(p, strength), np.maximum(by_loops(p, strength), 0), rtol=1e-5)


def test_weights_by_hand_move_from_easy_to_hard():
    w = weights(SIMILARITY, 1.0)
    np.testing.assert_allclose(
        w, [1 + 0.3 * 0.8 + 0.2 * 0.6, 1 - 0.24 - 0.08, 1 - 0.12 + 0.1 * 0.8], rtol=1e-6
    )
    np.testing.assert_allclose(w.sum(), 3.0, rtol=1e-6)  # without ties, what one class gains another loses


def test_weights_are_not_negative():
    assert weights(np.array([[0.9, 0.1], [0.9, 0.8]]), 4.0)[0] == 0.0


def switched(strength=1.0, **options):
    """A method whose one warm-up epoch is over."""
    method = oracle.linear_method("dafa", epochs=2, dafa_lambda=strength, **options)
    method.on_epoch_begin(0)
    method.probabilities.assign(SIMILARITY * [[4], [2], [5]])
    method.seen.assign([4, 2, 5])
    method.on_epoch_end(0, {"robust": np.ones(3)}, {})
    method.on_epoch_begin(1)
    return method


def test_step_equals_closed_form_with_weighted_radius_and_cross_entropy():
    method = switched(beta=2.5)
    w = np.array(by_loops(SIMILARITY, 1.0))[oracle.LABELS]
    rows = oracle.trades_rows(
        oracle.KERNEL, oracle.IMAGES, oracle.shifted(0.1 * w), oracle.one_hot(oracle.LABELS), 2.5, on_error=w
    )
    oracle.check_step(method, rows)


def test_step_on_cross_entropy_keeps_the_class_radius():
    method = switched(loss="cross_entropy")
    w = np.array(by_loops(SIMILARITY, 1.0))[oracle.LABELS]
    targets = oracle.one_hot(oracle.LABELS)
    oracle.check_step(method, oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(0.1 * w), targets, w))


def test_probabilities_are_those_of_the_last_warm_up_epoch():
    method = oracle.linear_method("dafa", epochs=3)
    assert method.epoch_at(method.options.dafa_warmup) == 2
    sums = np.zeros((3, 3))
    for epoch in range(3):
        method.on_epoch_begin(epoch)
        for _ in range(2):
            examples = oracle.examples_of(method)
            p = oracle.softmax(oracle.flat(examples.images) @ oracle.kernel(method))
            if epoch == 1:
                np.add.at(sums, oracle.LABELS, p)
            method.train_step(oracle.batch())
        method.on_epoch_end(epoch, {"robust": np.ones(3)}, {})
        expected = weights(sums / [[4], [6], [2]], 1.0) if epoch >= 1 else np.ones(3)
        np.testing.assert_allclose(oracle.value(method.class_scale), expected, rtol=1e-5)
    np.testing.assert_allclose(oracle.value(method.seen), [4, 6, 2])


def test_steps_of_the_attack_scale_with_the_radius():
    method = support.make_method("dafa", support.tiny_network())
    assert method.attack.scale_step and not method.validation_attack.scale_step


@pytest.mark.parametrize("loss, name", [("trades", "trades"), ("cross_entropy", "pgd_at")])
def test_with_lambda_zero_it_is_the_base_method(loss, name):
    def trained(name, **options):
        method = support.make_method(name, support.tiny_network(batch_norm=True), epochs=2, **options)
        for epoch in range(2):
            method.on_epoch_begin(epoch)
            method.train_step(support.batch_of(support.tiny_split()))
            method.on_epoch_end(epoch, {"robust": np.ones(4)}, {})
        return method.network.get_weights()

    for a, b in zip(trained(name), trained("dafa", loss=loss, dafa_lambda=0.0), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_two_devices_collect_what_one_does(mirrored):
    def collected(strategy):
        with strategy.scope():
            method = support.make_method("dafa", support.tiny_network(), epochs=2)
        data = tf.data.Dataset.from_tensors(support.batch_of(support.tiny_split(), 16))
        Loop(method, strategy).run(Position(), 1, lambda position: data, 1)
        return oracle.value(method.probabilities), oracle.value(method.seen)

    one, two = collected(tf.distribute.get_strategy()), collected(mirrored)
    np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
    np.testing.assert_array_equal(two[1], [4, 4, 4, 4])
    np.testing.assert_allclose(one[0].sum(1), [4, 4, 4, 4], rtol=1e-5)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
