"""`folder:PATH`: PNG and JPEG files, one sub-folder for each class.

    data = load_folder(Request("folder:/data/birds"))

    /data/birds/train/robin/1.png ...            with train/ and, optional, val/ (or validation/) and test/
    /data/birds/robin/1.png ...                  or the classes directly

Without test/, a stratified, seeded 20 % becomes the test split, and a log line says so.
"""

import concurrent.futures
import logging
import os
import pathlib

import numpy as np
from PIL import Image, ImageOps

from fairat_tf.data.dataset import DataError, Dataset, Split
from fairat_tf.data.images import resize
from fairat_tf.data.sources import Request
from fairat_tf.data.splitting import split_validation

TEST_SHARE = 0.2
_ENDINGS = (".png", ".jpg", ".jpeg")
_VALIDATION = ("val", "validation")
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
_WIDE = ("I", "I;16", "I;16B")


def load_folder(request: Request) -> Dataset:
    """Returns the images below `request.argument`; class names are the sub-folders' names, sorted.

    Images are grey (one channel) if all files are; alpha is dropped, EXIF rotation applied.

    Raises:
      DataError: no such folder, no classes, a class without images, other classes in another split, a file
        that is no readable image, or images of different sizes without `image_size`.
    """
    root = pathlib.Path(request.argument).expanduser()
    if not request.argument or not root.is_dir():
        raise DataError(
            f"{request.name}: no folder {str(root)!r}; expected one sub-folder of images a class."
        )
    folders = _split_folders(root)
    names = _folders(folders["train"])
    if not names:
        raise DataError(f"{request.name}: no sub-folder in {folders['train']}; expected one for each class.")
    for folder in folders.values():
        _check_classes(folder, names)
    listed = {split: _files(folder, names) for split, folder in folders.items()}
    splits = _read_all(listed, request)
    train, test = splits["train"], splits.get("test")
    if test is None:
        logging.warning("%s has no test/: a stratified 20 %% of train becomes the test split.", request.name)
        train, test = split_validation(train, TEST_SHARE, request.seed, len(names))
    return Dataset(request.name, tuple(names), train, test, splits.get("validation"))


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    if not (root / "train").is_dir():
        return {"train": root}
    found = {"train": root / "train", "test": root / "test"}
    validation = [root / name for name in _VALIDATION if (root / name).is_dir()]
    found |= {"validation": validation[0]} if validation else {}
    return {split: folder for split, folder in found.items() if folder.is_dir()}


def _folders(folder: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _check_classes(folder: pathlib.Path, names: list[str]) -> None:
    different = sorted(set(names) ^ set(_folders(folder)))
    if different:
        raise DataError(
            f"{folder}: every split needs the same classes; {', '.join(different)} is in one of them only."
        )


def _files(folder: pathlib.Path, names: list[str]) -> list[tuple[pathlib.Path, int]]:
    """Returns (file, label) of all images, by class and file name."""
    listed: list[tuple[pathlib.Path, int]] = []
    for label, name in enumerate(names):
        files = sorted(path for path in (folder / name).iterdir() if path.name[0] != ".")
        images = [path for path in files if path.suffix.lower() in _ENDINGS]
        if not images:
            raise DataError(f"{folder / name}: no .png, .jpg or .jpeg file in it ({len(files)} others).")
        listed += [(path, label) for path in images]
    return listed


def _read_all(listed: dict[str, list[tuple[pathlib.Path, int]]], request: Request) -> dict[str, Split]:
    from tqdm import tqdm

    paths = [path for files in listed.values() for path, _ in files]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        reading = pool.map(lambda path: _read(path, request.image_size), paths)
        images = list(
            tqdm(reading, f"Reading {request.name}", len(paths), delay=2, unit=" images", leave=False)
        )
    _check_sizes(paths, images, request)
    if any(image.shape[-1] == 3 for image in images):
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    splits, start = {}, 0
    for split, files in listed.items():
        labels = np.array([label for _, label in files], np.int32)
        splits[split] = Split(np.stack(images[start : start + len(files)]), labels)
        start += len(files)
    return splits


def _check_sizes(paths: list[pathlib.Path], images: list[np.ndarray], request: Request) -> None:
    first = images[0].shape[:2]
    other = next((row for row, image in enumerate(images) if image.shape[:2] != first), None)
    if other is not None:
        height, width = images[other].shape[:2]
        sizes = f"{paths[0]} is {first[1]}x{first[0]}, {paths[other]} {width}x{height}"
        raise DataError(f"{request.name}: images of different sizes ({sizes}); give --image_size.")


def _read(path: pathlib.Path, image_size: int) -> np.ndarray:
    """Returns the image in `path` as uint8 [H, W, 1 or 3]."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            pixels = _pixels(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no readable PNG or JPEG image ({error}); replace or remove it.") from error
    return resize(pixels, image_size) if image_size else pixels


def _pixels(picture: Image.Image) -> np.ndarray:
    if picture.mode in _WIDE:
        return np.rint(np.asarray(picture, np.float64) / 257).astype(np.uint8)[..., None]
    if picture.mode in _GREY:
        return np.asarray(picture.convert("L"))[..., None]
    return np.asarray(picture.convert("RGB"))
