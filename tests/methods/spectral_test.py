"""Spectral regularisation: weights by differences, counts by loops, the step in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.methods.spectral import weights
from tests import support
from tests.methods import oracle

TARGETS = oracle.one_hot(oracle.LABELS)
CONFUSION = np.array([[50.0, 7, 1], [3, 40, 9], [2, 0, 60]])  # row: predicted, column: true class
WEIGHTS = np.array([[0.3, 1.9, 0.7], [1.2, 0.1, 2.0], [0.5, 1.4, 0.9]])


def by_differences(matrix):
    """Returns the gradient of the spectral norm by the matrix, by central differences."""
    out = np.zeros_like(matrix)
    for place in np.ndindex(matrix.shape):
        step = np.zeros_like(matrix)
        step[place] = 1e-4
        out[place] = (np.linalg.norm(matrix + step, 2) - np.linalg.norm(matrix - step, 2)) / 2e-4
    return out


def test_weights_rise_with_the_gradient_of_the_spectral_norm():
    errors = CONFUSION - np.diag(np.diag(CONFUSION))
    gradient = by_differences(errors)
    expected = 2 * (gradient - gradient.min()) / (gradient.max() - gradient.min()) + 0.01
    np.testing.assert_allclose(weights(CONFUSION), expected, atol=1e-5)
    assert weights(CONFUSION).min() == pytest.approx(0.01) and weights(CONFUSION).max() == pytest.approx(2.01)


def test_without_errors_every_weight_is_one():
    np.testing.assert_array_equal(weights(np.diag([5.0, 3.0, 0.0])), np.ones((3, 3)))
    np.testing.assert_array_equal(
        weights(np.ones((4, 4)) + 7 * np.eye(4)), np.ones((4, 4))
    )  # all confused alike


@pytest.mark.parametrize("loss", ["trades", "cross_entropy"])
def test_step_equals_closed_form(loss):
    method = oracle.linear_method("spectral", loss=loss, beta=2.0, spectral_strength=0.6)
    method.confusion_weights.assign(WEIGHTS)
    adversarial = oracle.shifted()
    predicted = np.argmax(oracle.flat(adversarial) @ oracle.KERNEL, 1)
    w = np.array([WEIGHTS[p, y] for p, y in zip(predicted, oracle.LABELS, strict=True)])
    extra = oracle.cross_entropy_rows(oracle.KERNEL, adversarial, TARGETS, 0.6 * w)
    if loss == "trades":
        base = oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, adversarial, TARGETS, 2.0, on_error=0.4)
    else:
        base = oracle.cross_entropy_rows(oracle.KERNEL, adversarial, TARGETS, 0.4)
    oracle.check_step(method, base + extra)


def test_smoothed_labels_reach_both_parts_of_the_error():
    method = oracle.linear_method(
        "spectral", loss="cross_entropy", spectral_strength=1.0, label_smoothing=0.3
    )
    rows = oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), 0.7 * TARGETS + 0.1, 1.0)
    oracle.check_step(method, rows)


@pytest.mark.parametrize("loss, name", [("trades", "trades"), ("cross_entropy", "pgd_at")])
def test_strength_zero_is_the_base_method(loss, name):
    def trained(name, **options):
        method = support.make_method(name, support.tiny_network(batch_norm=True), **options)
        method.train_step(support.batch_of(support.tiny_split()))
        return method.network.get_weights()

    for a, b in zip(trained(name), trained("spectral", loss=loss, spectral_strength=0.0), strict=True):
        np.testing.assert_array_equal(a, b)


def counted(logits, margin):
    found = np.zeros((3, 3))
    for z, y in zip(np.array(logits), oracle.LABELS, strict=True):
        z = z.copy()
        z[y] -= margin * z[y]
        found[np.argmax(z), y] += 1
    return found


@pytest.mark.parametrize("margin", [0.0, 0.9])
def test_confusions_of_an_epoch_by_loops(margin):
    method = oracle.linear_method("spectral", spectral_margin=margin)
    expected = np.zeros((3, 3))
    for _ in range(2):
        expected += counted(oracle.flat(oracle.shifted()) @ oracle.kernel(method), margin)
        method.train_step(oracle.batch())
    np.testing.assert_array_equal(oracle.value(method.confusions), expected)
    method.on_epoch_end(0, {"robust": np.ones(3)}, {})
    np.testing.assert_allclose(oracle.value(method.confusion_weights), weights(expected), rtol=1e-6)
    np.testing.assert_array_equal(oracle.value(method.confusions), np.zeros((3, 3)))


def test_two_devices_count_the_confusions_of_the_global_batch(mirrored):
    with mirrored.scope():
        method = support.make_method("spectral", oracle.linear_network(), attack=oracle.Shift())
    step = tf.function(lambda batch: mirrored.run(method.train_step, (batch,)), autograph=False)
    data = tf.data.Dataset.from_tensors(oracle.batch()).unbatch().batch(oracle.SIZE)
    for batch in mirrored.experimental_distribute_dataset(data):
        step(batch)
    expected = counted(oracle.flat(oracle.shifted()) @ oracle.KERNEL, 0.0)
    np.testing.assert_array_equal(oracle.value(method.confusions), expected)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
