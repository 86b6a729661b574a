"""Cutout and Random Erasing: border cases by hand, and the shapes and places that are drawn."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment import erase

MANY = 20000


def black_rows_and_columns(image: np.ndarray) -> tuple[list[int], list[int]]:
    black = (image == 0).all(-1)
    assert (black == black.any(1)[:, None] & black.any(0)[None]).all(), "the black part is a rectangle"
    return np.flatnonzero(black.any(1)).tolist(), np.flatnonzero(black.any(0)).tolist()


@pytest.mark.parametrize(
    ("size", "centre", "rows", "columns"),
    [
        (4, (3, 4), [1, 2, 3, 4], [2, 3, 4, 5]),  # inside: from centre - 2, four lines
        (4, (0, 0), [0, 1], [0, 1]),  # cut at the upper left corner
        (4, (5, 7), [3, 4, 5], [5, 6, 7]),  # cut at the lower right corner of 6 x 8
        (3, (2, 2), [1, 2, 3], [1, 2, 3]),  # odd: centred
        (1, (5, 0), [5], [0]),
        (40, (2, 2), list(range(6)), list(range(8))),  # larger than the image
    ],
)
def test_cutout_borders(size: int, centre: tuple[int, int], rows: list[int], columns: list[int]) -> None:
    images = tf.fill([1, 6, 8, 3], 0.7)
    got = erase.Cutout(size).apply(images, {"centre": tf.constant([centre])}).numpy()[0]
    assert black_rows_and_columns(got) == (rows, columns)
    assert set(np.unique(got)) <= {np.float32(0), np.float32(0.7)}


def test_cutout_centres_are_uniform() -> None:
    centre = erase.Cutout(4).draw(rng.key(0, "test"), MANY, (6, 8, 3))["centre"].numpy()
    pairs = np.zeros((6, 8))
    np.add.at(pairs, tuple(centre.T), 1)
    assert np.abs(pairs - MANY / 48).max() < 5 * np.sqrt(MANY / 48)


def test_erase_by_hand() -> None:
    images = tf.fill([2, 3, 4, 1], 0.5)
    got = erase.erase(images, tf.constant([[1, 2, 2, 1], [0, 0, 0, 0]])).numpy()[..., 0]
    assert got[0].tolist() == [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.0, 0.5], [0.5, 0.5, 0.0, 0.5]]
    assert (got[1] == 0.5).all()


def test_random_erasing_distribution() -> None:
    """Probability, area, aspect ratio and place on a 64 x 64 image, where rounding matters little."""
    box = erase.RandomErasing(0.5).draw(rng.key(0, "test"), MANY, (64, 64, 3))["box"].numpy()
    erased = box[box[:, 2] > 0]
    assert abs(len(erased) / MANY - 0.5) < 5 * 0.5 / np.sqrt(MANY)
    assert (box[box[:, 2] == 0] == 0).all()
    top, left, height, width = erased.T
    assert min(top.min(), left.min()) == 0
    assert max((top + height).max(), (left + width).max()) == 64
    area = height * width / 64**2
    assert 0.018 < area.min() < 0.022
    assert 0.32 < area.max() < 0.34
    assert abs(area.mean() - (0.02 + 0.33) / 2) < 0.003
    ratio = np.log(height / width)
    assert abs(ratio.mean() - (np.log(0.3) + np.log(3.3)) / 2) < 0.03
    assert np.log(0.3) - 0.15 < ratio.min() < np.log(0.3) + 0.15
    assert np.log(3.3) - 0.15 < ratio.max() < np.log(3.3) + 0.15
    place = top / (64 - height)
    assert abs(place.mean() - 0.5) < 0.01
    assert abs(np.mean(place < 0.25) - 0.25) < 0.03


def test_erasing_always_and_never() -> None:
    shape = (32, 32, 3)
    always = erase.RandomErasing(1.0, 0.02, 0.5).draw(rng.key(0, "test"), 2000, shape)["box"].numpy()
    assert (always[:, 2:] > 0).all(), "ten attempts always find a rectangle here"
    assert (always[:, 2:] < 32).all()
    never = erase.RandomErasing(0.0).draw(rng.key(0, "test"), 2000, shape)["box"].numpy()
    assert (never == 0).all()


def test_no_rectangle_that_fits() -> None:
    """The whole area with a height-to-width ratio other than 1 never fits: nothing is erased."""
    box = erase.RandomErasing(1.0, 1.0, 1.0).draw(rng.key(0, "test"), 100, (32, 32, 3))["box"].numpy()
    assert (box == 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: erase.Cutout(0),
        lambda: erase.RandomErasing(1.5),
        lambda: erase.RandomErasing(0.5, 0.4, 0.3),
        lambda: erase.RandomErasing(0.5, 0.0, 0.3),
    ],
)
def test_impossible_values(make: object) -> None:
    with pytest.raises(ValueError, match="received"):
        make()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
