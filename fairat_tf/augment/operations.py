"""The fifteen image operations of AutoAugment and its successors, one per example and slot.

    images = apply_operations(images, op, magnitude)      # op int32 [B, n], magnitude float32 [B, n]

Each example has its own operation. Rather than computing all fifteen for every example, a slot has three
parts, each computed only for the examples that need it (`planes.on_chosen`): one gather (all geometric
operations are one affine matrix), one linear combination (brightness, colour, contrast, sharpness,
autocontrast, inversion), and the operations on levels (posterize, solarize, equalize).

Images are float32 and need not be multiples of 1/255. Posterize and equalize work on the nearest of the
256 levels; all else is computed in floats, so a result can differ from an 8-bit library by 1/255 per slot,
which autocontrast and equalize in a later slot enlarge.
"""

import enum

import numpy as np
import tensorflow as tf

from fairat_tf.augment import planes as pl
from fairat_tf.augment.base import image_shape_of


class Op(enum.IntEnum):
    """The operations, with the unit of their magnitude m.

    * IDENTITY, AUTOCONTRAST, EQUALIZE, INVERT: m is not used.
    * SHEAR_X, SHEAR_Y: pixels per line, m = tan(angle); row y shows x + m * y (and x, y exchanged).
    * TRANSLATE_X, TRANSLATE_Y: pixels to the right or down, cut to a whole number.
    * ROTATE: degrees, counter-clockwise, about the centre.
    * BRIGHTNESS, COLOR, CONTRAST, SHARPNESS: the image is blended with black, its luminance, its mean
      luminance, or a smoothed copy by the factor 1 + m.
    * POSTERIZE: bits that are kept (1 to 8).
    * SOLARIZE: threshold in [0, 1]; values at or above it are inverted.
    """

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTOCONTRAST = 12
    EQUALIZE = 13
    INVERT = 14


_GEOMETRIC = (Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y, Op.ROTATE)
_BLENDS = (Op.BRIGHTNESS, Op.COLOR, Op.CONTRAST, Op.SHARPNESS)
_LINEAR = (*_BLENDS, Op.AUTOCONTRAST, Op.INVERT)
_TONAL = (Op.POSTERIZE, Op.SOLARIZE, Op.EQUALIZE)
SIGNED = _GEOMETRIC + _BLENDS


def apply_operations(
    images: tf.Tensor, op: tf.Tensor, magnitude: tf.Tensor, fill: float = 0.0, centred_shear: bool = False
) -> tf.Tensor:
    """Returns images after the operations of all slots, from slot 0 on.

    Args:
      images: float32 [B, H, W, C] in [0, 1]; with one channel COLOR changes nothing.
      op: int32 [B, n], values of `Op`.
      magnitude: float32 [B, n], in the units that `Op` lists.
      fill: value in [0, 1] outside the image for shears, moves and rotations (nearest pixel).
      centred_shear: shear about the centre of the image instead of its upper left corner.
    """
    height, width, _ = image_shape_of(images)
    size = (height, width)

    def warped(planes: tf.Tensor, op: tf.Tensor, magnitude: tf.Tensor) -> tf.Tensor:
        return pl.warp(planes, size, affine_matrix(op, magnitude, size, centred_shear), fill=fill)

    def combined(planes: tf.Tensor, op: tf.Tensor, magnitude: tf.Tensor) -> tf.Tensor:
        return _combine(planes, size, op, magnitude)

    planes = pl.to_planes(images)
    for slot in range(op.shape[1]):
        now, strength = op[:, slot], magnitude[:, slot]
        for group, function in ((_GEOMETRIC, warped), (_LINEAR, combined), (_TONAL, _tone)):
            planes = pl.on_chosen(planes, _among(now, group), function, now, strength)
    return pl.from_planes(planes, size)


def _among(op: tf.Tensor, group: tuple[Op, ...]) -> tf.Tensor:
    return tf.reduce_any(op[:, None] == tf.constant(group), axis=1)


