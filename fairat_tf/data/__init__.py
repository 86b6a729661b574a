"""Data sets in memory, and the tf.data pipelines that feed training and evaluation.

    data = fairat_tf.data.load("street_digits", limit_train=2000)
    train, validation = fairat_tf.data.split_validation(data.train, 0.1, seed=0, num_classes=data.num_classes)
    for batch in fairat_tf.data.training_batches(train, batch_size=128, seed=0, epoch=0): ...

`python -m fairat_tf.data street_digits` shows a data set.
"""

import dataclasses
import errno
import importlib
from typing import Any

from fairat_tf import errors
from fairat_tf.data.dataset import DataError, Dataset, Split
from fairat_tf.data.sources import PREFIXES, SOURCES, Request, Source, place, source
from fairat_tf.data.specs import Spec, spec
from fairat_tf.data.splitting import limited, split_validation

__all__ = [
    "DataError",
    "Dataset",
    "Spec",
    "Split",
    "evaluation_batches",
    "load",
    "names",
    "place",
    "spec",
    "split_validation",
    "steps_per_epoch",
    "training_batches",
]

_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of a data set that is being prepared
_PIPELINE = ("evaluation_batches", "steps_per_epoch", "training_batches")


def __getattr__(name: str) -> Any:
    if name in _PIPELINE:
        return getattr(importlib.import_module("fairat_tf.data.pipeline"), name)
    raise AttributeError(f"module 'fairat_tf.data' has no attribute {name!r}")


def names() -> list[str]:
    """Returns the names that are known without asking TFDS; `load` takes any TFDS name as well."""
    return [*SOURCES.names(), *(f"{prefix}:PATH" for prefix in PREFIXES.names())]


def load(
    name: str,
    *,
    data_dir: str = "",
    download: bool = True,
    image_size: int = 0,
    limit_train: int = 0,
    limit_test: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> Dataset:
    """Returns the data set `name`, checked, as uint8 arrays in memory.

    Args:
      name: "street_digits", "svhn", any image classification set of TFDS, "folder:PATH" or "npz:PATH".
        "NAME:FEATURE" chooses the label of a TFDS set, such as "celeb_a:Smiling"; the others become groups.
      data_dir: folder with original files (SVHN's .mat, CIFAR's binary archives) or TFDS' prepared data;
        "" for TFDS' default folder.
      download: False forbids the network. Drawing `street_digits` needs none.
      image_size: height and width in pixels to resize to; 0 keeps the images.
      limit_train: keep about the first `limit_train` examples of a seeded permutation, with the classes'
        proportions (see `splitting.limited`); 0 keeps all.
      limit_test: as `limit_train`, for the test split, and the same ones for every seed.
      seed: of `limit_train`. Where there is no test split, what is carved from train does not depend on it.
      progress: show bars on stderr where reading takes long.

    Raises:
      DataError: missing, unreadable or unusable data; one line that says what to do.
      ValueError: impossible arguments; UnknownNameError for an unknown name.
    """
    for option, value in (
        ("image_size", image_size),
        ("limit_train", limit_train),
        ("limit_test", limit_test),
    ):
        if value < 0:
            raise ValueError(f"{option}: expected 0 or a positive number, received {value}.")
    from fairat_tf.data.checks import check

    request = Request(name, data_dir, download, image_size, progress)
    whole = _read(source(name, data_dir), request)
    check(whole)
    data = dataclasses.replace(
        whole,
        train=limited(whole.train, limit_train, seed, whole.num_classes),
        test=limited(whole.test, limit_test, 0, whole.num_classes),
    )
    check(data)
    return data


def _read(read: Source, request: Request) -> Dataset:
    try:
        return read(request)
    except errors.CommandError:  # StorageError is an OSError as well
        raise
    except OSError as error:
        if error.errno in _WRITING:
            raise
        what = f"{error.filename or 'a file'} cannot be read ({error.strerror or error})"
        raise DataError(f"{request.name}: {what}") from error
