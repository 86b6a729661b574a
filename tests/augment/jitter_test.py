"""Colour jitter: a pixel by hand, Pillow as oracle, the range of factors, grey images."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from fairat_tf import rng
from fairat_tf.augment.jitter import ColorJitter


def apply(pixels: np.ndarray, factor: list[float]) -> np.ndarray:
    return (
        ColorJitter()
        .apply(tf.constant(pixels[None], tf.float32), {"factor": tf.constant([factor])})
        .numpy()[0]
    )


def test_one_pixel_by_hand() -> None:
    pixels = np.array([[[0.2, 0.4, 0.6]]], np.float32)
    np.testing.assert_allclose(apply(pixels, [2.0, 1.0, 1.0]), [[[0.4, 0.8, 1.0]]], atol=1e-6)
    luma = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    np.testing.assert_allclose(apply(pixels, [1.0, 0.0, 1.0]), [[[luma] * 3]], atol=1e-6)
    np.testing.assert_allclose(apply(pixels, [1.0, 1.0, 0.0]), [[[luma] * 3]], atol=1e-6)


def test_brightness_contrast_saturation_in_this_order() -> None:
    """Equal to Pillow's three enhancers after one another, within its rounding after each."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(20, 200, (4, 4, 3), dtype=np.uint8)).resize(
        (24, 18), Image.BICUBIC
    )
    expected = ImageEnhance.Brightness(image).enhance(1.4)
    expected = ImageEnhance.Contrast(expected).enhance(1.3)
    expected = ImageEnhance.Color(expected).enhance(0.5)
    got = apply(np.asarray(image) / 255, [1.4, 1.3, 0.5]) * 255
    np.testing.assert_allclose(got, np.asarray(expected, np.float32), atol=3.5)


def test_grey_images_have_no_saturation() -> None:
    pixels = np.random.default_rng(0).random((5, 6, 1), np.float32)
    np.testing.assert_array_equal(apply(pixels, [1.0, 1.0, 0.1]), pixels)


def test_factors_are_uniform() -> None:
    factor = ColorJitter(0.4, 0.2, 1.5).draw(rng.key(0, "test"), 20000, (8, 8, 3))["factor"].numpy()
    for column, low, high in ((0, 0.6, 1.4), (1, 0.8, 1.2), (2, 0.0, 2.5)):  # 1.5: from 0, as torchvision
        counts, _ = np.histogram(factor[:, column], 8, (low, high))
        assert counts.sum() == 20000
        assert np.abs(counts - 2500).max() < 5 * np.sqrt(2500)
    assert np.abs(np.corrcoef(factor.T) - np.eye(3)).max() < 0.04


def test_negative_strength() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        ColorJitter(contrast=-0.1)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
