"""Held: folders of PNG and JPEG files, read back pixel by pixel, and every way in which they can be wrong."""

import pathlib
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fairat_tf import data
from fairat_tf.data import image_folder
from fairat_tf.data.dataset import DataError, Dataset

COLOURS = {"blue": (10, 20, 200), "red": (200, 20, 10)}


def fill(folder: pathlib.Path, count: int = 3, size: tuple[int, int] = (6, 4), ending: str = "png") -> None:
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.full((size[1], size[0], 3), colour, np.uint8)
            pixels[0, 0] = number
            Image.fromarray(pixels).save(folder / name / f"{number:02}.{ending}")


def load(folder: pathlib.Path, image_size: int = 0) -> Dataset:
    return data.load(f"folder:{folder}", image_size=image_size)


def test_three_splits_are_read_as_they_lie(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "train", 3)
    fill(tmp_path / "val", 2)
    fill(tmp_path / "test", 1)
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "red" / "notes.txt").write_text("no image")
    found = load(tmp_path)
    assert found.class_names == ("blue", "red")
    assert found.image_shape == (4, 6, 3)
    assert {name: split.labels.tolist() for name, split in found.splits.items()} == {
        "train": [0, 0, 0, 1, 1, 1],
        "validation": [0, 0, 1, 1],
        "test": [0, 1],
    }
    assert found.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert found.train.images[4, 3, 5].tolist() == [200, 20, 10]


def test_validation_may_be_written_out(tmp_path: pathlib.Path) -> None:
    for folder, count in (("train", 3), ("validation", 2), ("test", 1)):
        fill(tmp_path / folder, count)
    found = load(tmp_path)
    assert {name: len(split) for name, split in found.splits.items()} == {
        "train": 6, "validation": 4, "test": 2,
    }  # fmt: skip
    assert found.validation.images[:, 0, 0, 0].tolist() == [0, 1, 0, 1]
    fill(tmp_path / "val", 2)
    with pytest.raises(DataError, match="both val/ and validation/"):
        load(tmp_path)


def test_what_is_not_read_is_told(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder, count in (("train", 3), ("valid", 2), ("test", 1), ("testing", 1)):
        fill(tmp_path / folder, count)
    (tmp_path / "train/red/17.webp").write_bytes(b"RIFF")
    (tmp_path / "train/red/18.GIF").write_bytes(b"GIF")
    found = load(tmp_path)
    assert found.validation.labels.tolist() == [0, 0, 1, 1]
    assert "red: 2 files are no PNG or JPEG and not read (.gif, .webp)" in caplog.text
    assert "not read: testing;" in caplog.text and "blue" not in caplog.text


def test_a_picture_whose_notes_cannot_be_rewritten_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(picture: Any) -> Any:
        raise struct.error("required argument is not an integer")

    fill(tmp_path)
    monkeypatch.setattr(image_folder.ImageOps, "exif_transpose", broken)
    with pytest.raises(DataError, match=r"00\.png: no readable PNG or JPEG image"):
        load(tmp_path)


def test_without_test_folder_a_fifth_is_carved_and_said(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, 10)
    found = load(tmp_path)
    assert (found.train.counts(2).tolist(), found.test.counts(2).tolist()) == ([8, 8], [2, 2])
    assert "20 % of train becomes the test split" in caplog.text


def in_groups(folder: pathlib.Path, counts: dict[str, int]) -> None:
    """Writes "CLASS/GROUP" -> so many images; each is filled with its number."""
    for place, count in counts.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(np.full((4, 6, 3), number, np.uint8)).save(folder / place / f"{number}.png")


def test_a_level_of_folders_becomes_groups(tmp_path: pathlib.Path) -> None:
    in_groups(tmp_path / "train", {"cat/night": 2, "cat/day": 1, "dog/day": 2, "dog/.trash": 1})
    in_groups(tmp_path / "test", {"cat/fog": 1, "cat/night": 0, "dog/day": 3})
    found = load(tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.group_names == {"group": ("day", "fog", "night")}
    rows = {
        name: [
            (found.class_names[label], found.group_names["group"][group], int(image[0, 0, 0]))
            for image, label, group in zip(split.images, split.labels, split.groups["group"], strict=True)
        ]
        for name, split in found.splits.items()
    }
    assert rows == {
        "train": [("cat", "day", 0), ("cat", "night", 0), ("cat", "night", 1),
                  ("dog", "day", 0), ("dog", "day", 1)],
        "test": [("cat", "fog", 0), ("dog", "day", 0), ("dog", "day", 1), ("dog", "day", 2)],
    }  # fmt: skip


def test_groups_survive_the_carved_test_split(tmp_path: pathlib.Path) -> None:
    in_groups(tmp_path, {"cat/day": 10, "dog/day": 5, "dog/night": 5})
    found = load(tmp_path)
    both = np.concatenate([split.groups["group"] for split in found.splits.values()])
    assert np.bincount(both).tolist() == [15, 5]
    assert not found.train.groups["group"][found.train.labels == 0].any()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"cat/day": 3, "dog": 3}, "dog holds images, but .*cat folders of images"),
        ({"cat/day": 3, "cat": 1, "dog/day": 3}, "expected the same depth"),
        ({"training/cat": 3, "testing/cat": 3}, "look like splits, not classes"),
        ({"cat/day": 3, "dog/day": 0}, r"dog: no .png, .jpg or .jpeg file in it \(1 others\)"),
    ],
)
def test_unusable_levels(tmp_path: pathlib.Path, counts: dict[str, int], words: str) -> None:
    in_groups(tmp_path, counts)
    with pytest.raises(DataError, match=words):
        load(tmp_path)


