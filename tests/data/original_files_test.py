"""Held: SVHN's .mat files and CIFAR's binary archives, written here byte by byte and read back."""

import io
import pathlib
import tarfile

import numpy as np
import pytest
import scipy.io

from fairat_tf import data
from fairat_tf.data.dataset import DataError

RANDOM = np.random.default_rng(0)


def svhn_file(path: pathlib.Path, labels: list[int]) -> np.ndarray:
    """Returns the images [N, 32, 32, 3] that the file holds."""
    images = RANDOM.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    y = np.array(labels, np.uint8)[:, None]
    scipy.io.savemat(path, {"X": np.moveaxis(images, 0, 3), "y": y}, do_compression=True)
    return images


@pytest.fixture
def svhn(tmp_path: pathlib.Path) -> pathlib.Path:
    svhn_file(tmp_path / "train_32x32.mat", [*range(1, 11), 10])
    svhn_file(tmp_path / "test_32x32.mat", [*range(1, 11)])
    return tmp_path


@pytest.mark.parametrize("name", ["svhn", "svhn_cropped"])
def test_svhn_label_ten_is_digit_zero(tmp_path: pathlib.Path, name: str) -> None:
    train = svhn_file(tmp_path / "train_32x32.mat", [10, *range(1, 10), 10])
    test = svhn_file(tmp_path / "test_32x32.mat", [3, 10])
    found = data.load(name, data_dir=str(tmp_path), download=False)
    assert found.train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert found.test.labels.tolist() == [3, 0]
    np.testing.assert_array_equal(found.train.images, train)
    np.testing.assert_array_equal(found.test.images, test)
    assert found.class_names == tuple("0123456789")


def test_svhn_needs_both_files(svhn: pathlib.Path) -> None:
    (svhn / "test_32x32.mat").unlink()
    with pytest.raises(DataError, match="lacks test_32x32.mat"):
        data.load("svhn", data_dir=str(svhn))


def test_svhn_is_resized(svhn: pathlib.Path) -> None:
    assert data.load("svhn", data_dir=str(svhn), image_size=16).image_shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"X": np.zeros((32, 32, 3, 1), np.uint8)}, "no array 'y'"),
        ({"X": np.zeros((32, 32, 3), np.uint8), "y": np.ones((1, 1))}, "expected X uint8"),
        ({"X": np.zeros((32, 32, 3, 1)), "y": np.ones((1, 1))}, "expected X uint8"),
        ({"X": np.zeros((32, 32, 3, 1), np.uint8), "y": np.zeros((1, 1))}, r"in \[1, 10\]"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((1, 1))}, "2 images but 1 labels"),
    ],
)
def test_svhn_in_another_form(svhn: pathlib.Path, content: dict[str, np.ndarray], words: str) -> None:
    scipy.io.savemat(svhn / "train_32x32.mat", content)
    with pytest.raises(DataError, match=words):
        data.load("svhn", data_dir=str(svhn))


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + b" " * 200, b"x" * 1000])
def test_svhn_unreadable(svhn: pathlib.Path, content: bytes) -> None:
    (svhn / "train_32x32.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"train_32x32\.mat"):
        data.load("svhn", data_dir=str(svhn))


def records(labels: list[list[int]]) -> tuple[bytes, np.ndarray]:
    """Returns (content of a CIFAR binary file, the images [N, 32, 32, 3] in it), written pixel by pixel."""
    images = RANDOM.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    content = bytearray()
    for row, image in zip(labels, images, strict=True):
        content += bytes(row)
        for channel in range(3):
            for line in range(32):
                content += image[line, :, channel].tobytes()
    return bytes(content), images


def cifar10_files() -> tuple[dict[str, bytes], list[np.ndarray]]:
    batches = [records([[2 * number], [2 * number + 1]]) for number in range(5)]
    files = {f"data_batch_{number + 1}.bin": content for number, (content, _) in enumerate(batches)}
    test, test_images = records([[9], [0]])
    names = "\n".join(f"name{label}" for label in range(10)) + "\n\n"
    files |= {"test_batch.bin": test, "batches.meta.txt": names.encode()}
    return files, [*(images for _, images in batches), test_images]


def pack(path: pathlib.Path, folder: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def unpacked(folder: pathlib.Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("form", ["archive", "folder", "flat"])
def test_cifar10(tmp_path: pathlib.Path, form: str) -> None:
    files, images = cifar10_files()
    if form == "archive":
        outside = {"../../outside.bin": b"x", **files}
        pack(tmp_path / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", outside)
    else:
        unpacked(tmp_path / "cifar-10-batches-bin" if form == "folder" else tmp_path, files)
    before = sorted(tmp_path.rglob("*"))
    found = data.load("cifar10", data_dir=str(tmp_path), download=False)
    np.testing.assert_array_equal(found.train.images, np.concatenate(images[:5]))
    np.testing.assert_array_equal(found.test.images, images[5])
    assert found.train.labels.tolist() == list(range(10))
    assert found.test.labels.tolist() == [9, 0]
    assert found.class_names[3] == "name3"
    assert sorted(tmp_path.rglob("*")) == before


def test_cifar10_without_names_has_the_known_ones(tmp_path: pathlib.Path) -> None:
    files, _ = cifar10_files()
    del files["batches.meta.txt"]
    unpacked(tmp_path, files)
    assert data.load("cifar10", data_dir=str(tmp_path)).class_names[3] == "cat"


def test_cifar100_uses_fine_labels_and_keeps_coarse(tmp_path: pathlib.Path) -> None:
    train, images = records([[label // 5, label] for label in range(100)])
    test, _ = records([[19, 99]])
    pack(tmp_path / "cifar-100-binary.tar.gz", "cifar-100-binary", {"train.bin": train, "test.bin": test})
    found = data.load("cifar100", data_dir=str(tmp_path), download=False)
    assert found.train.labels.tolist() == list(range(100))
    assert found.train.groups["coarse_label"].tolist() == [label // 5 for label in range(100)]
    np.testing.assert_array_equal(found.train.images, images)
    assert (found.test.labels.tolist(), found.num_classes) == ([99], 100)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_batch_4.bin": None}, "lacks data_batch_4.bin"),
        ({"test_batch.bin": None}, "lacks test_batch.bin"),
        ({"data_batch_2.bin": b"\0" * 3072}, "multiple of 3073"),
        ({"data_batch_2.bin": b""}, "has 0 bytes"),
        ({"data_batch_2.bin": b"\x0b" * 3073}, "has 11"),
    ],
)
def test_cifar10_with_missing_or_cut_files(
    tmp_path: pathlib.Path, change: dict[str, bytes | None], words: str
) -> None:
    files = {**cifar10_files()[0], **change}
    kept = {name: content for name, content in files.items() if content is not None}
    pack(tmp_path / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", kept)
    with pytest.raises(DataError, match=words):
        data.load("cifar10", data_dir=str(tmp_path))


def test_cifar10_archive_that_is_none(tmp_path: pathlib.Path) -> None:
    archive = tmp_path / "cifar-10-binary.tar.gz"
    pack(archive, "cifar-10-batches-py", cifar10_files()[0])
    with pytest.raises(DataError, match="binary version"):
        data.load("cifar10", data_dir=str(tmp_path))
    for content in (b"no archive", archive.read_bytes()[:200]):
        archive.write_bytes(content)
        with pytest.raises(DataError, match="not a readable archive"):
            data.load("cifar10", data_dir=str(tmp_path))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
