"""What a method counts class by class, in validation and in training, by NumPy on a linear network."""

import numpy as np
import pytest
import tensorflow as tf

from tests import support
from tests.methods import oracle

ATTACK = oracle.Shift(-1.0)
NATURAL, ADVERSARIAL = oracle.IMAGES, oracle.shifted(-1.0)
MASK = np.array([1, 1, 1, 0, 1, 1.0])


def made(name="pgd_at", **options):
    return support.make_method(
        name, oracle.linear_network(), attack=ATTACK, num_examples=oracle.SIZE, **options
    )


def probabilities(images, kernel=oracle.KERNEL):
    return oracle.softmax(oracle.flat(images) @ kernel.astype(np.float64))


def confusion(images, mask=1.0, kernel=oracle.KERNEL):
    counts = np.zeros((oracle.CLASSES, oracle.CLASSES))
    np.add.at(counts, (oracle.LABELS, probabilities(images, kernel).argmax(1)), mask)
    return counts


def cross_entropy(images):
    return -np.log(probabilities(images)[np.arange(oracle.SIZE), oracle.LABELS])


def test_the_attack_changes_what_is_counted():
    assert (confusion(NATURAL, MASK) != confusion(ADVERSARIAL, MASK)).any()
    assert (confusion(NATURAL, MASK) != confusion(NATURAL)).any()


def test_validation_counts_clean_and_attacked_predictions_without_the_padding():
    method = made()
    method.test_step({**oracle.batch(), "mask": tf.constant(MASK, tf.float32)})
    np.testing.assert_array_equal(method.clean.matrix(), confusion(NATURAL, MASK))
    np.testing.assert_array_equal(method.robust.matrix(), confusion(ADVERSARIAL, MASK))


def test_validation_means_losses_and_entropy_by_class_without_the_padding():
    method = made()
    logs = method.test_step({**oracle.batch(), "mask": tf.constant(MASK, tf.float32)})
    p = probabilities(NATURAL)
    expected = {
        "clean_loss": cross_entropy(NATURAL),
        "robust_loss": cross_entropy(ADVERSARIAL),
        "entropy": -(p * np.log(p)).sum(1),
    }
    found = method.classwise(method.validation_metrics)
    for name, values in expected.items():
        by_class = [values[(MASK > 0) & (k == oracle.LABELS)].mean() for k in range(oracle.CLASSES)]
        np.testing.assert_allclose(found[name], by_class, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(float(logs[name]), values[MASK > 0].mean(), rtol=1e-5, err_msg=name)


def test_the_average_is_what_is_validated_where_there_is_one():
    method = made(ema_decay=0.5)
    method.network.set_weights([oracle.TEACHER])
    method.test_step(oracle.batch())
    assert (confusion(NATURAL) != confusion(NATURAL, kernel=oracle.TEACHER)).any()
    np.testing.assert_array_equal(method.clean.matrix(), confusion(NATURAL))
    np.testing.assert_array_equal(method.robust.matrix(), confusion(ADVERSARIAL))


@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart"])
def test_training_counts_the_attacked_predictions_of_the_weights_before_the_step(name):
    method = made(name, learning_rate=20.0)
    method.train_step(oracle.batch())
    moved = confusion(ADVERSARIAL, kernel=oracle.kernel(method))
    assert (confusion(ADVERSARIAL) != moved).any()
    np.testing.assert_array_equal(method.train_confusion.matrix(), confusion(ADVERSARIAL))
    method.train_step(oracle.batch())
    np.testing.assert_array_equal(method.train_confusion.matrix(), confusion(ADVERSARIAL) + moved)


def test_standard_training_counts_the_natural_predictions():
    method = made("standard")
    method.train_step(oracle.batch())
    np.testing.assert_array_equal(method.train_confusion.matrix(), confusion(NATURAL))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