def test_jpeg_is_close_to_what_was_saved(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, 5, size=(16, 16), ending="JPEG")
    middle = load(tmp_path).train.images[0, 8:, 8:].astype(int)
    assert abs(middle - np.array(COLOURS["blue"])).max() <= 10


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_pictures_are_turned_as_their_camera_says(
    tmp_path: pathlib.Path, orientation: int, turns: int, ending: str
) -> None:
    fill(tmp_path, 5, ending=ending)
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8], pixels[:8, 16:] = 250, 120  # no turn leaves it as it is
    exif = Image.Exif()
    exif[0x0112] = orientation
    for path in tmp_path.glob("*/*"):
        Image.fromarray(pixels).save(path, exif=exif)
    for image in _all(load(tmp_path)):
        np.testing.assert_allclose(image, np.rot90(pixels, turns), atol=0 if ending == "png" else 10)


def test_grey_only_if_all_are_grey(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, 5)
    for name, value in (("blue", 7), ("red", 9)):
        for path in (tmp_path / name).iterdir():
            Image.fromarray(np.full((4, 6), value, np.uint8)).save(path)
    found = load(tmp_path)
    assert found.image_shape == (4, 6, 1)
    assert set(found.train.images[found.train.labels == 1].ravel()) == {9}
    Image.fromarray(np.full((4, 6, 3), (1, 2, 3), np.uint8)).save(tmp_path / "blue" / "00.png")
    assert load(tmp_path).image_shape == (4, 6, 3)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, 5)
    for path in tmp_path.glob("*/*.png"):
        Image.fromarray(np.full((4, 6), 128 * 257, np.uint16)).save(path)
    assert set(load(tmp_path).train.images.ravel()) == {128}


def test_alpha_is_dropped(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, 5)
    Image.fromarray(np.full((4, 6, 4), (9, 8, 7, 0), np.uint8)).save(tmp_path / "blue" / "00.png")
    assert {tuple(image[0, 0]) for image in _all(load(tmp_path))} >= {(9, 8, 7)}


def _all(found: Dataset) -> np.ndarray:
    return np.concatenate([split.images for split in found.splits.values()])


def test_mixed_sizes_need_a_size(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, 5)
    Image.new("RGB", (9, 9), (200, 20, 10)).save(tmp_path / "red" / "00.png")
    with pytest.raises(DataError, match=r"6x4.*9x9.*--image_size"):
        load(tmp_path)
    found = load(tmp_path, image_size=3)
    assert found.image_shape == (3, 3, 3)
    assert found.train.images[found.train.labels == 1][:, 2, 2].tolist() == [[200, 20, 10]] * 4


def test_shrinking_takes_the_mean_of_the_area(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, 5, size=(4, 4))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    for path in tmp_path.glob("*/*.png"):
        Image.fromarray(pixels).save(path)
    means = pixels.reshape(2, 2, 2, 2, 3).mean((1, 3))
    assert abs(load(tmp_path, image_size=2).train.images[0] - means).max() <= 0.51


@pytest.mark.parametrize("content", [b"", b"no image at all", "cut"])
def test_corrupt_image_is_named(tmp_path: pathlib.Path, content: bytes | str) -> None:
    fill(tmp_path)
    path = tmp_path / "red" / "01.png"
    path.write_bytes(path.read_bytes()[:60] if isinstance(content, str) else content)
    with pytest.raises(DataError, match=r"red/01\.png.*replace or remove") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_no_classes(tmp_path: pathlib.Path) -> None:
    for folder, words in ((tmp_path / "none", "no folder"), (tmp_path, "no sub-folder")):
        with pytest.raises(DataError, match=words):
            load(folder)
    with pytest.raises(DataError, match="no folder"):
        data.load("folder:")


def test_class_without_images_is_named(tmp_path: pathlib.Path) -> None:
    fill(tmp_path)
    (tmp_path / "white").mkdir()
    (tmp_path / "white" / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"white: no .png, .jpg or .jpeg file in it \(1 others\)"):
        load(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_splits_need_the_same_classes(tmp_path: pathlib.Path, split: str) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    (tmp_path / split / "white").mkdir()
    with pytest.raises(DataError, match="white is in one of them only"):
        load(tmp_path)


def test_one_class_only(tmp_path: pathlib.Path) -> None:
    fill(tmp_path)
    for path in (tmp_path / "red").iterdir():
        path.unlink()
    (tmp_path / "red").rmdir()
    with pytest.raises(DataError, match="at least two classes"):
        load(tmp_path)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
