"""FAT: the penalty by loops, its gradient by differences and through the step, several devices."""

import numpy as np
import pytest
import tensorflow as tf

from tests import support
from tests.methods import oracle

TARGETS = oracle.one_hot(oracle.LABELS)
ROWS = np.arange(oracle.SIZE)


def risks(weights, labels=oracle.LABELS, images=None):
    """Returns the mean cross-entropy of each class that is there."""
    x = oracle.flat(oracle.shifted() if images is None else images)
    q = oracle.softmax(x @ weights)
    return [-np.log(q[labels == k, k]).mean() for k in sorted(set(labels))]


def penalty(weights, **kwargs):
    return np.var(risks(weights, **kwargs), ddof=1)


def by_differences(function, weights):
    """Returns the gradient of a function of the weights, by central differences."""
    out = np.zeros_like(weights)
    for place in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[place] = 1e-5
        out[place] = (function(weights + step) - function(weights - step)) / 2e-5
    return out


def base_rows(loss, weights):
    if loss == "trades":
        return oracle.trades_rows(weights, oracle.IMAGES, oracle.shifted(), TARGETS, 2.0)
    return oracle.cross_entropy_rows(weights, oracle.shifted(), TARGETS)


@pytest.mark.parametrize("loss, strength", [("cross_entropy", 1.7), ("trades", 3.0)])
def test_step_is_the_gradient_of_loss_plus_variance(loss, strength):
    method = oracle.linear_method("fat_var", loss=loss, beta=2.0, var_strength=strength)
    w = oracle.KERNEL.astype(np.float64)
    of_penalty = strength * by_differences(penalty, w)
    assert np.abs(of_penalty).max() > 0.05
    logs = method.train_step(oracle.batch())
    expected = oracle.after_step(w, oracle.gradient(base_rows(loss, w)) + of_penalty)
    np.testing.assert_allclose(oracle.kernel(method), expected, rtol=1e-5, atol=1e-6)
    if loss == "cross_entropy":
        q = oracle.softmax(oracle.flat(oracle.shifted()) @ w)
        value = -np.log(q[ROWS, oracle.LABELS]).mean() + strength * penalty(w)
        np.testing.assert_allclose(float(logs["loss"]), value, rtol=1e-5)


@pytest.mark.parametrize("labels", [[0, 2, 2, 0, 0, 2], [1, 1, 1, 1, 1, 1]])
def test_absent_classes_take_no_part(labels):
    labels = np.array(labels, np.int32)
    method = oracle.linear_method("fat_var", var_strength=2.0)
    w = oracle.KERNEL.astype(np.float64)
    several = len(set(labels)) > 1
    of_penalty = by_differences(lambda v: penalty(v, labels=labels), w) if several else 0.0
    method.train_step({**oracle.batch(), "label": tf.constant(labels)})
    rows = oracle.cross_entropy_rows(w, oracle.shifted(), oracle.one_hot(labels))
    expected = oracle.after_step(w, oracle.gradient(rows) + 2.0 * of_penalty)
    np.testing.assert_allclose(oracle.kernel(method), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss, name", [("trades", "trades"), ("cross_entropy", "pgd_at")])
def test_strength_zero_is_the_base_method(loss, name):
    def trained(name, **options):
        method = support.make_method(name, support.tiny_network(batch_norm=True), **options)
        method.train_step(support.batch_of(support.tiny_split()))
        return method.network.get_weights()

    for a, b in zip(trained(name), trained("fat_var", loss=loss, var_strength=0.0), strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_devices_use_the_risks_of_the_global_batch(mirrored):
    with mirrored.scope():
        options = {"attack": oracle.Shift(), "var_strength": 2.0}
        method = support.make_method("fat_var", oracle.linear_network(), **options)
    w = oracle.KERNEL.astype(np.float64)
    data = tf.data.Dataset.from_tensors(oracle.batch()).unbatch().batch(oracle.SIZE)
    step = tf.function(lambda batch: mirrored.run(method.train_step, (batch,)), autograph=False)
    for batch in mirrored.experimental_distribute_dataset(data):
        step(batch)
    rows = oracle.cross_entropy_rows(w, oracle.shifted(), TARGETS)
    expected = oracle.after_step(w, oracle.gradient(rows) + 2.0 * by_differences(penalty, w))
    np.testing.assert_allclose(oracle.kernel(method), expected, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
