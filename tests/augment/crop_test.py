"""Crops, flips and shifts: hand-made arrays, a padded-slice oracle, and how often each place is drawn."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment import crop

SQUARE = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
MANY = 20000


def shifted(offset: list[int], mirror: int) -> list[list[float]]:
    result = crop.shift(tf.constant(SQUARE), tf.constant([offset]), tf.constant([mirror]))
    return result.numpy()[0, :, :, 0].tolist()


def test_shift_by_hand() -> None:
    assert shifted([0, 0], 0) == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert shifted([0, 0], 1) == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert shifted([1, -1], 0) == [[0, 4, 5], [0, 7, 8], [0, 0, 0]]
    assert shifted([1, -1], 1) == [[5, 4, 0], [8, 7, 0], [0, 0, 0]]
    assert shifted([-3, 0], 0) == [[0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_crop_flip_is_pad_slice_flip() -> None:
    """Each example equals: pad with zeros, cut a window, mirror it."""
    images = np.random.default_rng(0).random((50, 6, 9, 3), np.float32)
    augmentation = crop.CropFlip(pad=2)
    parameters = augmentation.draw(rng.key(0, "test"), 50, (6, 9, 3))
    got = augmentation.apply(tf.constant(images), parameters).numpy()
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    for i in range(50):
        row, column = parameters["offset"].numpy()[i] + 2
        window = padded[i, row : row + 6, column : column + 9]
        expected = window[:, ::-1] if parameters["mirror"].numpy()[i] else window
        np.testing.assert_array_equal(got[i], expected)


def test_crop_and_flip_draw_as_crop_flip() -> None:
    seed, shape = rng.key(1, "test"), (8, 8, 3)
    both = crop.CropFlip(3).draw(seed, 7, shape)
    np.testing.assert_array_equal(both["offset"], crop.Crop(3).draw(seed, 7, shape)["offset"])
    np.testing.assert_array_equal(both["mirror"], crop.Flip().draw(seed, 7, shape)["mirror"])


def test_flip_by_hand() -> None:
    images = tf.repeat(tf.constant(SQUARE), 2, 0)
    got = crop.Flip().apply(images, {"mirror": tf.constant([0, 1])}).numpy()[..., 0]
    assert got[0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert got[1].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]


def test_offsets_are_uniform_and_independent() -> None:
    offset = crop.Crop(4).draw(rng.key(0, "test"), MANY, (32, 32, 3))["offset"].numpy()
    pairs = np.zeros((9, 9))
    np.add.at(pairs, tuple((offset + 4).T), 1)
    expected = MANY / 81
    assert np.abs(pairs - expected).max() < 5 * np.sqrt(expected)
    mirror = crop.Flip().draw(rng.key(0, "test"), MANY, (32, 32, 3))["mirror"].numpy()
    assert abs(mirror.mean() - 0.5) < 5 * 0.5 / np.sqrt(MANY)


def test_cropshift_by_hand() -> None:
    # One row and one column lost: the window [[4, 5], [7, 8]] (corner (1, 0)) is pasted at (0, 1).
    parameters = {"lost": [[1, 1]], "crop": [[1, 0]], "paste": [[0, 1]]}
    parameters = {name: tf.constant(value) for name, value in parameters.items()}
    got = crop.CropShift().apply(tf.constant(SQUARE), parameters).numpy()[0, :, :, 0]
    assert got.tolist() == [[0, 4, 5], [0, 7, 8], [0, 0, 0]]


def test_cropshift_is_cut_and_paste() -> None:
    images = 0.1 + np.random.default_rng(0).random((60, 12, 11, 3), np.float32)
    augmentation = crop.CropShift(0, 10)
    drawn = augmentation.draw(rng.key(0, "test"), 60, (12, 11, 3))
    got = augmentation.apply(tf.constant(images), drawn).numpy()
    lost, cut, paste = (drawn[name].numpy() for name in ("lost", "crop", "paste"))
    for i in range(60):
        height, width = (12, 11) - lost[i]
        window = images[i, cut[i, 0] : cut[i, 0] + height, cut[i, 1] : cut[i, 1] + width]
        assert window.shape[:2] == (height, width), "the window lies inside the image"
        expected = np.zeros_like(images[i])
        expected[paste[i, 0] : paste[i, 0] + height, paste[i, 1] : paste[i, 1] + width] = window
        np.testing.assert_array_equal(got[i], expected)


def test_cropshift_distribution() -> None:
    """Strength uniform in {2..5}, its horizontal part uniform in {0..strength}, places uniform."""
    drawn = crop.CropShift(2, 5).draw(rng.key(0, "test"), MANY, (32, 32, 3))
    lost, cut, paste = (drawn[name].numpy() for name in ("lost", "crop", "paste"))
    strength = lost.sum(1)
    for s in range(2, 6):
        chosen = lost[strength == s, 1]
        assert abs(len(chosen) - MANY / 4) < 5 * np.sqrt(MANY / 4)
        counts = np.bincount(chosen, minlength=s + 1)
        assert len(counts) == s + 1
        assert np.abs(counts - len(chosen) / (s + 1)).max() < 5 * np.sqrt(len(chosen) / (s + 1))
    for place in (cut, paste):
        assert (place >= 0).all()
        assert (place <= lost).all()
        counts = np.bincount(place[lost[:, 0] == 3, 0], minlength=4)
        assert np.abs(counts - counts.sum() / 4).max() < 5 * np.sqrt(counts.sum() / 4)
    independent = cut[lost[:, 0] == 1, 0] * 2 + paste[lost[:, 0] == 1, 0]
    counts = np.bincount(independent, minlength=4)
    assert np.abs(counts - counts.sum() / 4).max() < 5 * np.sqrt(counts.sum() / 4)


def test_draw_below_never_reaches_its_bound() -> None:
    largest = tf.constant(1 - 2.0**-24)
    bounds = tf.range(1, 5000)
    np.testing.assert_array_equal(crop.draw_below(largest, bounds), bounds - 1)


@pytest.mark.parametrize(
    "make", [lambda: crop.Crop(-1), lambda: crop.CropFlip(-1), lambda: crop.CropShift(5, 4)]
)
def test_impossible_values(make: object) -> None:
    with pytest.raises(ValueError, match="received"):
        make()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
