"""Arithmetic on planar images [B, C, H * W], the layout in which per-example factors broadcast fast.

planes = to_planes(images)
planes = warp(planes, (32, 32), matrix)                 # rotations, shears, moves
planes = blend(planes, luminance(planes), factor)       # saturation
images = from_planes(planes, (32, 32))
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Two source positions that differ by rounding alone must fall on the same pixel.
_TIE = 1e-4
_GROUP = 16


def to_planes(images: tf.Tensor) -> tf.Tensor:
    """Returns [B, C, H * W] for images [B, H, W, C]."""
    channels = images.shape[3]
    return tf.transpose(tf.reshape(images, [-1, images.shape[1] * images.shape[2], channels]), [0, 2, 1])


def from_planes(planes: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Returns images [B, H, W, C] for planes [B, C, H * W]."""
    return tf.reshape(tf.transpose(planes, [0, 2, 1]), [-1, *size, planes.shape[1]])


def on_chosen(
    planes: tf.Tensor, chosen: tf.Tensor, function: Callable[..., tf.Tensor], *per_example: tf.Tensor
) -> tf.Tensor:
    """Returns `planes` with the chosen examples replaced by `function(planes, *per_example)` of them.

    The examples are taken in groups of fixed size, so shapes are static and the time follows from how
    many are chosen.

    Args:
      planes: float32 [B, C, P].
      chosen: bool [B].
      function: called with some rows of `planes` and of `per_example`, and returns the new rows; works
        on each row alone. It sees rows that are not chosen, too, to fill up the last group.
      *per_example: tensors [B, ...] that go with the examples.
    """
    size = tf.shape(planes)[0] if planes.shape[0] is None else planes.shape[0]
    order = tf.argsort(tf.cast(chosen, tf.int32), direction="DESCENDING", stable=True)
    count = tf.reduce_sum(tf.cast(chosen, tf.int32))

    def replace(start: tf.Tensor, whole: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.gather(order, tf.minimum(start + tf.range(_GROUP), size - 1))
        part = tf.gather(whole, rows)
        new = function(part, *(tf.gather(values, rows) for values in per_example))
        new = tf.where(tf.gather(chosen, rows)[:, None, None], new, part)
        return start + _GROUP, tf.tensor_scatter_nd_update(whole, rows[:, None], new)

    _, planes = tf.while_loop(lambda start, _: start < count, replace, (0, planes))
    return planes


def warp(
    planes: tf.Tensor, size: tuple[int, int], matrix: tf.Tensor, bilinear: bool = False, fill: float = 0.0
) -> tf.Tensor:
    """Returns planes resampled by an affine map, as a gather.

    Args:
      planes: float32 [B, C, H * W].
      size: (H, W).
      matrix: float32 [B, 2, 3]; the result's pixel with centre (x, y) = (column + 0.5, row + 0.5) shows
        the input's point matrix @ (x, y, 1).
      bilinear: interpolate between the four nearest pixels; otherwise take the pixel that holds the point
        (of two, the one to the right or below).
      fill: the value outside the image.
    """
    x, y = _source(size, matrix)
    if not bilinear:
        return _take(planes, size, _whole(x), _whole(y), fill)
    left, top = _whole(x - 0.5), _whole(y - 0.5)
    right_share = tf.clip_by_value(x - 0.5 - tf.cast(left, tf.float32), 0.0, 1.0)[:, None]
    lower_share = tf.clip_by_value(y - 0.5 - tf.cast(top, tf.float32), 0.0, 1.0)[:, None]
    upper = _between(planes, size, left, top, right_share, fill)
    lower = _between(planes, size, left, top + 1, right_share, fill)
    return upper + lower_share * (lower - upper)


def _source(size: tuple[int, int], matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    height, width = size
    x = np.tile(np.arange(width, dtype=np.float32) + 0.5, height)[None]
    y = np.repeat(np.arange(height, dtype=np.float32) + 0.5, width)[None]
    row = [matrix[:, 0, i : i + 1] for i in range(3)]
    column = [matrix[:, 1, i : i + 1] for i in range(3)]
    return row[0] * x + row[1] * y + row[2], column[0] * x + column[1] * y + column[2]


def _whole(position: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.floor(position + _TIE), tf.int32)


def _between(
    planes: tf.Tensor, size: tuple[int, int], left: tf.Tensor, row: tf.Tensor, share: tf.Tensor, fill: float
) -> tf.Tensor:
    first, second = _take(planes, size, left, row, fill), _take(planes, size, left + 1, row, fill)
    return first + share * (second - first)


def _take(
    planes: tf.Tensor, size: tuple[int, int], column: tf.Tensor, row: tf.Tensor, fill: float
) -> tf.Tensor:
    """Returns planes[b, c, row * W + column] for row, column int32 [B, H * W]; `fill` outside."""
    height, width = size
    pixels = height * width
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = tf.where(inside, row * width + column, pixels)
    padded = tf.pad(planes, [[0, 0], [0, 0], [0, 1]], constant_values=fill)
    plane = tf.reshape(tf.range(tf.size(padded) // (pixels + 1)), [-1, planes.shape[1], 1])
    return tf.gather(tf.reshape(padded, [-1]), index[:, None, :] + plane * (pixels + 1))


def luminance(planes: tf.Tensor) -> tf.Tensor:
    """Returns ITU-R 601 luma 0.299 R + 0.587 G + 0.114 B as [B, C, H * W]; grey images are their own."""
    if planes.shape[1] == 1:
        return planes
    grey = 0.299 * planes[:, :1] + 0.587 * planes[:, 1:2] + 0.114 * planes[:, 2:]
    return tf.tile(grey, [1, 3, 1])


def smooth(planes: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Returns the 3 x 3 mean with weights (1 1 1; 1 5 1; 1 1 1) / 13; border pixels stay as they are."""
    height, width = size
    if height < 3 or width < 3:
        return planes
    columns = planes[:, :, : -2 * width] + planes[:, :, width:-width] + planes[:, :, 2 * width :]
    block = tf.pad(
        columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:], [[0, 0], [0, 0], [width + 1] * 2]
    )
    interior = np.zeros((height, width), np.float32)
    interior[1:-1, 1:-1] = 1 / 13
    return planes + (block - 9.0 * planes) * interior.reshape(1, 1, -1)


def blend(planes: tf.Tensor, other: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Returns other + factor * (planes - other), cut to [0, 1]; `factor` is float32 [B, 1, 1]."""
    return tf.clip_by_value(factor * planes + (1.0 - factor) * other, 0.0, 1.0)


def levels(planes: tf.Tensor) -> tf.Tensor:
    """Returns the nearest of the 256 levels, int32 in [0, 255], for values in [0, 1]."""
    return tf.cast(planes * 255.0 + 0.5, tf.int32)


def equalizing_table(level: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the tables that flatten the histogram of each channel.

    With N pixels of which n_last have the brightest level present, step = (N - n_last) // 255, and level
    i becomes min(255, (step // 2 + number of pixels below i) // step), in whole numbers, as in Pillow's
    ImageOps.equalize. A channel with step 0 is not to be changed.

    Args:
      level: int32 [B, C, H * W] in [0, 255].

    Returns:
      (table float32 [B, C, 256] in [0, 255], changed bool [B, C, 1]).
    """
    channels, pixels = level.shape[1:]
    plane = tf.reshape(tf.range(tf.size(level) // pixels), [-1, channels, 1])
    bins = tf.size(level) // pixels * 256
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(tf.reshape(level, [-1])), tf.reshape(level + plane * 256, [-1]), bins
    )
    counts = tf.reshape(counts, [-1, channels, 256])
    below = tf.cumsum(counts, axis=2, exclusive=True)
    brightest = tf.reduce_max(level, axis=2, keepdims=True)
    last = tf.gather(counts, brightest, batch_dims=2)
    step = (pixels - last) // 255
    table = tf.minimum(tf.truncatediv(step // 2 + below, tf.maximum(step, 1)), 255)
    return tf.cast(table, tf.float32), step > 0


def look_up(table: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Returns table[b, c, level[b, c, p]] for table [B, C, 256] and level int32 [B, C, P]."""
    channels = level.shape[1]
    plane = tf.reshape(tf.range(tf.size(table) // 256), [-1, channels, 1])
    return tf.gather(tf.reshape(table, [-1]), level + plane * 256)
