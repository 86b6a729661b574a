"""What every loaded data set must satisfy before anything trains on it.

check(dataset)      # DataError with one clear line, or nothing
"""

import collections
import logging
import unicodedata

import numpy as np

from fairat_tf.data.dataset import DataError, Dataset, Split

_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")  # control, undecodable, line and paragraph separators
_SHOWN = 10  # classes, in a message


def check(dataset: Dataset) -> None:
    """Raises DataError unless `dataset` can be trained on and evaluated class by class.

    Held: at least two classes with different names, of text; at least one training example of each; at least
    one test example; uint8 images [N, H, W, 1 or 3] of one size in all splits; as many labels as images, all
    in [0, K).
    A class without test examples is only warned about: its accuracy is undefined.
    """
    if dataset.num_classes < 2:
        only = ", ".join(dataset.class_names) or "none"
        raise DataError(f"{dataset.name}: expected at least two classes, received one only ({only}).")
    groups = [text for column in dataset.group_names.items() for text in (column[0], *column[1])]
    for text in (*dataset.class_names, *groups):
        if any(unicodedata.category(letter) in _NO_TEXT for letter in text):
            raise DataError(
                f"{dataset.name}: {ascii(text)} is no name: it holds bytes or signs that are no text."
            )
    twice = {name for name, count in collections.Counter(dataset.class_names).items() if count > 1}
    if twice:
        raise DataError(f"{dataset.name}: class names must differ; {', '.join(sorted(twice))} is used twice.")
    for name, split in dataset.splits.items():
        _check_split(f"{dataset.name} {name}", split, dataset)
    _check_classes(dataset)


def check_pairs(where: str, split: Split) -> None:
    """Raises DataError unless every image has one label and one value of each group column."""
    if len(split.images) != len(split.labels):
        raise DataError(
            f"{where}: {len(split.images)} images but {len(split.labels)} labels; they must pair up."
        )
    for column, values in split.groups.items():
        if values.shape != split.labels.shape:
            raise DataError(f"{where}: group column {column!r} has shape {list(values.shape)}, "
                            f"expected one value for each of {len(split.labels)} images.")  # fmt: skip


def _check_split(where: str, split: Split, dataset: Dataset) -> None:
    check_pairs(where, split)
    if "label" in split.groups:
        raise DataError(f"{where}: group column 'label': that name means the class; give it another.")
    if not len(split):
        raise DataError(f"{where}: no examples.")
    if split.images.ndim != 4 or split.images.shape[-1] not in (1, 3) or split.images.dtype != np.uint8:
        kind = f"{split.images.dtype} {list(split.images.shape)}"
        raise DataError(f"{where}: expected uint8 images [N, H, W, 1 or 3], received {kind}.")
    if split.images.shape[1:] != dataset.train.images.shape[1:]:
        sizes = f"{list(split.images.shape[1:])}, but train has {list(dataset.train.images.shape[1:])}"
        raise DataError(f"{where}: image size {sizes}; give --image_size or correct the data.")
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= dataset.num_classes))
    if len(wrong):
        first = f"example {wrong[0]} has {split.labels[wrong[0]]}"
        raise DataError(f"{where}: labels must be in [0, {dataset.num_classes}), but {first}.")


def _check_classes(dataset: Dataset) -> None:
    empty = _empty(dataset.train, dataset)
    if empty:
        raise DataError(f"{dataset.name} train: no example of class {_named(empty)}; every class needs one.")
    untested = _empty(dataset.test, dataset)
    if untested:
        logging.warning(
            "%s test: no example of class %s; its accuracy is undefined.", dataset.name, _named(untested)
        )


def _named(classes: list[str]) -> str:
    """Returns the classes as one line, of many the first ones."""
    more = f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
    return ", ".join(classes[:_SHOWN]) + more


def _empty(split: Split, dataset: Dataset) -> list[str]:
    counts = split.counts(dataset.num_classes)
    return [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
