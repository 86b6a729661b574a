"""Colour jitter: brightness, contrast and saturation.

images = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)(images, seed)
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment import planes as pl
from fairat_tf.augment.base import Augmentation, Parameters, image_shape_of


@dataclasses.dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Changes brightness, contrast and saturation, in this order, each by a factor uniform in 1 -+ strength.

    With a strength above 1 the factor is uniform from 0 on. After each change the values are cut to [0, 1].
    As torchvision's ColorJitter, which draws the order as well and has hue besides. Grey images have no
    saturation.

    Raises:
      ValueError: a negative strength.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation) < 0:
            raise ValueError(f"Colour jitter strengths must be at least 0; received {self}.")

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `factor` float32 [B, 3]: brightness, contrast, saturation."""
        strength = [self.brightness, self.contrast, self.saturation]
        unit = rng.uniform(rng.fold(seed, "factor"), [batch_size, 3], -1.0, 1.0)
        strength = tf.constant(strength)
        below = tf.minimum(strength, 1.0)
        return {"factor": 1.0 + unit * (strength + below) / 2.0 + (strength - below) / 2.0}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images, blended with black, with their mean luminance, and with their luminance."""
        height, width, channels = image_shape_of(images)
        brightness, contrast, saturation = (parameters["factor"][:, i, None, None] for i in range(3))
        planes = tf.clip_by_value(pl.to_planes(images) * brightness, 0.0, 1.0)
        mean = tf.reduce_mean(pl.luminance(planes), axis=2, keepdims=True)
        planes = pl.blend(planes, mean, contrast)
        if channels == 3:
            planes = pl.blend(planes, pl.luminance(planes), saturation)
        return pl.from_planes(planes, (height, width))
