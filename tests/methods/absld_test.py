"""ABSLD: temperatures by loops and their schedule, the step at class temperatures in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.methods.absld import moved
from tests.methods import oracle

ADVERSARIAL, NATURAL = np.array([0.5, 1.4, 3.0]), np.array([2.0, 0.8, 1.0])
LOGITS = oracle.flat(oracle.IMAGES) @ oracle.TEACHER.astype(np.float64)


def labels_at(temperatures):
    return oracle.softmax(LOGITS / temperatures[oracle.LABELS][:, None])


def tempered(**options):
    method = oracle.linear_method("absld", **options)
    method.adversarial_temperature.assign(ADVERSARIAL)
    method.natural_temperature.assign(NATURAL)
    return method


def test_step_equals_closed_form():
    rows = [
        *oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), labels_at(ADVERSARIAL), 0.7),
        *oracle.cross_entropy_rows(oracle.KERNEL, oracle.IMAGES, labels_at(NATURAL), 0.3),
    ]
    method = tempered(distill_adversarial=0.7)
    oracle.check_step(method, rows)
    logits = oracle.flat(oracle.shifted()) @ oracle.KERNEL
    found = method.attack.given[-1](tf.constant(logits, tf.float32), None)
    expected = oracle.divergence(labels_at(ADVERSARIAL), oracle.softmax(logits))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_losses_of_the_epoch_are_the_students_on_both_views():
    method = tempered()
    method.train_step(oracle.batch())
    for images, metric in ((oracle.shifted(), method.adversarial_loss), (oracle.IMAGES, method.natural_loss)):
        p = oracle.softmax(oracle.flat(images) @ oracle.KERNEL)
        loss = -np.log(p[np.arange(oracle.SIZE), oracle.LABELS])
        expected = [loss[k == oracle.LABELS].mean() for k in range(3)]
        np.testing.assert_allclose(metric.per_class(), expected, rtol=1e-5)


def by_loops(temperatures, losses, rate):
    mean = sum(losses) / len(losses)
    largest = max(abs(loss - mean) for loss in losses)
    pairs = zip(temperatures, losses, strict=True)
    return [min(max(t - rate * (loss - mean) / largest, 0.5), 5.0) for t, loss in pairs]


def test_temperatures_of_two_epochs_by_loops():
    method = oracle.linear_method("absld", absld_rate=0.3, epochs=10)
    epochs = [(np.array([1.0, 2.5, 1.2]), np.array([0.2, 0.1, 0.9]))] * 2
    adversarial, natural = [1.0] * 3, [1.0] * 3
    for epoch, (attacked, plain) in enumerate(epochs):
        values = {"robust": np.ones(3), "adversarial_cross_entropy": attacked, "natural_cross_entropy": plain}
        method.on_epoch_end(epoch, values, {})
        adversarial, natural = by_loops(adversarial, attacked, 0.3), by_loops(natural, plain, 0.3)
    np.testing.assert_allclose(oracle.value(method.adversarial_temperature), adversarial, rtol=1e-6)
    np.testing.assert_allclose(oracle.value(method.natural_temperature), natural, rtol=1e-6)
    assert adversarial[1] == 0.5 and max(adversarial) > 1  # the hardest class has the sharpest labels


@pytest.mark.parametrize("epoch, factor", [(5, 1.0), (6, 0.1), (8, 0.01), (9, 0.001)])
def test_the_rate_falls_at_the_shares_of_the_run(epoch, factor):
    method = oracle.linear_method("absld", absld_rate=0.4, epochs=10)
    losses = np.array([1.0, 2.0, 3.0])
    values = {"robust": np.ones(3), "adversarial_cross_entropy": losses, "natural_cross_entropy": losses}
    method.on_epoch_end(epoch, values, {})
    expected = [1 + 0.4 * factor, 1.0, 1 - 0.4 * factor]
    np.testing.assert_allclose(oracle.value(method.adversarial_temperature), expected, rtol=1e-6)


def test_equal_losses_and_absent_classes_move_nothing():
    np.testing.assert_array_equal(moved(np.ones(3), np.full(3, 0.7), 0.1), np.ones(3))
    np.testing.assert_allclose(moved(np.ones(3), np.array([1.0, np.nan, 3.0]), 0.1), [1.1, 1.0, 0.9])


def test_rate_zero_is_rslad():
    method = oracle.linear_method("absld", absld_rate=0.0)
    losses = np.array([1.0, 2.0, 3.0])
    values = {"robust": np.ones(3), "adversarial_cross_entropy": losses, "natural_cross_entropy": losses}
    method.on_epoch_end(0, values, {})
    oracle.check_step(method, oracle.rslad_rows(5 / 6))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
