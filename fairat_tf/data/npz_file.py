"""`npz:PATH`: arrays saved by `np.savez`; pickled objects are never read.

    np.savez("my.npz", images=images, labels=labels)
    data = load_npz(Request("npz:my.npz"))

Arrays: `train_images`, `train_labels`, `test_images`, `test_labels`, and optional `val_images`,
`val_labels`. `images` and `labels` may stand for those of training. Without test images a stratified 20 % of
the training images becomes the test split. Optional:
`class_names` (text [K]) and group columns `train_groups_NAME` (`groups_NAME` in the short form): text,
integers or booleans [N].
"""

import dataclasses
import logging
import pathlib

import numpy as np

from fairat_tf import errors
from fairat_tf.data import checks
from fairat_tf.data.dataset import DataError, Dataset, Split
from fairat_tf.data.group_columns import coded
from fairat_tf.data.images import resize, to_uint8
from fairat_tf.data.sources import Request
from fairat_tf.data.splitting import carve_test

_PREFIXES = {"train": "train_", "validation": "val_", "test": "test_"}
_SHORT = {**_PREFIXES, "train": ""}


def load_npz(request: Request) -> Dataset:
    """Returns the arrays in the file `request.argument`.

    Images are uint8, or floats in [0, 1] that are rounded to 8 bits; [N, H, W] or [N, H, W, C]. Labels are
    integers from 0; K is the number of `class_names`, or the largest training label + 1.

    Raises:
      DataError: no such file, not an .npz file, missing or pickled arrays, unusable values.
    """
    path = pathlib.Path(request.argument).expanduser()
    if not request.argument or not path.is_file():
        raise DataError(f"{request.name}: no file {str(path)!r}; expected one written by np.savez.")
    arrays = _arrays(path)
    prefixes = _PREFIXES if "train_images" in arrays else _SHORT
    splits = {
        split: _split(arrays, prefix, path, request.image_size)
        for split, prefix in prefixes.items()
        if split == "train" or f"{prefix}images" in arrays
    }
    _tell_unread(arrays, [prefixes[split] for split in splits], path)
    splits, group_names = _with_groups(splits, arrays, prefixes, path)
    names = _class_names(arrays, splits["train"], path)
    train, test = splits["train"], splits.get("test")
    drawn = test is None
    if test is None:
        logging.warning("%s has no test images: a stratified 20 %% becomes the test split.", request.name)
        checks.check_pairs(f"{request.name} train", train)
        _check_labels(train, len(names), path)
        train, test = carve_test(train, len(names))
    return Dataset(request.name, names, train, test, splits.get("validation"), group_names, drawn)


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                return {name: content[name] for name in content.files}
    except (*errors.DAMAGED, RuntimeError) as error:
        raise DataError(
            f"{path}: not a readable .npz file ({type(error).__name__}); write it again."
        ) from error
    except ValueError as error:
        raise DataError(
            f"{path}: no .npz file of plain arrays; pickled objects are not read. Write it by np.savez."
        ) from error
    raise DataError(f"{path}: expected an .npz file (np.savez), received a single .npy array.")


def _split(arrays: dict[str, np.ndarray], prefix: str, path: pathlib.Path, image_size: int) -> Split:
    missing = [name for name in (f"{prefix}images", f"{prefix}labels") if name not in arrays]
    if missing:
        found = ", ".join(arrays) or "nothing"
        raise DataError(f"{path}: lacks {' and '.join(missing)}; expected train_images, train_labels, "
                        f"test_images, test_labels, or images, labels; received {found}.")  # fmt: skip
    images = to_uint8(arrays[f"{prefix}images"], f"{path} {prefix}images")
    labels = _integers(arrays[f"{prefix}labels"], f"{path} {prefix}labels")
    if image_size and len(images):
        images = np.stack([resize(image, image_size) for image in images])
    return Split(images, np.clip(labels, -1, np.iinfo(np.int32).max).astype(np.int32))


def _tell_unread(arrays: dict[str, np.ndarray], prefixes: list[str], path: pathlib.Path) -> None:
    """Says which arrays have no meaning here; a group column among them is refused, lest it be missed."""
    known = {f"{prefix}{what}" for prefix in prefixes for what in ("images", "labels")} | {"class_names"}
    groups = tuple(f"{prefix}groups_" for prefix in prefixes)
    unread = [name for name in arrays if name not in known and not name.startswith(groups)]
    columns = [name for name in unread if "groups_" in name]
    if columns:
        raise DataError(
            f"{path}: {', '.join(columns)} would not be read; group columns beside these images are called "
            f"{', '.join(f'{marker}NAME' for marker in groups)}"
        )
    if unread:
        logging.warning("%s: arrays that are not read: %s.", path, ", ".join(unread))


def _with_groups(
    splits: dict[str, Split], arrays: dict[str, np.ndarray], prefixes: dict[str, str], path: pathlib.Path
) -> tuple[dict[str, Split], dict[str, tuple[str, ...]]]:
    """Returns the splits with their group columns, and the names of the columns' values."""
    raw: dict[str, dict[str, np.ndarray]] = {}
    for split in splits:
        marker = f"{prefixes[split]}groups_"
        for array in filter(lambda array: array.startswith(marker), arrays):
            raw.setdefault(array.removeprefix(marker), {})[split] = arrays[array]
    group_names: dict[str, tuple[str, ...]] = {}
    for column, values in raw.items():
        found, names = coded(values, f"{path} groups_{column}")
        group_names |= {column: names} if names else {}
        for split, numbers in found.items():
            groups = splits[split].groups | {column: numbers}
            splits = splits | {split: dataclasses.replace(splits[split], groups=groups)}
    return splits, group_names


def _integers(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind not in "iub" or values.ndim == 0 or values.size != len(values):
        kind = f"{values.dtype} {list(values.shape)}"
        raise DataError(f"{where}: expected integers [N], one for each image, received {kind}.")
    return values.reshape(-1).astype(np.int64)


def _class_names(arrays: dict[str, np.ndarray], train: Split, path: pathlib.Path) -> tuple[str, ...]:
    if "class_names" in arrays:
        names = arrays["class_names"].ravel()
        return tuple(
            name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names
        )
    largest = int(train.labels.max(initial=-1))
    if largest >= max(len(train), 2):
        raise DataError(
            f"{path}: train_labels has {largest}, with {len(train)} training examples: expected the classes' "
            "numbers, from 0 and without gaps."
        )
    return tuple(str(label) for label in range(largest + 1))


def _check_labels(split: Split, num_classes: int, path: pathlib.Path) -> None:
    """Labels that no class has would silently stay in train when the test split is carved."""
    wrong = split.labels[(split.labels < 0) | (split.labels >= num_classes)]
    if len(wrong):
        raise DataError(f"{path}: labels must be in [0, {num_classes}), received {wrong[0]}.")
