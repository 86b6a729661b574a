"""Checks and conversions of pixels that several sources need.

pixels = to_uint8(np.random.default_rng(0).random((8, 28, 28)), "my.npz train_images")
"""

from typing import Any

import numpy as np

from fairat_tf.data.dataset import DataError


def to_uint8(pixels: np.ndarray, where: str) -> np.ndarray:
    """Returns images as uint8 [N, H, W, C].

    Args:
      pixels: uint8, or floats in [0, 1] (rounded to 8 bits); [N, H, W] (grey) or [N, H, W, C], C 1 or 3.
      where: what the pixels are, for messages.

    Raises:
      DataError: another type or shape, pixels that are not finite or outside [0, 1].
    """
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        raise DataError(f"{where}: expected images [N, H, W, 1 or 3], received shape {list(pixels.shape)}.")
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"{where}: expected uint8 or floats in [0, 1], received {pixels.dtype}; convert it.")
    if not np.isfinite(pixels).all():
        row = int(np.flatnonzero(~np.isfinite(pixels).all(axis=(1, 2, 3)))[0])
        raise DataError(f"{where}: pixels of image {row} are not finite (NaN or infinite); correct the file.")
    if pixels.size and (pixels.min() < 0 or pixels.max() > 1):
        low, high = float(pixels.min()), float(pixels.max())
        raise DataError(
            f"{where}: expected float pixels in [0, 1], received [{low:g}, {high:g}]; divide, or use uint8."
        )
    return np.rint(pixels * 255).astype(np.uint8)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Returns one image uint8 [H, W, C] as [size, size, C]; sides of different length are stretched.

    By area where both sides shrink, otherwise bilinear with antialiasing.
    """
    import tensorflow as tf

    if image.shape[:2] == (size, size):
        return image
    with tf.device("CPU:0"):
        return resized(tf.constant(image), size).numpy()


def resized(image: Any, size: int) -> Any:
    """As `resize`, for a tensor uint8 [H, W, C] inside tf.data; sizes may be known only at run time."""
    import tensorflow as tf

    pixels = tf.cast(image, tf.float32)

    def by_area() -> tf.Tensor:
        return tf.image.resize(pixels, [size, size], method="area")

    def bilinear() -> tf.Tensor:
        return tf.image.resize(pixels, [size, size], method="bilinear", antialias=True)

    shrinks = tf.reduce_min(tf.shape(pixels)[:2]) >= size
    return tf.cast(tf.clip_by_value(tf.round(tf.cond(shrinks, by_area, bilinear)), 0, 255), tf.uint8)
