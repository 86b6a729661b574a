"""Flips, crops and shifts by whole pixels, each as one gather.

    images = CropFlip(pad=4)(images, seed)

`shift` holds the arithmetic; the classes only draw its numbers.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment.base import Augmentation, Parameters, batch_size_of, image_shape_of


def take_pixels(
    images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, inside: tf.Tensor | None = None
) -> tf.Tensor:
    """Returns `images[b, rows[b, i], columns[b, j]]`, zero where that lies outside the image.

    Args:
      images: float32 [B, H, W, C].
      rows: int32 [B, H], any value.
      columns: int32 [B, W], any value.
      inside: optional bool [B, H, W]; pixels where it is False become zero, too.

    Returns:
      float32 [B, H, W, C].
    """
    height, width, channels = image_shape_of(images)
    batch = batch_size_of(images)
    row_start = tf.clip_by_value(rows, 0, height - 1) + tf.range(batch)[:, None] * height
    column_start = tf.clip_by_value(columns, 0, width - 1)[:, :, None] * channels + tf.range(channels)
    within = tf.reshape(column_start, [batch, 1, width * channels])
    taken = tf.gather(tf.reshape(images, [-1]), row_start[:, :, None] * (width * channels) + within)
    keep_row = (rows >= 0) & (rows < height)
    keep_column = tf.repeat((columns >= 0) & (columns < width), channels, axis=1)
    keep = keep_row[:, :, None] & keep_column[:, None, :]
    if inside is not None:
        keep &= tf.repeat(inside, channels, axis=2)
    return tf.reshape(tf.where(keep, taken, tf.zeros_like(taken)), [batch, height, width, channels])


def shift(images: tf.Tensor, offset: tf.Tensor, mirror: tf.Tensor) -> tf.Tensor:
    """Returns images moved by whole pixels over a black ground, then mirrored.

    Args:
      images: float32 [B, H, W, C].
      offset: int32 [B, 2]; the result's pixel (i, j) is the input's (i + offset[0], j + offset[1]).
      mirror: int32 [B]; 1 mirrors left and right after the move, 0 does not.
    """
    height, width, _ = image_shape_of(images)
    columns = tf.range(width)[None]
    columns = tf.where(mirror[:, None] == 1, width - 1 - columns, columns)
    return take_pixels(images, tf.range(height)[None] + offset[:, :1], columns + offset[:, 1:])


def draw_below(unit: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
    """Returns int32 uniform in [0, bound), for `unit` uniform in [0, 1) and int32 `bound` up to 2**23."""
    return tf.cast(tf.floor(unit * tf.cast(bound, tf.float32)), tf.int32)


@dataclasses.dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors left and right with probability 1/2."""

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `mirror` int32 [B] in {0, 1}."""
        return {"mirror": rng.integers(rng.fold(seed, "mirror"), [batch_size], 2)}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images, mirrored where `mirror` is 1."""
        flat = [tf.shape(images)[0], -1]
        mirrored = tf.reshape(tf.reverse(images, [2]), flat)
        chosen = tf.where(parameters["mirror"][:, None] == 1, mirrored, tf.reshape(images, flat))
        return tf.reshape(chosen, [-1, *image_shape_of(images)])


@dataclasses.dataclass(frozen=True)
class Crop(Augmentation):
    """Pads by `pad` black pixels on all sides and crops the old size at a uniform place.

    The usual CIFAR augmentation, without its flip; each example has its own place.

    Raises:
      ValueError: `pad` below 0 or above 1000.
    """

    pad: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.pad <= 1000:
            raise ValueError(f"Crop padding must be between 0 and 1000 pixels; received pad={self.pad}.")

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `offset` int32 [B, 2] (rows, columns), uniform in [-pad, pad]."""
        place = rng.integers(rng.fold(seed, "offset"), [batch_size, 2], 2 * self.pad + 1)
        return {"offset": place - self.pad}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images moved by `offset`."""
        offset = parameters["offset"]
        return shift(images, offset, tf.zeros_like(offset[:, 0]))


@dataclasses.dataclass(frozen=True)
class CropFlip(Augmentation):
    """`Crop`, then `Flip`, in one gather: the standard augmentation of adversarial training on CIFAR."""

    pad: int = 4

    def __post_init__(self) -> None:
        Crop(self.pad)

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `offset` int32 [B, 2] and `mirror` int32 [B], as `Crop` and `Flip` draw them."""
        return Crop(self.pad).draw(seed, batch_size, image_shape) | Flip().draw(seed, batch_size, image_shape)

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images moved by `offset`, then mirrored where `mirror` is 1."""
        return shift(images, parameters["offset"], parameters["mirror"])


@dataclasses.dataclass(frozen=True)
class CropShift(Augmentation):
    """Cuts a window out and pastes it at another place on a black ground.

    Li and Spratling, "Data Augmentation Alone Can Improve Adversarial Training" (ICLR 2023), section 4:
    strength s is uniform in {low, ..., high}; x lines are lost horizontally, uniform in {0, ..., s}, and
    y = s - x vertically; the window's place and the place of pasting are independent and uniform. The
    authors' code excludes its upper bound: their CropShift(0, 11) is CropShift(low=0, high=10) here.

    Raises:
      ValueError: not 0 <= low <= high.
    """

    low: int = 0
    high: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"CropShift needs 0 <= low <= high; received low={self.low}, high={self.high}.")

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `lost`, `crop` and `paste`, int32 [B, 2] (rows, columns).

        `lost`: lines that the window lacks; `crop`: its upper left corner in the image; `paste`: that
        corner in the result. An image of fewer lines than are to be lost loses all of them.
        """
        spread = rng.integers(rng.fold(seed, "strength"), [batch_size], self.high - self.low + 1)
        unit = rng.uniform(rng.fold(seed, "place"), [batch_size, 5])
        strength = spread + self.low
        columns = draw_below(unit[:, 0], strength + 1)
        lost = tf.minimum(tf.stack([strength - columns, columns], 1), image_shape[:2])
        crop, paste = draw_below(unit[:, 1:3], lost + 1), draw_below(unit[:, 3:5], lost + 1)
        return {"lost": lost, "crop": crop, "paste": paste}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the pasted windows."""
        height, width, _ = image_shape_of(images)
        lost, crop, paste = parameters["lost"], parameters["crop"], parameters["paste"]
        row, column = tf.range(height)[None] - paste[:, :1], tf.range(width)[None] - paste[:, 1:]
        rows_in = (row >= 0) & (row < height - lost[:, :1])
        columns_in = (column >= 0) & (column < width - lost[:, 1:])
        inside = rows_in[:, :, None] & columns_in[:, None, :]
        return take_pixels(images, row + crop[:, :1], column + crop[:, 1:], inside)
