"""Contact sheets: what an augmentation makes of some images.

pixels = contact_sheet(sample_pictures(4), "randaugment:2,8", draws=8)      # uint8 [rows, columns, 3]
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fairat_tf import augment, rng

_GAP = 2
_GAP_LEVEL = 255


def contact_sheet(
    images: np.ndarray, specification: str, draws: int = 8, seed: int = 0, scale: int = 1
) -> np.ndarray:
    """Returns a picture with one row for each image: the original, then `draws` augmented versions.

    Args:
      images: uint8 [N, H, W, C], C 1 or 3.
      specification: see `augment.get` and `augment.get_mix`; the latter mix the N images with each other.
      draws: columns after the first.
      seed: run seed of the draws.
      scale: side of the square that a pixel becomes.

    Returns:
      uint8 [rows, columns, 3].

    Raises:
      ValueError: an unknown specification, no images, or `draws` or `scale` below 1.
    """
    if len(images) == 0 or draws < 1 or scale < 1:
        raise ValueError(
            "A contact sheet needs at least one image, one draw and scale 1; received "
            f"{len(images)} images, draws={draws}, scale={scale}."
        )
    function = _function(specification)
    floats = tf.constant(images, tf.float32) / 255.0
    columns = [images]
    for draw in range(draws):
        result = function(floats, rng.key(seed, "preview", draw))
        columns.append(np.rint(np.clip(result.numpy(), 0, 1) * 255).astype(np.uint8))
    return _tiled(np.stack(columns, 1), scale)


def _function(specification: str) -> Callable[[tf.Tensor, rng.Seed], tf.Tensor]:
    if specification.partition(":")[0] not in augment.mix_names():
        return augment.get(specification)
    mix = augment.get_mix(specification)
    return lambda images, seed: mix(images, tf.zeros([images.shape[0], 1]), seed)[0]


def _tiled(grid: np.ndarray, scale: int) -> np.ndarray:
    """Returns uint8 [rows, columns, 3] for uint8 [N, M, H, W, C], with gaps between the tiles."""
    grid = np.broadcast_to(grid, (*grid.shape[:4], 3)).repeat(scale, 2).repeat(scale, 3)
    grid = np.pad(grid, [(0, 0), (0, 0), (_GAP, 0), (_GAP, 0), (0, 0)], constant_values=_GAP_LEVEL)
    rows, columns, height, width, _ = grid.shape
    sheet = grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return np.pad(sheet, [(0, _GAP), (0, _GAP), (0, 0)], constant_values=_GAP_LEVEL)


def sample_pictures(count: int, size: int = 32) -> np.ndarray:
    """Returns generated pictures, uint8 [count, size, size, 3]: a colour ramp, an arrow and a disc.

    The arrow points up, so that flips, turns and shears can be told apart; the hue of the disc and the
    direction of the ramp change from picture to picture.
    """
    y, x = np.mgrid[:size, :size] / (size - 1)
    shaft = (np.abs(x - 0.35) < 0.05) & (y > 0.2) & (y < 0.85)
    head = (y >= 0.1) & (y < 0.35) & (np.abs(x - 0.35) < (y - 0.1) * 0.9)
    disc = (x - 0.72) ** 2 + (y - 0.65) ** 2 < 0.03
    pictures = np.empty((count, size, size, 3))
    for i in range(count):
        turn = 2 * np.pi * i / count
        ramp = 0.5 + 0.25 * ((x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn))
        pictures[i] = ramp[..., None] * [0.7, 0.9, 1.0]
        pictures[i][shaft | head] = [0.95, 0.9, 0.2]
        pictures[i][disc] = 0.5 + 0.4 * np.cos(turn + np.array([0, 2, 4]) * np.pi / 3)
    return np.rint(pictures * 255).astype(np.uint8)
