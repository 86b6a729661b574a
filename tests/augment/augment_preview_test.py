"""The contact sheet: its pixels by hand, and the command from flags to PNG."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairat_tf import augment_preview
from fairat_tf.augment import sheet


def run(*flags: str) -> int:
    return augment_preview.COMMAND.run(augment_preview.main, ["augment_preview", *flags])


def test_sheet_by_hand() -> None:
    """Two grey images of 1 x 2 pixels, one draw that changes nothing, scale 2, gaps of two white lines."""
    images = np.array([[10, 20], [30, 40]], np.uint8).reshape(2, 1, 2, 1)
    got = sheet.contact_sheet(images, "none", draws=1, scale=2)
    white, first, second = [255, 255], [10, 10, 20, 20], [30, 30, 40, 40]
    line = [[255] * 14] * 2
    rows = [*line, *[[*white, *tile, *white, *tile, *white] for tile in (first, first)], *line]
    rows += [*[[*white, *tile, *white, *tile, *white] for tile in (second, second)], *line]
    np.testing.assert_array_equal(got, np.repeat(np.array(rows)[..., None], 3, axis=2))


def test_columns_are_different_draws_and_the_seed_counts() -> None:
    pictures = sheet.sample_pictures(2)
    got = sheet.contact_sheet(pictures, "crop", draws=3)
    tiles = [got[2:34, 2 + 34 * i : 34 + 34 * i] for i in range(4)]
    np.testing.assert_array_equal(tiles[0], pictures[0])
    assert all(np.any(tiles[i] != tiles[j]) for i in range(4) for j in range(i))
    np.testing.assert_array_equal(sheet.contact_sheet(pictures, "crop", draws=3), got)
    assert np.any(sheet.contact_sheet(pictures, "crop", draws=3, seed=1) != got)


def test_mixing_is_shown_too() -> None:
    images = np.repeat(np.array([0, 200], np.uint8), 16 * 16 * 3).reshape(2, 16, 16, 3)
    got = sheet.contact_sheet(images, "mixup", draws=12)
    assert len(np.unique(got)) > 4, "values between the two images appear"


def test_command_writes_a_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "preview.png"
    flags = ["--augmentation=cutout:8", "--examples=2", "--draws=3", "--scale=1", f"--output={output}"]
    assert run(*flags) == 0
    assert str(output) in capsys.readouterr().out
    expected = sheet.contact_sheet(sheet.sample_pictures(2), "cutout:8", draws=3)
    np.testing.assert_array_equal(np.asarray(Image.open(output)), expected)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--augmentation=cutot"], 2, "Did you mean 'cutout'"),
        (["--augmentation=cutout:x"], 2, "takes size"),
        (["--draws=0"], 2, "draws"),
        (["--output=/nowhere/preview.png", "--augmentation=none"], 7, "cannot write /nowhere/preview.png"),
        (["--dataset=folder:/nowhere", "--augmentation=none"], 3, "/nowhere"),
    ],
)
def test_errors_are_one_line(
    flags: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*flags) == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_classes_take_turns() -> None:
    labels = np.array([2, 2, 0, 0, 0, 1, 2])
    assert augment_preview.in_turn(labels).tolist() == [2, 5, 0, 3, 1, 4, 6]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
