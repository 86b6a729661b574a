"""Black rectangles: Cutout and Random Erasing.

images = Cutout(size=16)(images, seed)
"""

import dataclasses
import math
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment.base import Augmentation, Parameters, batch_size_of, image_shape_of
from fairat_tf.augment.crop import draw_below

_ATTEMPTS = 10


def in_box(box: tf.Tensor, height: int, width: int, channels: int) -> tf.Tensor:
    """Returns bool [B, height, width, channels], True inside the boxes.

    Args:
      box: int32 [B, 4]: top, left, height, width in pixels; it may reach beyond the image.
    """
    # Not box[:, i, None]: where box is a tf.stack, the graph optimiser loses the new axis (TensorFlow 2.21).
    top, left, rows, columns = (box[:, i : i + 1] for i in range(4))
    y, x = tf.range(height)[None], tf.repeat(tf.range(width), channels)[None]
    inside = ((y >= top) & (y < top + rows))[:, :, None] & ((x >= left) & (x < left + columns))[:, None, :]
    return tf.reshape(inside, [-1, height, width, channels])


def erase(images: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """Returns float32 images [B, H, W, C] that are 0 inside `box` (int32 [B, 4], see `in_box`)."""
    return tf.where(in_box(box, *image_shape_of(images)), tf.zeros_like(images), images)


@dataclasses.dataclass(frozen=True)
class Cutout(Augmentation):
    """Blackens a square of `size` pixels whose centre is uniform over the image; it is cut at the border.

    DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout" (2017),
    section 3. The square covers `size` lines from centre - size // 2 on, for odd sizes too (where the
    authors' code covers size - 1).

    Raises:
      ValueError: `size` below 1.
    """

    size: int = 16

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"Cutout size must be at least 1 pixel; received size={self.size}.")

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `centre` int32 [B, 2] (row, column)."""
        height, width, _ = image_shape
        rows = rng.integers(rng.fold(seed, "row"), [batch_size], height)
        columns = rng.integers(rng.fold(seed, "column"), [batch_size], width)
        return {"centre": tf.stack([rows, columns], 1)}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images with the square around `centre` black."""
        corner = parameters["centre"] - self.size // 2
        size = tf.fill([batch_size_of(images), 2], self.size)
        return erase(images, tf.concat([corner, size], 1))


@dataclasses.dataclass(frozen=True)
class RandomErasing(Augmentation):
    """Blackens, with some probability, a rectangle of random area and aspect ratio.

    Zhong et al., "Random Erasing Data Augmentation" (AAAI 2020), algorithm 1, with torchvision's
    constants: the area is uniform in [smallest, largest] of the image, the logarithm of height / width
    is uniform in [log 0.3, log 3.3], the place is uniform; a rectangle that is not smaller than the image
    in both directions is drawn again, up to ten times, and then there is none. Erases with 0.

    Raises:
      ValueError: a probability outside [0, 1], or not 0 < smallest <= largest <= 1.
    """

    probability: float = 0.5
    smallest: float = 0.02
    largest: float = 0.33

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 0 < self.smallest <= self.largest <= 1:
            raise ValueError(
                "Random erasing needs a probability in [0, 1] and 0 < smallest <= largest <= 1; received "
                f"probability={self.probability}, smallest={self.smallest}, largest={self.largest}."
            )

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `box` int32 [B, 4] (top, left, height, width); height and width 0 erase nothing."""
        height, width, _ = image_shape
        shapes = (batch_size, _ATTEMPTS)
        area = rng.uniform(rng.fold(seed, "area"), shapes, self.smallest, self.largest) * (height * width)
        ratio = tf.exp(rng.uniform(rng.fold(seed, "ratio"), shapes, math.log(0.3), math.log(3.3)))
        rows, columns = tf.round(tf.sqrt(area * ratio)), tf.round(tf.sqrt(area / ratio))
        fits = (rows < height) & (columns < width)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1, output_type=tf.int32)
        size = tf.gather(tf.cast(tf.stack([rows, columns], 2), tf.int32), first, batch_dims=1)
        unit = rng.uniform(rng.fold(seed, "place"), [batch_size, 3])
        erased = tf.reduce_any(fits, 1) & (unit[:, 2] < self.probability)
        corner = draw_below(unit[:, :2], tf.constant([height, width]) - size + 1)
        return {"box": tf.where(erased[:, None], tf.concat([corner, size], 1), 0)}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images with `box` black."""
        return erase(images, parameters["box"])
