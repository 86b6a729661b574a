"""SVHN's and CIFAR's files in their authors' formats, with few images, for `--data_dir`."""

import io
import tarfile

import numpy as np
import scipy.io


def svhn_file(path, size, generator):
    images = generator.integers(0, 256, (32, 32, 3, size)).astype(np.uint8)
    scipy.io.savemat(path, {"X": images, "y": (np.arange(size) % 10 + 1)[:, None]})


def cifar_archive(folder, inner, parts, names, classes, generator):
    """Writes the binary archive: for each part (file, size) records of label bytes and 3072 pixels."""
    with tarfile.open(folder / f"{inner[0]}.tar.gz", "w:gz") as tar:
        for name, size in parts:
            fine = np.arange(size, dtype=np.uint8)[:, None] % classes
            pixels = generator.integers(0, 256, (size, 3072)).astype(np.uint8)
            labels = [fine] if classes == 10 else [fine // 5, fine]
            content = np.concatenate([*labels, pixels], 1).tobytes()
            entry = tarfile.TarInfo(f"{inner[1]}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        text = "\n".join(f"name{i}" for i in range(classes)).encode()
        entry = tarfile.TarInfo(f"{inner[1]}/{names}")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))


def write(folder):
    """Writes SVHN's two .mat files and both CIFAR archives; every class has two examples or more."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        svhn_file(folder / f"{split}_32x32.mat", 20, generator)
    batches = [(f"data_batch_{i}.bin", 10) for i in range(1, 6)]
    place = ("cifar-10-binary", "cifar-10-batches-bin")
    cifar_archive(folder, place, [*batches, ("test_batch.bin", 20)], "batches.meta.txt", 10, generator)
    place = ("cifar-100-binary", "cifar-100-binary")
    parts = [("train.bin", 200), ("test.bin", 100)]
    cifar_archive(folder, place, parts, "fine_label_names.txt", 100, generator)
