"""Operations on images: hand-made arrays with their derivation, and Pillow as the independent oracle."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from fairat_tf.augment import operations
from fairat_tf.augment.operations import Op

LEVEL = 1 / 255
SQUARE = np.arange(1, 10, dtype=np.float32).reshape(3, 3) / 10


def apply_one(pixels: np.ndarray, op: Op, magnitude: float = 0.0, **options: object) -> np.ndarray:
    """Applies one operation to one image [H, W] or [H, W, C]."""
    image = tf.constant(pixels.reshape(1, *pixels.shape[:2], -1), tf.float32)
    result = operations.apply_operations(image, tf.constant([[op]]), tf.constant([[magnitude]]), **options)
    return result.numpy().reshape(pixels.shape)


def photo(height: int = 20, width: int = 26, seed: int = 0) -> np.ndarray:
    """A smooth uint8 colour picture that does not use all levels."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(30, 220, (4, 5, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.BICUBIC))


HAND_MADE = {
    # Each pixel shows the one to its left; the first column shows what is outside.
    "right by 1": (Op.TRANSLATE_X, 1.0, [[0, 1, 2], [0, 4, 5], [0, 7, 8]]),
    # 1.9 is cut to 1, towards 0 on both sides.
    "right by 1.9": (Op.TRANSLATE_X, 1.9, [[0, 1, 2], [0, 4, 5], [0, 7, 8]]),
    "left by 1.9": (Op.TRANSLATE_X, -1.9, [[2, 3, 0], [5, 6, 0], [8, 9, 0]]),
    "down by 2": (Op.TRANSLATE_Y, 2.0, [[0, 0, 0], [0, 0, 0], [1, 2, 3]]),
    # Counter-clockwise: the right column, from top to bottom, becomes the first row.
    "rotate 90": (Op.ROTATE, 90.0, [[3, 6, 9], [2, 5, 8], [1, 4, 7]]),
    "rotate -90": (Op.ROTATE, -90.0, [[7, 4, 1], [8, 5, 2], [9, 6, 3]]),
    # Row y shows floor(x + 0.5 + 0.5 (y + 0.5)): offsets 0.75, 1.25, 1.75, so 0, 1 and 1 columns.
    "shear x 0.5": (Op.SHEAR_X, 0.5, [[1, 2, 3], [5, 6, 0], [8, 9, 0]]),
    # The same with -0.5: offsets 0.25, -0.25, -0.75, so 0, -1 and -1 columns.
    "shear x -0.5": (Op.SHEAR_X, -0.5, [[1, 2, 3], [0, 4, 5], [0, 7, 8]]),
    "shear y 0.5": (Op.SHEAR_Y, 0.5, [[1, 5, 6], [4, 8, 9], [7, 0, 0]]),
    "invert": (Op.INVERT, 0.0, [[9, 8, 7], [6, 5, 4], [3, 2, 1]]),
    "solarize from 0.6": (Op.SOLARIZE, 0.6, [[1, 2, 3], [4, 5, 4], [3, 2, 1]]),
    # (v - 1) / (9 - 1) of the range, in tenths.
    "autocontrast": (Op.AUTOCONTRAST, 0.0, [[0, 1.25, 2.5], [3.75, 5, 6.25], [7.5, 8.75, 10]]),
    "brightness x 0.5": (Op.BRIGHTNESS, -0.5, [[0.5, 1, 1.5], [2, 2.5, 3], [3.5, 4, 4.5]]),
    # Cut at 1.
    "brightness x 2": (Op.BRIGHTNESS, 1.0, [[2, 4, 6], [8, 10, 10], [10, 10, 10]]),
    # The mean is 5: values half as far from it.
    "contrast x 0.5": (Op.CONTRAST, -0.5, [[3, 3.5, 4], [4.5, 5, 5.5], [6, 6.5, 7]]),
    "color of a grey image": (Op.COLOR, 0.9, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    "identity": (Op.IDENTITY, 5.0, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
}


@pytest.mark.parametrize("case", HAND_MADE)
def test_hand_made_square(case: str) -> None:
    op, magnitude, expected = HAND_MADE[case]
    np.testing.assert_allclose(apply_one(SQUARE, op, magnitude), np.array(expected) / 10, atol=1e-6)


def test_shear_about_the_centre() -> None:
    # Row y shows floor(x + 0.5 + (y - 1)): the middle row stays.
    expected = np.array([[0, 1, 2], [4, 5, 6], [8, 9, 0]]) / 10
    np.testing.assert_allclose(apply_one(SQUARE, Op.SHEAR_X, 1.0, centred_shear=True), expected, atol=1e-6)


def test_fill_is_what_lies_outside() -> None:
    result = apply_one(SQUARE, Op.TRANSLATE_Y, -2.0, fill=0.5)
    np.testing.assert_allclose(result, np.array([[7, 8, 9], [5, 5, 5], [5, 5, 5]]) / 10, atol=1e-6)


def test_sharpness_by_hand() -> None:
    # Only the middle has all neighbours: smooth (sum of 8 neighbours + 5 * middle) / 13 = 9 / 13 for a
    # middle of 1 among 0.5; factor 2 doubles the distance: 2 * 1 - 9 / 13 > 1, factor 0 gives 9 / 13.
    pixels = np.full((3, 3), 0.5, np.float32)
    pixels[1, 1] = 1.0
    blurred = pixels.copy()
    blurred[1, 1] = 9 / 13
    np.testing.assert_allclose(apply_one(pixels, Op.SHARPNESS, -1.0), blurred, atol=1e-6)
    np.testing.assert_allclose(apply_one(pixels, Op.SHARPNESS, 1.0), pixels, atol=1e-6)


def test_sharpness_leaves_images_without_interior() -> None:
    pixels = photo(2, 9) / 255
    np.testing.assert_allclose(apply_one(pixels, Op.SHARPNESS, 0.9), pixels, atol=1e-6)


def test_color_to_luminance() -> None:
    pixels = np.array([[[1.0, 0.5, 0.0]]], np.float32)
    grey = 0.299 + 0.5 * 0.587
    np.testing.assert_allclose(apply_one(pixels, Op.COLOR, -1.0), [[[grey] * 3]], atol=1e-6)
    np.testing.assert_allclose(
        apply_one(pixels, Op.COLOR, -0.5), [[[(1 + grey) / 2, (0.5 + grey) / 2, grey / 2]]], atol=1e-6
    )


def test_posterize_by_hand() -> None:
    # 3 bits keep multiples of 32: 31 -> 0, 32 -> 32, 100 -> 96, 255 -> 224.
    pixels = np.array([[0, 31, 32], [63, 64, 100], [200, 224, 255]], np.float32) * LEVEL
    expected = np.array([[0, 0, 32], [32, 64, 96], [192, 224, 224]]) * LEVEL
    np.testing.assert_allclose(apply_one(pixels, Op.POSTERIZE, 3.0), expected, atol=1e-6)


def test_equalize_by_hand() -> None:
    # 1024 pixels, levels 10, 20, 30, 40 with counts 512, 256, 128, 128. step = (1024 - 128) // 255 = 3;
    # level i becomes (1 + pixels below) // 3: 0, 171, (1 + 768) // 3 = 256 -> 255, (1 + 896) // 3 -> 255.
    pixels = np.repeat([10, 20, 30, 40], [512, 256, 128, 128]).reshape(32, 32) * LEVEL
    expected = np.repeat([0, 171, 255, 255], [512, 256, 128, 128]).reshape(32, 32) * LEVEL
    np.testing.assert_allclose(apply_one(pixels, Op.EQUALIZE), expected, atol=1e-6)


def test_equalize_leaves_what_has_too_few_pixels() -> None:
    # (9 - 1) // 255 = 0: no change, and no rounding of values between two levels either.
    pixels = SQUARE + np.float32(0.3 * LEVEL)
    np.testing.assert_array_equal(apply_one(pixels, Op.EQUALIZE), pixels)


def test_flat_images_keep_their_value() -> None:
    pixels = np.full((32, 32, 3), 0.25, np.float32)
    for op in (Op.AUTOCONTRAST, Op.EQUALIZE):
        np.testing.assert_array_equal(apply_one(pixels, op), pixels)


PILLOW: dict[str, tuple[Op, float, Callable[[Image.Image], Image.Image], float]] = {
    "posterize": (Op.POSTERIZE, 5.0, lambda i: ImageOps.posterize(i, 5), 0.0),
    "solarize": (Op.SOLARIZE, 100 / 255, lambda i: ImageOps.solarize(i, 100), 0.0),
    "invert": (Op.INVERT, 0.0, ImageOps.invert, 0.0),
    "equalize": (Op.EQUALIZE, 0.0, ImageOps.equalize, 0.0),
    "autocontrast": (Op.AUTOCONTRAST, 0.0, ImageOps.autocontrast, 1.0),
    "brightness up": (Op.BRIGHTNESS, 0.6, lambda i: ImageEnhance.Brightness(i).enhance(1.6), 1.0),
    "brightness down": (Op.BRIGHTNESS, -0.6, lambda i: ImageEnhance.Brightness(i).enhance(0.4), 1.0),
    "color up": (Op.COLOR, 0.7, lambda i: ImageEnhance.Color(i).enhance(1.7), 1.5),
    "color down": (Op.COLOR, -0.7, lambda i: ImageEnhance.Color(i).enhance(0.3), 1.5),
    "contrast up": (Op.CONTRAST, 0.8, lambda i: ImageEnhance.Contrast(i).enhance(1.8), 1.5),
    "contrast down": (Op.CONTRAST, -0.8, lambda i: ImageEnhance.Contrast(i).enhance(0.2), 1.5),
    "sharpness up": (Op.SHARPNESS, 0.9, lambda i: ImageEnhance.Sharpness(i).enhance(1.9), 1.5),
    "sharpness down": (Op.SHARPNESS, -0.9, lambda i: ImageEnhance.Sharpness(i).enhance(0.1), 1.5),
}


@pytest.mark.parametrize("case", PILLOW)
@pytest.mark.parametrize("size", [(20, 26), (64, 40)])
def test_equals_pillow(case: str, size: tuple[int, int]) -> None:
    """Exact for operations on levels; the others within Pillow's rounding (of the mean or the grey, too)."""
    op, magnitude, oracle, tolerance = PILLOW[case]
    pixels = photo(*size)
    expected = np.asarray(oracle(Image.fromarray(pixels)), np.float32)
    got = apply_one(pixels / 255, op, magnitude) * 255
    assert np.abs(expected - pixels).max() > tolerance + 1, "the oracle should change the picture"
    np.testing.assert_allclose(got, expected, atol=tolerance + 1e-3)


def test_solarize_between_two_levels() -> None:
    """RandAugment's bin 1: threshold 246.5 inverts 247, not 246."""
    pixels = np.array([[246, 247]]) * LEVEL
    result = apply_one(pixels, Op.SOLARIZE, 246.5 / 255)
    np.testing.assert_allclose(result * 255, [[246, 8]], atol=1e-3)


@pytest.mark.parametrize("angle", [-134.0, -30.0, -8.0, 1.0, 17.0, 44.0, 90.0, 133.0])
@pytest.mark.parametrize("size", [(20, 26), (32, 32), (21, 15)])
def test_rotation_equals_pillow(angle: float, size: tuple[int, int]) -> None:
    pixels = photo(*size)
    expected = np.asarray(Image.fromarray(pixels).rotate(angle, Image.NEAREST, fillcolor=(0, 0, 0)))
    got = np.rint(apply_one(pixels / 255, Op.ROTATE, angle) * 255)
    assert np.mean(np.any(got != expected, axis=-1)) <= 0.003, "Pillow counts in 1/65536 of a pixel"


@pytest.mark.parametrize("op", [Op.SHEAR_X, Op.SHEAR_Y])
@pytest.mark.parametrize("magnitude", [-0.99, -0.08, 0.3])
def test_shear_equals_pillow(op: Op, magnitude: float) -> None:
    pixels = photo()
    data = (1, magnitude, 0, 0, 1, 0) if op == Op.SHEAR_X else (1, 0, 0, magnitude, 1, 0)
    expected = np.asarray(Image.fromarray(pixels).transform((26, 20), Image.AFFINE, data, Image.NEAREST))
    got = np.rint(apply_one(pixels / 255, op, magnitude) * 255)
    assert np.mean(np.any(got != expected, axis=-1)) <= 0.003, "Pillow counts in 1/65536 of a pixel"


def test_each_example_and_slot_has_its_own_operation() -> None:
    """20 examples (more than one group) in two slots equal the operations done one by one."""
    random = np.random.default_rng(3)
    images = np.stack([photo(20, 26, seed) for seed in range(20)]).astype(np.float32) / 255
    op = random.integers(0, len(Op), (20, 2))
    op[:3] = [[Op.SHARPNESS, Op.ROTATE], [Op.EQUALIZE, Op.INVERT], [Op.POSTERIZE, Op.COLOR]]
    table = operations.magnitudes((20, 26, 3), 31, wide=True)
    magnitude = table[op, 11]
    got = operations.apply_operations(
        tf.constant(images), tf.constant(op, tf.int32), tf.constant(magnitude)
    ).numpy()
    for i in range(20):
        first = apply_one(images[i], Op(op[i, 0]), magnitude[i, 0])
        np.testing.assert_allclose(got[i], apply_one(first, Op(op[i, 1]), magnitude[i, 1]), atol=1e-6)


def test_every_operation_changes_the_image_and_xla_does_the_same() -> None:
    """One example of each operation in one batch; only IDENTITY leaves its image as it was."""
    images = tf.constant(np.stack([photo(20, 26, seed) for seed in range(len(Op))]) / 255, tf.float32)
    op = tf.range(len(Op))[:, None]
    magnitude = tf.constant(operations.magnitudes((20, 26, 3), 31)[:, 20:21], tf.float32)

    def apply(x: tf.Tensor) -> tf.Tensor:
        return operations.apply_operations(x, op, magnitude)

    eager = apply(images).numpy()
    changed = np.any(eager != images.numpy(), axis=(1, 2, 3))
    assert [Op(i).name for i in np.flatnonzero(~changed)] == ["IDENTITY"]
    compiled = tf.function(apply, jit_compile=True, autograph=False)(images).numpy()
    np.testing.assert_allclose(compiled, eager, atol=1e-5)


def test_what_rounding_leaves_of_one_level_is_no_contrast() -> None:
    """Sharpness moves the inside of a flat image by a rounding; autocontrast must not stretch that."""
    for level in range(0, 256, 3):
        image = np.full((8, 8, 3), level / 255, np.float32)
        sharp = apply_one(image, Op.SHARPNESS, 0.24)
        np.testing.assert_allclose(apply_one(sharp, Op.AUTOCONTRAST, 0.0), image, atol=1e-6)


def test_untouched_examples_are_bitwise_the_same() -> None:
    random = np.random.default_rng(0)
    images = random.random((40, 18, 20, 3), np.float32)
    op = np.zeros((40, 2), np.int32)
    op[::7] = [Op.EQUALIZE, Op.CONTRAST]
    op[1::7] = [Op.ROTATE, Op.SOLARIZE]
    got = operations.apply_operations(tf.constant(images), tf.constant(op), tf.fill([40, 2], 0.3)).numpy()
    same = op.sum(1) == 0
    np.testing.assert_array_equal(got[same], images[same])
    assert np.all(np.any(got[~same] != images[~same], axis=(1, 2, 3)))


def test_magnitudes() -> None:
    """Bins 0, 8 and 30 of 31 for a 40 x 20 image, from the formulas of the docstring."""
    table = operations.magnitudes((20, 40, 3), 31)
    np.testing.assert_allclose(table[Op.SHEAR_X, [0, 8, 30]], [0, 0.08, 0.3], atol=1e-6)
    np.testing.assert_allclose(table[Op.TRANSLATE_X, 30], 150 / 331 * 40, rtol=1e-6)
    np.testing.assert_allclose(table[Op.TRANSLATE_Y, 30], 150 / 331 * 20, rtol=1e-6)
    np.testing.assert_allclose(table[Op.ROTATE, [0, 8, 30]], [0, 8, 30], rtol=1e-6)
    np.testing.assert_allclose(table[Op.SHARPNESS, [0, 8, 30]], [0, 0.24, 0.9], atol=1e-6)
    # round(4 / 30 * bin): 3 -> 0.4, 4 -> 0.53, 8 -> 1.07, 30 -> 4.
    np.testing.assert_array_equal(table[Op.POSTERIZE, [0, 3, 4, 8, 30]], [8, 8, 7, 7, 4])
    np.testing.assert_allclose(table[Op.SOLARIZE, [0, 8, 30]] * 255, [255, 187, 0], atol=1e-4)
    wide = operations.magnitudes((20, 40, 3), 31, wide=True)
    top = [
        wide[op, 30] for op in (Op.SHEAR_Y, Op.TRANSLATE_Y, Op.ROTATE, Op.COLOR, Op.POSTERIZE, Op.SOLARIZE)
    ]
    np.testing.assert_allclose(top, [0.99, 32, 135, 0.99, 2, 0], rtol=1e-6)


def test_signs() -> None:
    op = tf.range(len(Op))
    both = [operations.signed(op, tf.ones([len(Op)]), tf.fill([len(Op)], n)).numpy() for n in (0, 1)]
    np.testing.assert_array_equal(both[0], np.ones(len(Op)))
    np.testing.assert_array_equal(both[1], [1, *[-1] * 9, *[1] * 5])


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
