"""Planar arithmetic: warps against Pillow and against a plain loop, and the choice of examples."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fairat_tf.augment import planes as pl


def random_images(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def warp(images: np.ndarray, matrix: object, **options: object) -> np.ndarray:
    size = images.shape[1:3]
    planes = pl.warp(pl.to_planes(tf.constant(images)), size, tf.constant(matrix, tf.float32), **options)
    return pl.from_planes(planes, size).numpy()


def test_planes_and_back() -> None:
    images = random_images((2, 3, 5, 3))
    planes = pl.to_planes(tf.constant(images))
    np.testing.assert_array_equal(planes[1, 2].numpy(), images[1, :, :, 2].ravel())
    np.testing.assert_array_equal(pl.from_planes(planes, (3, 5)).numpy(), images)


def test_bilinear_by_hand() -> None:
    # Each pixel shows the point 0.25 to its right: 0.75 own + 0.25 next; the last meets the fill value 1.
    row = np.array([0.0, 0.4, 0.8], np.float32).reshape(1, 1, 3, 1)
    got = warp(row, [[[1, 0, 0.25], [0, 1, 0]]], bilinear=True, fill=1.0)
    np.testing.assert_allclose(got.ravel(), [0.1, 0.5, 0.85], atol=1e-6)


def test_bilinear_equals_a_plain_loop() -> None:
    images = random_images((2, 6, 7, 3))
    matrix = np.array([[[0.9, -0.3, 1.2], [0.25, 1.1, -0.8]], [[1, 0.4, -1.3], [0, 0.7, 0.6]]])
    expected = np.zeros_like(images)
    for b, i, j in np.ndindex(2, 6, 7):
        x, y = matrix[b] @ [j + 0.5, i + 0.5, 1] - 0.5
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                inside = 0 <= row < 6 and 0 <= column < 7
                value = images[b, row, column] if inside else 0.5
                expected[b, i, j] += (1 - abs(y - row)) * (1 - abs(x - column)) * value
    # Within 1e-4 of a pixel two source positions count as one, and values differ by up to 1 per pixel.
    np.testing.assert_allclose(warp(images, matrix, bilinear=True, fill=0.5), expected, atol=3e-4)


def test_whole_moves_are_exact_when_bilinear() -> None:
    images = random_images((1, 4, 5, 3))
    got = warp(images, [[[1, 0, 2], [0, 1, -1]]], bilinear=True)
    expected = np.zeros_like(images)
    expected[:, 1:, :3] = images[:, :3, 2:]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("seed", range(4))
def test_nearest_equals_pillow(seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(1, 256, (24, 30), dtype=np.uint8)
    matrix = np.eye(2, 3) + random.uniform(-0.4, 0.4, (2, 3)) * [1, 1, 10]
    expected = Image.fromarray(pixels).transform((30, 24), Image.AFFINE, matrix.ravel(), Image.NEAREST)
    got = np.rint(warp(pixels[None, :, :, None].astype(np.float32), matrix[None])[0, :, :, 0])
    assert np.mean(got != np.asarray(expected)) <= 0.003, "Pillow counts in 1/65536 of a pixel"


@pytest.mark.parametrize("count", [0, 1, 16, 17, 40])
def test_on_chosen(count: int) -> None:
    """The function sees each chosen row with its own numbers; other rows stay bit for bit."""
    random = np.random.default_rng(count)
    planes = random.random((40, 1, 3), np.float32)
    chosen = np.zeros(40, bool)
    chosen[random.permutation(40)[:count]] = True
    add = np.arange(40, dtype=np.float32)
    got = pl.on_chosen(
        tf.constant(planes), tf.constant(chosen), lambda p, a: p + a[:, None, None], tf.constant(add)
    )
    np.testing.assert_array_equal(
        got.numpy(), np.where(chosen[:, None, None], planes + add[:, None, None], planes)
    )


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
