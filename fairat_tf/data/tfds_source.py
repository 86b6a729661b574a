"""Image classification sets of TensorFlow Datasets, as uint8 arrays in memory.

    data = load_tfds(Request("mnist"))
    data = load_tfds(Request("celeb_a:Smiling"))       # a chosen label; all other attributes are groups

Prepared data are read at once. A download is only begun after the hosts of its files have answered, so a
machine without network hears within seconds which files would serve.
"""

import contextlib
import dataclasses
import logging
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from fairat_tf.data import network_probe, specs, tfds_features
from fairat_tf.data.dataset import NO_YES, DataError, Dataset, Split
from fairat_tf.data.images import resized
from fairat_tf.data.sources import Request
from fairat_tf.data.splitting import carve_test

_ALIASES = {"svhn": "svhn_cropped"}
_BATCH = 512
_VALIDATION = ("val", "valid", "dev")  # what some sets call their validation split
_IMAGE = "image pixels"
"""Key of the pixels beside the columns; no column is called so."""


def knows(name: str, data_dir: str) -> bool:
    """Returns whether TFDS has a data set `name` (built in, or prepared in `data_dir`)."""
    import tensorflow_datasets as tfds

    base = tfds_name(name).split("/")[0].split(":")[0]
    prepared = bool(data_dir and base) and (pathlib.Path(data_dir) / base).is_dir()
    return prepared or base in tfds.list_builders(with_community_datasets=False)


def load_tfds(request: Request) -> Dataset:
    """Returns a data set of TFDS, downloading and preparing it first where that is needed and allowed.

    Raises:
      DataError: cannot be had, or is no image classification set; the message says which files would serve.
    """
    import tensorflow_datasets as tfds

    builder = make_builder(lambda **keywords: tfds.builder(tfds_name(request.name), **keywords), request)
    tfds_features.label_column(builder, tfds_features.split_name(request.name)[1])
    if not builder.is_prepared():
        _check_can_be_had(builder, request)
        with contextlib.redirect_stdout(sys.stderr):
            prepare(builder, request)
    return read(builder, request)


def tfds_name(name: str) -> str:
    """Returns TFDS' name of the data set that we call `name`, without a label feature."""
    base = tfds_features.split_name(name)[0]
    return _ALIASES.get(base, base)


def make_builder(create: Any, request: Request) -> Any:
    """Returns `create(data_dir=...)`, a TFDS builder; trouble with the folder becomes a DataError."""
    try:
        return create(data_dir=request.data_dir or None)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        raise DataError(f"{request.name}: TFDS cannot open it: {_line(error)}") from error


def prepare(builder: Any, request: Request) -> None:
    """Downloads and writes the data set into TFDS' folder, with progress bars.

    Raises:
      DataError: the download failed, or the folder cannot be written to.
    """
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _bars(request.progress):
            builder.download_and_prepare(download_config=config)
    except Exception as error:
        if builder.is_prepared():
            return
        where = f"{request.name}: could not be prepared in {builder.data_dir}"
        raise DataError(
            f"{where}: {_line(error)} Check the folder's space and permissions, or give another --data_dir."
        ) from error


@contextlib.contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Holds TFDS' own progress bars back unless they are to be shown."""
    import tensorflow_datasets as tfds

    if shown:
        yield
        return
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        tfds.enable_progress_bar()


def read(builder: Any, request: Request) -> Dataset:
    """Returns the prepared data set of `builder`; a missing test split is taken from elsewhere, and said.

    The label is the feature that the request names, or the set's own. A boolean label has the classes
    "FEATURE: no" and "FEATURE: yes", an integer label the values that occur in train.
    """
    columns = tfds_features.scalar_columns(builder)
    label = tfds_features.label_column(builder, tfds_features.split_name(request.name)[1])
    available = builder.info.splits
    if "train" not in available:
        raise DataError(f"{request.name}: has no train split, only {', '.join(available) or 'none'}.")
    called = {"train": "train", "validation": "validation", "test": "test"}
    if "validation" not in available:
        called["validation"] = next((name for name in _VALIDATION if name in available), "validation")
    raw = {
        split: _read_split(builder, name, label, request)
        for split, name in called.items()
        if name in available
    }
    names, splits = _labelled(raw, label, columns[label], request)
    train, validation, test = (splits.get(split) for split in ("train", "validation", "test"))
    drawn = test is None and validation is None
    if test is None and validation is not None:
        logging.warning("%s has no test split; its validation split serves as the test split.", request.name)
        test, validation = validation, None
    elif test is None:
        logging.warning("%s has no test split; 20 %% of train become the test split.", request.name)
        train, test = carve_test(splits["train"], len(names))
    group_names = {
        tfds_features.group_name(builder, name): column.names
        for name, column in columns.items()
        if name != label and column.names
    }
    return Dataset(request.name, names, train or splits["train"], test, validation, group_names, drawn)


def wanted_files(builder: Any) -> dict[str, tuple[str, int]]:
    """Returns url -> (file name, bytes) of what TFDS would download; empty where TFDS does not say."""
    known = builder.url_infos or {}
    return {url: (info.filename or url.rsplit("/", 1)[-1], int(info.size)) for url, info in known.items()}


