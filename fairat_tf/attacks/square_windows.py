"""Windows of the Square attack and the patterns that its L2 form puts into them.

    mask = window(uniform, side, height=32, width=32)         # bool [32, 32], one square of True
    change = placed(padded_pattern(7, 32, 32)[..., 0], mask)

Source: Andriushchenko et al., ECCV 2020, equations 2 and 3.
"""

import numpy as np
import tensorflow as tf


def window(uniform: tf.Tensor, side: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns a mask, bool [height, width], of a square whose corner is floor(uniform * (size - side)).

    The last row and column of corners are never drawn (unless there is one only), as in the authors' code.

    Args:
      uniform: two numbers in [0, 1), for the row and the column.
      side: side of the square in pixels, int32 scalar.
      height: image height in pixels.
      width: image width in pixels.
    """
    room = tf.cast(tf.stack([height - side, width - side]), uniform.dtype)
    corner = tf.cast(tf.floor(uniform * room), tf.int32)
    rows, columns = tf.range(height) - corner[0], tf.range(width) - corner[1]
    return ((rows >= 0) & (rows < side))[:, None] & ((columns >= 0) & (columns < side))[None, :]


def _bumps(height: int, width: int) -> np.ndarray:
    """Returns nested rectangles around the centre, of unit length: the sum of 1 / k**2 from the distance."""
    layers = max(height // 2, width // 2) + 1
    rows, columns = np.mgrid[:height, :width]
    distance = np.maximum(np.abs(rows - height // 2), np.abs(columns - width // 2))
    weights = 1.0 / np.arange(1, layers + 1) ** 2
    outer_sums = np.append(np.cumsum(weights[::-1])[::-1], np.zeros(max(height, width)))
    values = outer_sums[distance]
    return values / np.sqrt((values**2).sum()) if values.size else values


def pattern(side: int) -> np.ndarray:
    """Returns the pattern of a window, float64 [side, side], of unit length: a hill above a valley."""
    upper = side // 2
    both = np.concatenate([_bumps(upper, side), -_bumps(side - upper, side)])
    return both / np.sqrt((both**2).sum())


def padded_pattern(side: int, height: int, width: int) -> np.ndarray:
    """Returns the pattern and its transpose at the top left of zeros, float64 [height, width, 2]."""
    both = np.zeros([height, width, 2])
    both[:side, :side, 0], both[:side, :side, 1] = pattern(side), pattern(side).T
    return both


def placed(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns values [height, width] moved from the top left into the window `mask`, zero elsewhere."""
    row = tf.argmax(tf.reduce_any(mask, 1), output_type=tf.int32)
    column = tf.argmax(tf.reduce_any(mask, 0), output_type=tf.int32)
    height, width = values.shape
    moved = tf.gather(values, tf.maximum(tf.range(height) - row, 0), axis=0)
    moved = tf.gather(moved, tf.maximum(tf.range(width) - column, 0), axis=1)
    return tf.where(mask, moved, tf.zeros_like(moved))


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the starting grid of about 5 x 5 patterns: (tiles, upright, lying), each [height, width].

    The tile number is -1, and the patterns are 0, where the tiles do not reach. The side follows the height,
    as in the authors' code, but for images narrower than that (which fail there).
    """
    side = max(min(height // 5, width), 1)
    margin = max(height - side * 5, 0) // 2
    left = min(margin, width - side)
    down, across = (height - margin) // side, (width - left) // side
    tiles = np.full([height, width], -1, np.int32)
    upright, lying = np.zeros([height, width]), np.zeros([height, width])
    for number in range(down * across):
        row, column = margin + number // across * side, left + number % across * side
        here = np.s_[row : row + side, column : column + side]
        tiles[here], upright[here], lying[here] = number, pattern(side), pattern(side).T
    return tiles, upright, lying
