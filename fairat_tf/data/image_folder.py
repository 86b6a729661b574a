"""`folder:PATH`: PNG and JPEG files, one sub-folder for each class.

    data = load_folder(Request("folder:/data/birds"))

    /data/birds/train/robin/1.png ...            with train/; optional: test/, val/ (valid/, validation/)
    /data/birds/robin/1.png ...                  or the classes directly
    /data/birds/test/robin/garden/1.png ...      with one more level: its folders become group column "group"

Where one class folder holds only folders, all must; the names of this second level are the values of group
column "group", over all classes and splits together (`--group_by=group`). Deeper levels are not read.
Without test/, a stratified 20 % becomes the test split, and a log line says so.
"""

import concurrent.futures
import logging
import os
import pathlib
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from fairat_tf.data.dataset import DataError, Dataset, Split
from fairat_tf.data.images import resize
from fairat_tf.data.sources import Request
from fairat_tf.data.splitting import carve_test

GROUP = "group"
"""Name of the column that a second level of folders becomes."""
_ENDINGS = (".png", ".jpg", ".jpeg")
_VALIDATION = ("val", "valid", "validation")
_SPLITS = {"test", "testing", "train", "training", *_VALIDATION}
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
_WIDE = ("I", "I;16", "I;16B")


class _File(NamedTuple):
    path: pathlib.Path
    label: int
    group: int


def load_folder(request: Request) -> Dataset:
    """Returns the images below `request.argument`; class names are the sub-folders' names, sorted.

    Images are grey (one channel) if all files are; alpha is dropped, EXIF rotation applied.

    Raises:
      DataError: no such folder, no classes, a class without images, other classes in another split, groups
        in some classes only, a file that is no readable image, or images of different sizes without
        `image_size`.
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
    groups = _groups(folders, names, request)
    listed = {split: _files(folder, names, groups) for split, folder in folders.items()}
    splits = _read_all(listed, bool(groups), request)
    train, test = splits["train"], splits.get("test")
    drawn = test is None
    if test is None:
        logging.warning("%s has no test/: a stratified 20 %% of train becomes the test split.", request.name)
        train, test = carve_test(train, len(names))
    group_names = {GROUP: tuple(groups)} if groups else {}
    return Dataset(request.name, tuple(names), train, test, splits.get("validation"), group_names, drawn)


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    if not (root / "train").is_dir():
        return {"train": root}
    found = {"train": root / "train", "test": root / "test"}
    validation = [root / name for name in _VALIDATION if (root / name).is_dir()]
    if len(validation) > 1:
        there = "/ and ".join(folder.name for folder in validation)
        raise DataError(f"{root}: has both {there}/; expected one of them.")
    used = {"train", "test", *_VALIDATION}
    if unread := [name for name in _folders(root) if name not in used]:
        logging.warning("%s: not read: %s; beside train/, val/ and test/ are.", root, ", ".join(unread))
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


def _groups(folders: dict[str, pathlib.Path], names: list[str], request: Request) -> list[str]:
    """Returns the sorted names of the second level of folders; empty where the classes hold images."""
    classes = [folder / name for folder in folders.values() for name in names]
    with_images = [folder for folder in classes if _images(folder)]
    inner = {folder: [name for name in _folders(folder) if _images(folder / name)] for folder in classes}
    grouped = [folder for folder in classes if inner[folder]]
    if grouped and with_images:
        raise DataError(
            f"{request.name}: {with_images[0]} holds images, but {grouped[0]} folders of images (groups); "
            "expected the same depth in all classes."
        )
    if grouped and _SPLITS & {name.lower() for name in names}:
        raise DataError(
            f"{request.name}: {', '.join(names)} look like splits, not classes; expected the folders "
            "train/ and, optional, val/ and test/."
        )
    return sorted({name for folder in grouped for name in _folders(folder)})


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path for path in folder.iterdir() if path.name[0] != "." and path.suffix.lower() in _ENDINGS
    )


def _files(folder: pathlib.Path, names: list[str], groups: list[str]) -> list[_File]:
    """Returns all images of a split, by class, group and file name."""
    listed: list[_File] = []
    for label, name in enumerate(names):
        places = {group: folder / name / group for group in groups} or {"": folder / name}
        own = [
            _File(path, label, groups.index(group) if groups else 0)
            for group, place in places.items()
            if place.is_dir()
            for path in _images(place)
        ]
        if not own:
            others = sum(entry.name[0] != "." for entry in (folder / name).iterdir())
            raise DataError(f"{folder / name}: no .png, .jpg or .jpeg file in it ({others} others).")
        _tell_unread(folder / name, list(places.values()))
        listed += own
    return listed


def _tell_unread(folder: pathlib.Path, places: list[pathlib.Path]) -> None:
    """Warns of files beside the images of a class: without them its share of the data is another."""
    there = (entry for place in places if place.is_dir() for entry in place.iterdir())
    others = [
        entry for entry in there
        if entry.name[0] != "." and entry.is_file() and entry.suffix.lower() not in _ENDINGS
    ]  # fmt: skip
    if others:
        kinds = ", ".join(sorted({entry.suffix.lower() or entry.name for entry in others})[:5])
        logging.warning("%s: %d files are no PNG or JPEG and not read (%s).", folder, len(others), kinds)


def _read_all(listed: dict[str, list[_File]], grouped: bool, request: Request) -> dict[str, Split]:
    from tqdm import tqdm

    paths = [path for files in listed.values() for path, _, _ in files]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        reading = pool.map(lambda path: _read(path, request.image_size), paths)
        text, hidden = f"Reading {request.name}", not request.progress
        images = list(tqdm(reading, text, len(paths), False, delay=2, unit=" images", disable=hidden))
    _check_sizes(paths, images, request)
    if any(image.shape[-1] == 3 for image in images):
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    splits, start = {}, 0
    for split, files in listed.items():
        labels = np.array([file.label for file in files], np.int32)
        groups = {GROUP: np.array([file.group for file in files], np.int64)} if grouped else {}
        splits[split] = Split(np.stack(images[start : start + len(files)]), labels, groups)
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
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no readable PNG or JPEG image ({error}); replace or remove it.") from error
    return resize(pixels, image_size) if image_size else pixels


def _pixels(picture: Image.Image) -> np.ndarray:
    if picture.mode in _WIDE:
        return np.rint(np.asarray(picture, np.float64) / 257).astype(np.uint8)[..., None]
    if picture.mode in _GREY:
        return np.asarray(picture.convert("L"))[..., None]
    return np.asarray(picture.convert("RGB"))
