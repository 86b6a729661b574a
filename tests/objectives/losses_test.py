"""Losses against NumPy in float64 and values by hand."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import objectives
from fairat_tf.objectives import losses

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(40, 6)) * 3
LABELS = RANDOM.integers(6, size=40)
TARGETS = (LABELS + RANDOM.integers(1, 6, size=40)) % 6


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def call(function, *arrays):
    return function(tf.constant(LOGITS), *(tf.constant(a, tf.int32) for a in arrays)).numpy()


def test_cross_entropy():
    assert np.allclose(call(losses.cross_entropy, LABELS), -np.log(softmax(LOGITS)[np.arange(40), LABELS]))


def test_soft_labels_are_a_mixture_of_hard_ones():
    soft = tf.constant(0.3 * np.eye(6)[LABELS] + 0.7 * np.eye(6)[TARGETS])
    mixed = 0.3 * call(losses.cross_entropy, LABELS) + 0.7 * call(losses.cross_entropy, TARGETS)
    assert np.allclose(losses.cross_entropy(tf.constant(LOGITS), soft), mixed)


def test_margin_is_positive_exactly_where_misclassified():
    expected = [max(z[c] for c in range(6) if c != y) - z[y] for z, y in zip(LOGITS, LABELS, strict=True)]
    assert np.allclose(call(losses.margin, LABELS), expected)
    assert np.array_equal(call(losses.margin, LABELS) > 0, LOGITS.argmax(1) != LABELS)


def test_dlr_and_its_targeted_form():
    ranked = -np.sort(-LOGITS, 1)
    own = LOGITS[np.arange(40), LABELS]
    expected = call(losses.margin, LABELS) / (ranked[:, 0] - ranked[:, 2])
    assert np.allclose(call(losses.dlr, LABELS), expected)
    expected = (LOGITS[np.arange(40), TARGETS] - own) / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2)
    assert np.allclose(call(losses.targeted_dlr, LABELS, TARGETS), expected)
    assert np.allclose(call(losses.targeted_margin, LABELS, TARGETS), LOGITS[np.arange(40), TARGETS] - own)


@pytest.mark.parametrize(("logits", "expected"), [([[1.0, 3.0]], 2.0), ([[1.0, 5.0, 3.0]], 4.0 / 4.0)])
def test_dlr_with_two_and_three_classes_by_hand(logits, expected):
    label, target = tf.constant([0]), tf.constant([1])
    assert float(losses.dlr(tf.constant(logits), label)[0]) == pytest.approx(expected)
    assert float(losses.targeted_dlr(tf.constant(logits), label, target)[0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss", [losses.dlr, lambda z, y: losses.targeted_dlr(z, y, tf.constant(TARGETS, tf.int32))]
)
def test_ratios_ignore_shift_and_scale(loss):
    labels = tf.constant(LABELS, tf.int32)
    assert np.allclose(loss(tf.constant(LOGITS), labels), loss(tf.constant(5 * LOGITS + 3), labels))


def test_kl_divergence_and_entropy():
    p, q = softmax(LOGITS), softmax(LOGITS[::-1])
    found = losses.kl_divergence(tf.constant(LOGITS), tf.constant(LOGITS[::-1]))
    assert np.allclose(found, (p * np.log(p / q)).sum(1))
    assert np.allclose(losses.entropy(tf.constant(LOGITS)), -(p * np.log(p)).sum(1))
    sure = tf.constant([[1000.0, 0.0]])
    assert float(losses.kl_divergence(sure, sure)[0]) == 0 and float(losses.entropy(sure)[0]) == 0


def test_low_precision_logits_are_summed_in_float32():
    coarse = tf.cast(LOGITS, tf.bfloat16)
    labels = tf.constant(LABELS, tf.int32)
    for name in objectives.names():
        found = objectives.get(name)(coarse, labels)
        assert found.dtype == tf.float32
        assert np.allclose(found, objectives.get(name)(tf.cast(coarse, tf.float32), labels))


@pytest.mark.parametrize("name", ["cross_entropy", "margin", "dlr"])
def test_gradients_against_differences(name):
    loss, labels = objectives.get(name), tf.constant(LABELS[:3], tf.int32)
    z = tf.constant(LOGITS[:3])
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = tf.reduce_sum(loss(z, labels))
    gradient = tape.gradient(value, z).numpy()
    for place in np.ndindex(3, 6):
        step = np.zeros((3, 6))
        step[place] = 1e-6
        difference = tf.reduce_sum(loss(z + step, labels)) - tf.reduce_sum(loss(z - step, labels))
        assert gradient[place] == pytest.approx(float(difference) / 2e-6, abs=1e-6)


def test_an_unknown_objective_names_the_known_ones():
    with pytest.raises(ValueError, match="cross_entropy, margin, dlr"):
        objectives.get("hinge")


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
