"""Held: what `python -m fairat_tf.data NAME` shows and writes, and its exit codes."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fairat_tf.data import __main__ as command
from fairat_tf.data import describe


@pytest.fixture
def npz(tmp_path: pathlib.Path) -> str:
    """Two classes of grey 4x4 images: 30 of value 51 ("dark"), 10 of value 255 ("bright")."""
    labels = np.array([0] * 30 + [1] * 10)
    images = np.where(labels == 0, 51, 255).astype(np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    arrays = {"train_images": images, "train_labels": labels, "test_images": images[25:35]}
    np.savez(
        tmp_path / "a.npz", **arrays, test_labels=labels[25:35], class_names=np.array(["dark", "bright"])
    )
    return f"npz:{tmp_path / 'a.npz'}"


def test_text(npz: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["data", npz]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{npz}: 2 classes, images 4x4x1"
    assert lines[1] == "examples: train 40, test 10"
    # mean (30 * 0.2 + 10 * 1) / 40 = 0.4; deviation sqrt(0.75 * 0.2^2 + 0.25 * 0.6^2) = 0.3464
    assert lines[2].endswith("mean (0.4000), standard deviation (0.3464)")
    assert [line.split() for line in lines[-2:]] == [["dark", "30", "5"], ["bright", "10", "5"]]


def test_contact_sheet_has_a_row_for_each_class(npz: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sheet.png"
    assert command.main(["data", npz, f"--contact_sheet={path}"]) == 0
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (2 * 48, 96 + 12 * 48, 3)
    assert set(sheet[:48, 96:].ravel()) == {51}
    # ten examples of class 1, then an empty (white) place
    assert set(sheet[48:, 96:].ravel()) == {255}


def test_contact_sheet_that_cannot_be_written(npz: str, tmp_path: pathlib.Path) -> None:
    assert command.main(["data", npz, f"--contact_sheet={tmp_path / 'none' / 'sheet.png'}"]) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "known: street_digits"),
        ([], 2, "one data set name"),
        (["a", "b"], 2, "one data set name"),
        (["mnist", "--colour=red"], 2, "colour"),
        (["mnist", "--image_size=-3"], 2, "image_size"),
        (["folder:/no/such/folder"], 3, "no folder"),
        (["svhn"], 3, "train_32x32.mat"),
    ],
)
def test_exit_codes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert command.main(["data", *arguments, f"--data_dir={tmp_path}"]) == code
    shown = capsys.readouterr()
    assert words in shown.err
    assert "Traceback" not in shown.err


def test_missing_data_shows_what_would_be_downloaded(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["data", "cifar10", f"--data_dir={tmp_path}"]) == 3
    shown = capsys.readouterr().err
    assert "--download would fetch" in shown
    assert "cifar-10-binary.tar.gz (1" in shown
    assert describe.downloads("street_digits") == describe.downloads("folder:/data") == ""


def test_help_needs_no_tensorflow() -> None:
    code = (
        "import sys; from fairat_tf.data.__main__ import main; code = main(['data', '--help']); "
        "sys.exit(code or 100 * ('tensorflow' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--contact_sheet" in done.stdout


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