def affine_matrix(
    op: tf.Tensor, magnitude: tf.Tensor, size: tuple[int, int], centred_shear: bool = False
) -> tf.Tensor:
    """Returns float32 [B, 2, 3] for `planes.warp`: the identity where `op` is not geometric.

    Args:
      op: int32 [B].
      magnitude: float32 [B].
      size: (H, W).
      centred_shear: see `apply_operations`.
    """
    shear_x, shear_y = _where(op, Op.SHEAR_X, magnitude), _where(op, Op.SHEAR_Y, magnitude)
    move_x, move_y = (_whole(_where(op, o, magnitude)) for o in (Op.TRANSLATE_X, Op.TRANSLATE_Y))
    angle = _where(op, Op.ROTATE, magnitude) * (np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    about_centre = tf.ones_like(magnitude) if centred_shear else _where(op, Op.ROTATE, 1.0)
    x, y = about_centre * (size[1] / 2), about_centre * (size[0] / 2)
    right, down = shear_x - sin, shear_y + sin
    rows = [cos, right, x - cos * x - right * y - move_x, down, cos, y - down * x - cos * y - move_y]
    return tf.reshape(tf.stack(rows, 1), [-1, 2, 3])


def _where(op: tf.Tensor, wanted: Op, value: tf.Tensor | float, otherwise: float = 0.0) -> tf.Tensor:
    return tf.where(op == wanted, value, otherwise)


def _whole(magnitude: tf.Tensor) -> tf.Tensor:
    return tf.sign(magnitude) * tf.floor(tf.abs(magnitude))


def _combine(planes: tf.Tensor, size: tuple[int, int], op: tf.Tensor, magnitude: tf.Tensor) -> tf.Tensor:
    """Returns own * planes + constant + other * neighbour, which is each of the operations `_LINEAR`."""
    blends = _among(op, _BLENDS) & ((op != Op.COLOR) | (planes.shape[1] == 3))
    rest = tf.where(blends, -magnitude, 0.0)[:, None, None]
    op = op[:, None, None]
    grey = pl.luminance(planes)
    low, scale = _stretch(planes)
    stretched, inverted = op == Op.AUTOCONTRAST, op == Op.INVERT
    own = tf.where(stretched, scale, tf.where(inverted, -1.0, 1.0 - rest))
    constant = _where(op, Op.CONTRAST, rest * tf.reduce_mean(grey, axis=2, keepdims=True))
    constant = tf.where(stretched, -low * scale, tf.where(inverted, 1.0, constant))
    other = tf.where((op == Op.COLOR) | (op == Op.SHARPNESS), rest, 0.0)
    neighbour = tf.where(op == Op.COLOR, grey, pl.smooth(planes, size))
    return tf.clip_by_value(own * planes + constant + other * neighbour, 0.0, 1.0)


def _stretch(planes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns low and scale, [B, C, 1], with (value - low) * scale in [0, 1]; 0 and 1 for a flat channel.

    Flat is a channel within half a level: what rounding leaves of one level is no contrast.
    """
    low, high = tf.reduce_min(planes, axis=2, keepdims=True), tf.reduce_max(planes, axis=2, keepdims=True)
    flat = high - low < 0.5 / 255.0
    return tf.where(flat, 0.0, low), tf.where(flat, 1.0, 1.0 / tf.where(flat, 1.0, high - low))


def _tone(planes: tf.Tensor, op: tf.Tensor, magnitude: tf.Tensor) -> tf.Tensor:
    """Returns planes after solarize, posterize or equalize."""
    op, magnitude = op[:, None, None], magnitude[:, None, None]
    # Half a level below the first inverted one: equal for values that rounding moved.
    boundary = (tf.math.ceil(magnitude * 255.0 - 1e-3) - 0.5) / 255.0
    solarized = tf.where(planes >= boundary, 1.0 - planes, planes)
    level = pl.levels(planes)
    kept = tf.bitwise.left_shift(-1, 8 - tf.cast(_where(op, Op.POSTERIZE, magnitude, 8.0), tf.int32))
    posterized = tf.cast(tf.bitwise.bitwise_and(level, kept), tf.float32) / 255.0
    table, changed = pl.equalizing_table(level)
    equalized = tf.where(changed, pl.look_up(table, level) / 255.0, planes)
    chosen = tf.where(op == Op.POSTERIZE, posterized, planes)
    chosen = tf.where(op == Op.SOLARIZE, solarized, chosen)
    return tf.where(op == Op.EQUALIZE, equalized, chosen)


def magnitudes(image_shape: tuple[int, int, int], bins: int, wide: bool = False) -> np.ndarray:
    """Returns float32 [15, bins]: the magnitude of each `Op` (rows) in each bin, without sign.

    The ranges run linearly from the least effect (bin 0, none but for Solarize, which inverts pure white) to:

    * shear 0.3 (wide: 0.99); translate 150 / 331 of the width or height (wide: 32 pixels); rotate 30
      degrees (wide: 135); brightness, colour, contrast and sharpness 0.9 (wide: 0.99);
    * posterize from 8 bits to 4 (wide: 2), rounded; solarize from threshold 1 to 0.

    These are torchvision's ranges of RandAugment and AutoAugment, and of TrivialAugmentWide.
    """
    ramp = np.linspace(0.0, 1.0, bins)
    height, width, _ = image_shape
    move_x, move_y = (32.0, 32.0) if wide else (150 / 331 * width, 150 / 331 * height)
    shear, rotate, enhance, bits = (0.99, 135.0, 0.99, 6) if wide else (0.3, 30.0, 0.9, 4)
    top = [0, shear, shear, move_x, move_y, rotate, enhance, enhance, enhance, enhance]
    table = np.zeros((len(Op), bins))
    table[: len(top)] = np.outer(top, ramp)
    table[Op.POSTERIZE] = 8 - np.round(bits * ramp)
    table[Op.SOLARIZE] = 1 - ramp
    return table.astype(np.float32)


def signed(op: tf.Tensor, magnitude: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    """Returns `magnitude`, negated where `negative` (int32 0 or 1) is 1 and the operation has a sign.

    Shears, moves, rotations and the four blends have a sign; the others have none.
    """
    has_sign = tf.reduce_any(op[..., None] == tf.constant(SIGNED), axis=-1)
    return tf.where(has_sign & (negative == 1), -magnitude, magnitude)
