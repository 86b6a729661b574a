"""Held: `street_digits` is drawn once through TFDS, read back exactly, and needs no network."""

import pathlib
from typing import Any

import numpy as np
import pytest

from fairat_tf import data
from fairat_tf.data import digit_drawing
from fairat_tf.data.dataset import DataError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_drawing, "SIZES", {"train": 80, "test": 40})


def never(*args: Any, **keywords: Any) -> None:
    raise AssertionError("must not be called")


def test_prepared_once_and_read_back_exactly(
    small: None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests.get", never)
    first = data.load("street_digits", data_dir=str(tmp_path), download=False)
    drawn = {
        split: [digit_drawing.draw(split, index, int(label)) for index, label in enumerate(labels)]
        for split in ("train", "test")
        for labels in [digit_drawing.labels(split)]
    }
    np.testing.assert_array_equal(first.train.images, np.stack(drawn["train"]))
    np.testing.assert_array_equal(first.test.images, np.stack(drawn["test"]))
    np.testing.assert_array_equal(first.train.labels, digit_drawing.labels("train"))
    assert first.class_names == tuple("0123456789")
    monkeypatch.setattr(digit_drawing, "draw", never)
    second = data.load("street_digits", data_dir=str(tmp_path))
    assert second.fingerprint() == first.fingerprint()


def test_other_sizes_and_limits(small: None, tmp_path: pathlib.Path) -> None:
    found = data.load("street_digits", data_dir=str(tmp_path), image_size=16, limit_train=20, limit_test=10)
    assert found.image_shape == (16, 16, 3)
    assert (len(found.train), len(found.test)) == (20, 10)
    assert found.train.counts(10).min() == found.test.counts(10).min() == 1


def test_folder_that_cannot_be_written(small: None, tmp_path: pathlib.Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder is needed")
    with pytest.raises(DataError, match=r"street_digits.*") as caught:
        data.load("street_digits", data_dir=str(blocked))
    assert "\n" not in str(caught.value)


def test_broken_drawing_leaves_nothing_behind(
    small: None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(digit_drawing, "draw", full)
        with pytest.raises(DataError, match="No space left on device.*--data_dir"):
            data.load("street_digits", data_dir=str(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(data.load("street_digits", data_dir=str(tmp_path)).train) == 80


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