def missing_message(builder: Any, name: str) -> str:
    """Returns which files would serve, and where, for a data set that cannot be downloaded."""
    originals = specs.SPECS[name].files if name in specs.SPECS else ()
    if originals:
        return f"Put {' and '.join(originals)} into a folder DIR and give --data_dir=DIR."
    root = pathlib.Path(builder.data_dir_root)
    files = sorted({file for file, _ in wanted_files(builder).values()})
    shown = ", ".join(files[:6]) + (f" and {len(files) - 6} more" if len(files) > 6 else "")
    what = shown or f"the files that TFDS asks for ({builder.MANUAL_DOWNLOAD_INSTRUCTIONS or builder.name})"
    return f"Put {_one_line(what)} into {root / 'downloads' / 'manual'}, or a prepared data set into {root}."


def _check_can_be_had(builder: Any, request: Request) -> None:
    missing = f"{request.name}: not prepared in {builder.data_dir}"
    if not request.download:
        raise DataError(f"{missing} and downloads are forbidden. {missing_message(builder, request.name)}")
    reason = network_probe.unreachable(_absent(builder))
    if reason:
        raise DataError(f"{missing} and {reason}. {missing_message(builder, request.name)}")


def _absent(builder: Any) -> list[str]:
    """Returns the urls whose files lie neither among the downloads nor in the manual folder."""
    from tensorflow_datasets.core.download import resource

    root = pathlib.Path(builder.data_dir_root) / "downloads"
    absent = []
    for url, info in (builder.url_infos or {}).items():
        cached = root / resource.get_dl_fname(url, info.checksum)
        manual = root / "manual" / (info.filename or url.rsplit("/", 1)[-1])
        if not cached.exists() and not manual.exists():
            absent.append(url)
    return absent


def _labelled(
    raw: dict[str, Split], label: str, column: tfds_features.Column, request: Request
) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Returns the class names, and the splits with labels that are places among them."""
    if column.names:
        boolean = column.names is NO_YES
        names = tuple(f"{label}: {value}" for value in NO_YES) if boolean else column.names
        return names, raw
    values = np.unique(raw["train"].labels)
    splits = {}
    for name, split in raw.items():
        unknown = np.setdiff1d(split.labels, values)
        if len(unknown):
            raise DataError(
                f"{request.name}: {name} has the value {unknown[0]} of {label}, which train has not; "
                "choose a label whose values are the same in all splits."
            )
        labels = np.searchsorted(values, split.labels).astype(np.int32)
        splits[name] = dataclasses.replace(split, labels=labels)
    return tuple(str(value) for value in values), splits


def _read_split(builder: Any, split: str, label: str, request: Request) -> Split:
    """Returns a split whose labels are the label feature's own values."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    image_key = tfds_features.image_key(builder)
    columns = tfds_features.scalar_columns(builder)

    def chosen(example: Any) -> dict[str, Any]:
        image = example[image_key]
        if request.image_size:
            image = resized(image, request.image_size)
        return {_IMAGE: image, **{name: column.of(example) for name, column in columns.items()}}

    # File after file, so the order does not depend on how the data were cut into files.
    config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    with tf.device("CPU:0"):
        examples = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
        if (kind := examples.element_spec[image_key].dtype) != tf.uint8:  # else resizing would hide it
            raise DataError(f"{request.name} {split}: expected uint8 images, received {kind.name}.")
        found = _gather(examples.map(chosen, num_parallel_calls=tf.data.AUTOTUNE), builder, split, request)
    images, labels = found.pop(_IMAGE), found.pop(label)
    groups = {tfds_features.group_name(builder, name): found[name].astype(np.int64) for name in found}
    return Split(images, labels.astype(np.int32), groups)


def _gather(examples: Any, builder: Any, split: str, request: Request) -> dict[str, np.ndarray]:
    """Returns all examples, batched; a progress bar shows where it takes longer than two seconds."""
    import tensorflow as tf
    from tqdm import tqdm

    parts: dict[str, list[np.ndarray]] = {key: [] for key in examples.element_spec}
    bar = tqdm(
        desc=f"Reading {request.name} {split}",
        delay=2,
        unit=" images",
        leave=False,
        disable=not request.progress,
    )
    bar.total = builder.info.splits[split].num_examples
    try:
        for batch in examples.batch(_BATCH).prefetch(2).as_numpy_iterator():
            for key, values in batch.items():
                parts[key].append(values)
            bar.update(len(batch[_IMAGE]))
    except tf.errors.InvalidArgumentError as error:
        if "shapes" in str(error) or "shape" in str(error):
            raise DataError(
                f"{request.name}: images of different sizes; give --image_size to bring them to one size."
            ) from error
        raise DataError(f"{request.name}: {split} is unreadable: {_line(error)}") from error
    except tf.errors.OpError as error:
        raise DataError(f"{request.name}: {split} is unreadable: {_line(error)}") from error
    finally:
        bar.close()
    return {key: np.concatenate(values) for key, values in parts.items()}


def _line(error: BaseException) -> str:
    return _one_line(f"{type(error).__name__}: {error}")[:300]


def _one_line(text: str) -> str:
    return " ".join(text.split())
