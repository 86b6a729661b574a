"""Held: the pixels of `street_digits` 1.0.0 do not change silently, and follow its description.

The golden pictures are 8x8 means (of 4x4 pixels and the channels) of examples drawn by version 1.0.0. Fonts
are drawn a little differently by other versions of FreeType, so they are compared with a tolerance; with the
versions of the golden run, byte by byte.
"""

import hashlib

import numpy as np
import PIL
import pytest
from PIL import features

from fairat_tf.data import digit_drawing

LABELS = {
    "train": "8d65da5819353a69b7151c8ed1eccb8fe8dac7030f23f026d8ab1c21b96b9626",
    "test": "d4ad9e416680c59817028a08cce27010ba5bdcd1a000354d6d6f81ed68383b7d",
}
DRAWN_BY = ("13.0.0", "2.14.3")
PIXELS = "1b05b7c44a2998b0cfc9f686f91fa4988364407748dc1c65e5f00318a84dccfd"
GOLDEN = {
    ("train", 0): [
        [181, 176, 113, 122, 108, 73, 125, 172],
        [184, 178, 155, 178, 167, 73, 69, 159],
        [184, 185, 184, 183, 156, 56, 58, 162],
        [184, 190, 186, 174, 102, 38, 97, 177],
        [185, 181, 156, 105, 84, 125, 172, 181],
        [170, 99, 81, 129, 171, 169, 179, 183],
        [134, 41, 44, 79, 106, 90, 164, 189],
        [177, 141, 108, 70, 33, 64, 177, 192],
    ],
    ("train", 1): [
        [211, 212, 211, 193, 168, 138, 200, 209],
        [205, 191, 124, 108, 148, 160, 198, 203],
        [197, 191, 118, 173, 179, 179, 192, 194],
        [185, 187, 121, 119, 123, 122, 156, 180],
        [177, 176, 138, 162, 165, 120, 129, 166],
        [161, 164, 156, 163, 147, 93, 126, 157],
        [150, 152, 120, 109, 112, 128, 149, 148],
        [143, 144, 142, 141, 142, 142, 139, 136],
    ],
    ("train", 19999): [
        [104, 103, 82, 60, 55, 80, 108, 119],
        [91, 91, 74, 70, 83, 89, 108, 122],
        [54, 69, 129, 118, 114, 119, 104, 119],
        [25, 34, 57, 61, 91, 126, 104, 113],
        [16, 23, 38, 66, 138, 109, 102, 114],
        [23, 32, 43, 117, 136, 137, 132, 109],
        [35, 43, 49, 114, 87, 84, 95, 105],
        [49, 46, 49, 53, 66, 81, 96, 105],
    ],
    ("test", 0): [
        [181, 174, 167, 169, 161, 149, 160, 172],
        [179, 174, 171, 165, 147, 120, 152, 156],
        [161, 172, 176, 160, 162, 107, 145, 137],
        [144, 186, 179, 162, 112, 148, 154, 124],
        [155, 187, 179, 175, 144, 131, 158, 117],
        [172, 176, 154, 143, 143, 163, 160, 151],
        [182, 177, 170, 172, 163, 153, 152, 152],
        [195, 182, 169, 170, 162, 145, 146, 148],
    ],
}


@pytest.fixture(scope="module")
def labels() -> dict[str, np.ndarray]:
    return {split: digit_drawing.labels(split) for split in LABELS}


@pytest.mark.parametrize("split", LABELS)
def test_labels_are_frozen(labels: dict[str, np.ndarray], split: str) -> None:
    assert hashlib.sha256(labels[split].astype("<i4").tobytes()).hexdigest() == LABELS[split]


@pytest.mark.parametrize("split", LABELS)
def test_class_shares_are_those_of_svhn(labels: dict[str, np.ndarray], split: str) -> None:
    svhn = np.array(digit_drawing.SVHN_COUNTS[split])
    size = {"train": 20_000, "test": 5_000}[split]
    counts = np.bincount(labels[split])
    assert counts.sum() == size
    assert abs(counts - svhn / svhn.sum() * size).max() < 1


@pytest.mark.parametrize("example", GOLDEN)
def test_pictures_are_frozen(labels: dict[str, np.ndarray], example: tuple[str, int]) -> None:
    split, index = example
    image = digit_drawing.draw(split, index, int(labels[split][index]))
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    small = image.reshape(8, 4, 8, 4, 3).mean((1, 3, 4))
    assert abs(small - GOLDEN[example]).max() < 6


@pytest.mark.skipif(
    (PIL.__version__, features.version("freetype2")) != DRAWN_BY,
    reason="other versions of Pillow or FreeType",
)
def test_pixels_are_frozen_with_the_same_libraries(labels: dict[str, np.ndarray]) -> None:
    drawn = [digit_drawing.draw(split, index, int(labels[split][index])) for split, index in GOLDEN]
    assert hashlib.sha256(b"".join(image.tobytes() for image in drawn)).hexdigest() == PIXELS


def test_drawn_numbers_are_frozen() -> None:
    numbers = [digit_drawing.generator(split, 7).integers(0, 1 << 32, 2).tolist() for split in LABELS]
    assert numbers == [[1358310766, 2725061656], [2805004850, 739422690]]


def test_the_label_is_what_is_drawn() -> None:
    """The same example with another digit differs in the middle, where the digit stands, only."""
    eight, one = (digit_drawing.draw("train", 5, label).astype(int) for label in (8, 1))
    difference = abs(eight - one).max(-1)
    assert difference[8:24, 8:24].max() > 60


def test_examples_do_not_depend_on_each_other(labels: dict[str, np.ndarray]) -> None:
    first = digit_drawing.draw("train", 3, 6)
    digit_drawing.draw("train", 4, 6)
    np.testing.assert_array_equal(digit_drawing.draw("train", 3, 6), first)
    assert (digit_drawing.draw("test", 3, 6) != first).any()


def test_contrast_is_left_in_every_picture(labels: dict[str, np.ndarray]) -> None:
    """Colours differ by 0.25 or more in brightness before blur and noise; nothing is one flat area."""
    for index in range(100):
        image = digit_drawing.draw("test", index, int(labels["test"][index]))
        assert image.mean(-1).std() > 6


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
