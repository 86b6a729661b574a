"""MixUp and CutMix: mixtures by hand, labels that follow the pixels, and the distributions of the draws."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import augment, rng
from fairat_tf.augment import mixing

SHAPE = (32, 32, 3)


def test_mixup_by_hand() -> None:
    images = tf.reshape(tf.constant([0.0, 0.5, 1.0]), [3, 1, 1, 1])
    parameters = {"partner": tf.constant([2, 0, 1]), "share": tf.constant([0.75, 0.5, 1.0])}
    mixed, labels = mixing.MixUp().apply(images, tf.eye(3), parameters)
    np.testing.assert_allclose(mixed.numpy().ravel(), [0.25, 0.25, 1.0])
    np.testing.assert_allclose(labels, [[0.75, 0, 0.25], [0.5, 0.5, 0], [0, 0, 1]])


def test_cutmix_by_hand() -> None:
    images = tf.constant([[[[0.1], [0.1]], [[0.1], [0.1]]], [[[0.9], [0.9]], [[0.9], [0.9]]]])
    parameters = {
        "partner": tf.constant([1, 0]),
        "box": tf.constant([[0, 1, 2, 1], [1, 1, 1, 1]]),
        "share": tf.constant([0.5, 0.75]),
    }
    mixed, labels = mixing.CutMix().apply(images, tf.eye(2), parameters)
    np.testing.assert_allclose(mixed.numpy()[..., 0], [[[0.1, 0.9], [0.1, 0.9]], [[0.9, 0.9], [0.9, 0.1]]])
    np.testing.assert_allclose(labels, [[0.5, 0.5], [0.25, 0.75]])


@pytest.mark.parametrize("name", augment.mix_names())
def test_labels_follow_the_pixels(name: str) -> None:
    """With image i all i / 10 and label i: the mean pixel is the mean of the label's values."""
    values = np.arange(8, dtype=np.float32) / 10
    images = tf.constant(np.broadcast_to(values[:, None, None, None], (8, 9, 7, 3)))
    mixed, labels = augment.get_mix(name)(images, tf.eye(8), rng.key(0, "test"))
    np.testing.assert_allclose(labels.numpy().sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(mixed.numpy().mean((1, 2, 3)), labels.numpy() @ values, atol=1e-5)
    assert np.all(labels.numpy().max(1) < 1.0 + 1e-6)
    assert np.any(labels.numpy().max(1) < 1.0)


@pytest.mark.parametrize("name", augment.mix_names())
@pytest.mark.parametrize("compiled", [False, True])
def test_graph_equals_eager(name: str, compiled: bool) -> None:
    images = tf.constant(np.random.default_rng(0).random((6, 9, 7, 3), np.float32))
    labels, seed, mix = tf.one_hot([0, 1, 2, 0, 1, 2], 3), rng.key(0, "test"), augment.get_mix(name)
    expected = mix(images, labels, seed)
    got = tf.function(lambda i, t, s: mix(i, t, s), jit_compile=compiled)(images, labels, seed)
    for want, have in zip(expected, got, strict=True):
        np.testing.assert_allclose(have, want, atol=1e-6)


def test_partner_is_a_uniform_permutation() -> None:
    counts = np.zeros((4, 4))
    draw = tf.function(lambda step: mixing.draw_partner(rng.key(0, "test", step), 4))
    for step in tf.range(800):
        partner = draw(step).numpy()
        assert sorted(partner) == [0, 1, 2, 3]
        counts[np.arange(4), partner] += 1
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_beta_moments(alpha: float) -> None:
    """Beta(a, a) has mean 1/2, variance 1 / (4 (2a + 1)) and is symmetric."""
    share = mixing.draw_beta(rng.key(0, "test"), 20000, alpha).numpy()
    assert share.min() >= 0
    assert share.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 5 * np.sqrt(variance / 20000)
    assert abs(share.var() / variance - 1) < 0.03
    assert abs(np.mean(share < 0.25) - np.mean(share > 0.75)) < 0.02


def test_beta_against_its_closed_form() -> None:
    """For a = 2 the distribution function is 3 x^2 - 2 x^3, which turns the draws back into uniform ones."""
    seed = rng.key(0, "test")
    share = mixing.draw_beta(seed, 1000, 2.0).numpy().astype(np.float64)
    uniform = mixing.draw_beta(seed, 1000, 1.0).numpy()
    np.testing.assert_allclose(3 * share**2 - 2 * share**3, uniform, atol=1e-5)


def test_cutmix_box_is_inside_and_gives_the_share() -> None:
    drawn = mixing.CutMix().draw(rng.key(0, "test"), 20000, SHAPE)
    box, share = drawn["box"].numpy(), drawn["share"].numpy()
    assert (box >= 0).all()
    assert (box[:, :2] + box[:, 2:] <= 32).all()
    np.testing.assert_allclose(share, 1 - box[:, 2] * box[:, 3] / 1024, atol=1e-6)
    # Unclipped boxes are square with side 32 sqrt(1 - s), P(side < 16) = P(s > 3/4) = 1/4.
    whole = box[(box[:, 0] > 0) & (box[:, 1] > 0) & (box[:, :2] + box[:, 2:] < 32).all(1)]
    assert (whole[:, 2] == whole[:, 3]).all()
    assert abs(np.mean(box[:, 2:].max(1) < 16) - 0.25) < 0.12


def test_wrong_labels_and_alpha() -> None:
    images = tf.zeros([2, 4, 4, 3])
    with pytest.raises(ValueError, match="one-hot"):
        mixing.MixUp()(images, tf.constant([0, 1]), rng.key(0, "test"))
    for make in (lambda: mixing.MixUp(0.0), lambda: mixing.CutMix(-1.0)):
        with pytest.raises(ValueError, match="alpha"):
            make()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
