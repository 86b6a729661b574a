"""An attack cannot lie: what it returns is projected, checked and classified again."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.attacks import verification


def threshold(points):
    """Class 1 where the mean pixel is above 0.5."""
    z = tf.reduce_mean(points, [1, 2, 3]) - 0.5
    return tf.stack([-z, z], 1)


def dots(*values):
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


def test_a_point_outside_the_ball_is_brought_back_before_it_is_judged():
    images, labels = dots(0.45, 0.45, 0.0), np.zeros(3, np.int32)
    checked = verification.verify(threshold, images, dots(0.9, 0.5001, -3.0), labels, 0.1)
    assert np.allclose(checked.adversarial.ravel(), [0.55, 0.5001, 0.0])
    assert checked.fooled.tolist() == [True, True, False]
    assert np.allclose(checked.distance, [0.1, 0.0501, 0.0], atol=1e-6)
    # 0.9 is misclassified, but within 0.04 of the image nothing is.
    assert not verification.verify(threshold, images, dots(0.9, 0.9, 0.9), labels, 0.04).fooled.any()


def test_values_that_are_not_finite_count_as_no_attack():
    images, labels = dots(0.45, 0.45, 0.45), np.zeros(3, np.int32)
    checked = verification.verify(threshold, images, dots(np.nan, np.inf, 0.52), labels, 0.1)
    assert checked.finite.tolist() == [False, False, True] and checked.fooled.tolist() == [False, False, True]
    assert np.array_equal(checked.adversarial[:2], images[:2])


def test_each_example_has_its_own_radius_and_l2_is_euclidean():
    images = np.full((2, 1, 2, 1), 0.5, np.float32)
    moved = np.array([[0.8, 0.9], [0.8, 0.9]], np.float32).reshape(2, 1, 2, 1)
    checked = verification.verify(threshold, images, moved, np.ones(2, np.int32), np.array([0.25, 1.0]), "l2")
    assert np.allclose(checked.adversarial.reshape(2, 2), [[0.65, 0.7], [0.8, 0.9]], atol=1e-6)
    assert np.allclose(checked.distance, [0.25, 0.5], atol=1e-6)


def test_verdict_does_not_depend_on_how_many_are_judged_together(network, images):
    many = np.tile(images, (6, 1, 1, 1))[:130]
    verifier = verification.Verifier(network, "linf")
    together = verifier.logits(many)
    alone = np.concatenate([verifier.logits(many[n : n + 1]) for n in range(0, 130, 13)])
    assert np.array_equal(together[::13], alone)


def test_images_outside_0_and_1_are_an_error():
    with pytest.raises(RuntimeError, match="outside"):
        verification.verify(threshold, dots(1.8), dots(1.8), np.zeros(1, np.int32), 0.1)


def test_precision_is_read_from_the_graph(network):
    assert verification.require_precision(network, (8, 8, 3), ()) == 10
    coarse = tf.function(lambda x: tf.cast(tf.cast(network(x), tf.bfloat16), tf.float32))
    assert verification.require_precision(coarse, (8, 8, 3), ("bfloat16",)) == 10
    with pytest.raises(ValueError, match="bfloat16"):
        verification.require_precision(coarse, (8, 8, 3), ())
    with pytest.raises(ValueError, match=r"\[B, K\]"):
        verification.require_precision(lambda x: x, (8, 8, 3), ())


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
