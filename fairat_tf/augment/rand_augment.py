"""RandAugment and TrivialAugment: random operations of a fixed list, for each example its own.

images = RandAugment(n=2, m=8)(images, seed)
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment.base import Augmentation, Parameters
from fairat_tf.augment.operations import Op, apply_operations, magnitudes, signed

BINS = 31
_DRAWN = int(Op.INVERT)


@dataclasses.dataclass(frozen=True)
class RandAugment(Augmentation):
    """`n` operations after one another, each uniform over fourteen, at strength `m` of 0 to 30.

    Cubuk et al., "RandAugment" (NeurIPS 2020), algorithm 1, with torchvision's operations and 31 bins.
    At bin m, with r = m / 30 and an image of W x H pixels:

    | operation | magnitude | m = 8, 32 x 32 | sign |
    | --- | --- | --- | --- |
    | Identity | | | |
    | ShearX, ShearY | 0.3 r pixels per line, about the upper left corner | 0.08 | random |
    | TranslateX, TranslateY | 150/331 r W (or H) pixels, cut to a whole number | 3 | random |
    | Rotate | 30 r degrees | 8 | random |
    | Brightness, Color, Contrast, Sharpness | blended by the factor 1 + 0.9 r | 1.24 or 0.76 | random |
    | Posterize | 8 - round(4 r) bits | 7 | |
    | Solarize | values from 255 (1 - r) on are inverted | 187 | |
    | AutoContrast, Equalize | | | |

    A random sign is negative with probability 1/2. Differences from the paper: Identity included, no
    Invert, and blends in both directions. Nearest pixel; `fill` (in [0, 1]) outside the image, 0 as in
    torchvision. With one channel Color changes nothing.

    Raises:
      ValueError: n below 1, m outside 0 to 30, or fill outside [0, 1].
    """

    n: int = 2
    m: int = 8
    fill: float = 0.0

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.m < BINS or not 0 <= self.fill <= 1:
            raise ValueError(
                f"RandAugment needs n of at least 1, m from 0 to {BINS - 1} and fill in [0, 1]; received "
                f"n={self.n}, m={self.m}, fill={self.fill}."
            )

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `op` int32 [B, n] (values of `operations.Op`) and `magnitude` float32 [B, n], signed."""
        shape = [batch_size, self.n]
        op = rng.integers(rng.fold(seed, "op"), shape, _DRAWN)
        magnitude = tf.gather(magnitudes(image_shape, BINS)[:, self.m], op)
        return {"op": op, "magnitude": signed(op, magnitude, rng.integers(rng.fold(seed, "sign"), shape, 2))}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images after their operations."""
        return apply_operations(images, parameters["op"], parameters["magnitude"], fill=self.fill)


@dataclasses.dataclass(frozen=True)
class TrivialAugment(Augmentation):
    """One operation, uniform over RandAugment's fourteen, at a strength uniform over 31 bins.

    Mueller and Hutter, "TrivialAugment" (ICCV 2021), wide space, with torchvision's ranges: shear 0.99,
    translate 32 pixels, rotate 135 degrees, blends 1 -+ 0.99, posterize down to 2 bits, solarize down to
    0; signs as in `RandAugment`.

    Raises:
      ValueError: fill outside [0, 1].
    """

    fill: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.fill <= 1:
            raise ValueError(f"TrivialAugment needs fill in [0, 1]; received fill={self.fill}.")

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `op` int32 [B, 1] and `magnitude` float32 [B, 1], signed."""
        shape = [batch_size, 1]
        op = rng.integers(rng.fold(seed, "op"), shape, _DRAWN)
        strength = rng.integers(rng.fold(seed, "bin"), shape, BINS)
        table = tf.reshape(tf.constant(magnitudes(image_shape, BINS, wide=True)), [-1])
        magnitude = tf.gather(table, op * BINS + strength)
        return {"op": op, "magnitude": signed(op, magnitude, rng.integers(rng.fold(seed, "sign"), shape, 2))}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images after their operation."""
        return apply_operations(images, parameters["op"], parameters["magnitude"], fill=self.fill)
