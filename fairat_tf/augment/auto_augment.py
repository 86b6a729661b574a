"""AutoAugment with the policy that was learned on CIFAR-10.

images = AutoAugment()(images, seed)
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment.base import Augmentation, Parameters
from fairat_tf.augment.operations import Op, apply_operations, magnitudes, signed

BINS = 10

# Cubuk et al. (CVPR 2019), appendix, table of the CIFAR-10 policy: 25 pairs of (operation, probability,
# bin of 0 to 9; 0 where the operation has no strength).
CIFAR10_POLICY: tuple[tuple[tuple[Op, float, int], tuple[Op, float, int]], ...] = (
    ((Op.INVERT, 0.1, 0), (Op.CONTRAST, 0.2, 6)),
    ((Op.ROTATE, 0.7, 2), (Op.TRANSLATE_X, 0.3, 9)),
    ((Op.SHARPNESS, 0.8, 1), (Op.SHARPNESS, 0.9, 3)),
    ((Op.SHEAR_Y, 0.5, 8), (Op.TRANSLATE_Y, 0.7, 9)),
    ((Op.AUTOCONTRAST, 0.5, 0), (Op.EQUALIZE, 0.9, 0)),
    ((Op.SHEAR_Y, 0.2, 7), (Op.POSTERIZE, 0.3, 7)),
    ((Op.COLOR, 0.4, 3), (Op.BRIGHTNESS, 0.6, 7)),
    ((Op.SHARPNESS, 0.3, 9), (Op.BRIGHTNESS, 0.7, 9)),
    ((Op.EQUALIZE, 0.6, 0), (Op.EQUALIZE, 0.5, 0)),
    ((Op.CONTRAST, 0.6, 7), (Op.SHARPNESS, 0.6, 5)),
    ((Op.COLOR, 0.7, 7), (Op.TRANSLATE_X, 0.5, 8)),
    ((Op.EQUALIZE, 0.3, 0), (Op.AUTOCONTRAST, 0.4, 0)),
    ((Op.TRANSLATE_Y, 0.4, 3), (Op.SHARPNESS, 0.2, 6)),
    ((Op.BRIGHTNESS, 0.9, 6), (Op.COLOR, 0.2, 8)),
    ((Op.SOLARIZE, 0.5, 2), (Op.INVERT, 0.0, 0)),
    ((Op.EQUALIZE, 0.2, 0), (Op.AUTOCONTRAST, 0.6, 0)),
    ((Op.EQUALIZE, 0.2, 0), (Op.EQUALIZE, 0.6, 0)),
    ((Op.COLOR, 0.9, 9), (Op.EQUALIZE, 0.6, 0)),
    ((Op.AUTOCONTRAST, 0.8, 0), (Op.SOLARIZE, 0.2, 8)),
    ((Op.BRIGHTNESS, 0.1, 3), (Op.COLOR, 0.7, 0)),
    ((Op.SOLARIZE, 0.4, 5), (Op.AUTOCONTRAST, 0.9, 0)),
    ((Op.TRANSLATE_Y, 0.9, 9), (Op.TRANSLATE_Y, 0.7, 9)),
    ((Op.AUTOCONTRAST, 0.9, 0), (Op.SOLARIZE, 0.8, 3)),
    ((Op.EQUALIZE, 0.8, 0), (Op.INVERT, 0.1, 0)),
    ((Op.TRANSLATE_Y, 0.7, 9), (Op.AUTOCONTRAST, 0.9, 0)),
)


@dataclasses.dataclass(frozen=True)
class AutoAugment(Augmentation):
    """One of the 25 pairs of `CIFAR10_POLICY`, uniform; each of the two operations with its probability.

    Cubuk et al., "AutoAugment" (CVPR 2019). Strengths are bins 0 to 9 of torchvision's ranges (see
    `operations.magnitudes`), signs are random, nearest pixel. `fill` (in [0, 1]) outside the image is 0
    as in torchvision; the paper's code fills with grey, 0.5.

    Raises:
      ValueError: fill outside [0, 1].
    """

    fill: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.fill <= 1:
            raise ValueError(f"AutoAugment needs fill in [0, 1]; received fill={self.fill}.")

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `policy` int32 [B], `op` int32 [B, 2] and `magnitude` float32 [B, 2], signed.

        An operation that is left out is IDENTITY.
        """
        policy = rng.integers(rng.fold(seed, "policy"), [batch_size], len(CIFAR10_POLICY))
        table = np.array(CIFAR10_POLICY)
        bound = tf.gather(tf.constant(table[:, :, 1], tf.float32), policy)
        taken = rng.uniform(rng.fold(seed, "taken"), [batch_size, 2]) < bound
        op = tf.where(taken, tf.gather(tf.constant(table[:, :, 0], tf.int32), policy), int(Op.IDENTITY))
        strength = tf.gather(tf.constant(table[:, :, 2], tf.int32), policy)
        flat = tf.reshape(tf.constant(magnitudes(image_shape, BINS)), [-1])
        negative = rng.integers(rng.fold(seed, "sign"), [batch_size, 2], 2)
        magnitude = signed(op, tf.gather(flat, op * BINS + strength), negative)
        return {"policy": policy, "op": op, "magnitude": magnitude}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images after the two operations."""
        return apply_operations(images, parameters["op"], parameters["magnitude"], fill=self.fill)
