"""IDBH: the augmentation that was searched for adversarial training.

    images = idbh_weak()(images, seed)

Li and Spratling, "Data Augmentation Alone Can Improve Adversarial Training" (ICLR 2023), section 5: flip,
CropShift, one operation on colour or shape, Random Erasing. Constants as in the authors' code. Differences:
values are not rounded to 8 bits between the steps; an example that the rounding of probabilities would
leave without operation there has one here.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment.base import Augmentation, Chain, Parameters
from fairat_tf.augment.crop import CropShift, Flip
from fairat_tf.augment.erase import RandomErasing
from fairat_tf.augment.operations import Op, apply_operations

# (operation, probability, least, greatest): a factor for the blends, radians for shears, degrees for Rotate.
COLOR_BIASED: tuple[tuple[Op, float, float, float], ...] = (
    (Op.COLOR, 0.125, 0.1, 1.9),
    (Op.BRIGHTNESS, 0.125, 0.5, 1.9),
    (Op.CONTRAST, 0.125, 0.5, 1.9),
    (Op.SHARPNESS, 0.125, 0.1, 1.9),
    (Op.AUTOCONTRAST, 0.125, 0.0, 0.0),
    (Op.EQUALIZE, 0.125, 0.0, 0.0),
    (Op.SHEAR_X, 0.0625, 0.05, 0.15),
    (Op.SHEAR_Y, 0.0625, 0.05, 0.15),
    (Op.ROTATE, 0.125, 1, 10),
)
SHAPE_BIASED: tuple[tuple[Op, float, float, float], ...] = (
    (Op.COLOR, 0.08, 0.1, 1.9),
    (Op.BRIGHTNESS, 0.08, 0.5, 1.9),
    (Op.CONTRAST, 0.04, 0.5, 1.9),
    (Op.SHARPNESS, 0.08, 0.1, 1.9),
    (Op.AUTOCONTRAST, 0.04, 0.0, 0.0),
    (Op.EQUALIZE, 0.08, 0.0, 0.0),
    (Op.SHEAR_X, 0.15, 0.05, 0.35),
    (Op.SHEAR_Y, 0.15, 0.05, 0.35),
    (Op.ROTATE, 0.3, 1, 30),
)


@dataclasses.dataclass(frozen=True)
class ColorShape(Augmentation):
    """One operation of `table` for each example, with a strength uniform between least and greatest.

    Shears (about the centre) and rotations (whole degrees) have a random sign; nearest pixel, 0 outside.
    """

    table: tuple[tuple[Op, float, float, float], ...] = COLOR_BIASED

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `op` int32 [B, 1] and `magnitude` float32 [B, 1] in the units of `operations.Op`."""
        ops, shares, least, greatest = (np.array(column) for column in zip(*self.table, strict=True))
        bounds = tf.constant(np.cumsum(shares)[:-1], tf.float32)
        row = rng.uniform(rng.fold(seed, "op"), [batch_size, 1])
        row = tf.reduce_sum(tf.cast(row >= bounds, tf.int32), axis=1, keepdims=True)
        unit = rng.uniform(rng.fold(seed, "strength"), [batch_size, 1])
        negative = rng.integers(rng.fold(seed, "sign"), [batch_size, 1], 2) == 1
        op = tf.gather(tf.constant(ops, tf.int32), row)
        low, high = (tf.gather(tf.constant(ends, tf.float32), row) for ends in (least, greatest))
        strength = low + unit * (high - low)
        degrees = low + tf.floor(unit * (high - low + 1.0))
        shear = (op == Op.SHEAR_X) | (op == Op.SHEAR_Y)
        shape = tf.where(shear, tf.tan(strength), degrees)
        shape = tf.where(negative, -shape, shape)
        return {"op": op, "magnitude": tf.where(shear | (op == Op.ROTATE), shape, strength - 1.0)}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images after their operation."""
        return apply_operations(images, parameters["op"], parameters["magnitude"], centred_shear=True)


def idbh_weak() -> Chain:
    """Returns IDBH for CIFAR-10, weak: CropShift up to 10, colour table, erasing with probability 1/2."""
    return Chain((Flip(), CropShift(0, 10), ColorShape(COLOR_BIASED), RandomErasing(0.5)))


def idbh_strong() -> Chain:
    """Returns IDBH for CIFAR-10, strong: as weak, with erasing always."""
    return Chain((Flip(), CropShift(0, 10), ColorShape(COLOR_BIASED), RandomErasing(1.0)))


def idbh_svhn() -> Chain:
    """Returns IDBH for SVHN: CropShift up to 8, shape table, erasing always, up to half of the image.

    It mirrors left and right, as the authors do, although that changes digits.
    """
    return Chain((Flip(), CropShift(0, 8), ColorShape(SHAPE_BIASED), RandomErasing(1.0, 0.02, 0.5)))
