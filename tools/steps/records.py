"""Images and labels of TFRecord files of TensorFlow Datasets, without TensorFlow: NumPy and Pillow alone.

    images, labels = images_and_labels(sorted(glob.glob("cifar10-train.tfrecord*")))

A TFRecord file is a row of records: length (uint64), checksum (uint32), data, checksum (uint32). The data are
a `tf.train.Example`, a protocol buffer: a map from names to lists of bytes, floats or integers.
"""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def records(path: str | Path) -> Iterator[bytes]:
    """Yields the data of each record.

    Raises:
      ValueError: the file ends within a record.
    """
    content = memoryview(Path(path).read_bytes())
    place = 0
    while place < len(content):
        end = place + 12
        (length,) = struct.unpack_from("<Q", content, place) if end <= len(content) else (len(content),)
        if end + length + 4 > len(content):
            raise ValueError(f"{path} ends within a record")
        yield bytes(content[end : end + length])
        place = end + length + 4


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yields (number, value) of a message: bytes for length-delimited fields, integers for the others."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(data, place)
        elif kind == 2:
            length, place = _varint(data, place)
            value, place = data[place : place + length], place + length
        else:
            width = {1: 8, 5: 4}[kind]
            value, place = data[place : place + width], place + width
        yield key >> 3, value


def _first(data: bytes, number: int) -> Any:
    return next(value for found, value in _fields(data) if found == number)


def features(example: bytes) -> dict[str, bytes | int]:
    """Returns the first value of each feature of a `tf.train.Example` that holds bytes or integers."""
    found: dict[str, bytes | int] = {}
    for _, entry in _fields(_first(example, 1)):
        parts = dict(_fields(entry))
        for kind, values in _fields(parts[2]):
            if kind == 1 and values:
                found[parts[1].decode()] = _first(values, 1)
            elif kind == 3 and values:
                value = _first(values, 1)
                found[parts[1].decode()] = value if isinstance(value, int) else _varint(value, 0)[0]
    return found


def pillow(stored: bytes) -> np.ndarray:
    """Returns the pixels of a PNG or JPEG file, uint8 [H, W, C]."""
    pixels = np.asarray(Image.open(io.BytesIO(stored)))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def images_and_labels(
    paths: Sequence[str | Path], decode: Callable[[bytes], np.ndarray] = pillow
) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [N, H, W, C] and int32 [N], in the files' order.

    Args:
      paths: the shards, in order; their features are called "image" and "label".
      decode: PNG or JPEG -> pixels. Pillow decodes JPEG by the exact cosine transform, TensorFlow by the
        fast one: a few levels of 255 lie between the two.
    """
    images, labels = [], []
    for path in paths:
        for record in records(path):
            found = features(record)
            images.append(decode(found["image"]))
            labels.append(found["label"])
    return np.stack(images), np.array(labels, np.int32)


def examples(path: Path, files: Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images uint8 [N, H, W, C] and labels int32 [N] that an export's `.npz` names.

    Args:
      path: holds the labels, and the images themselves or their rows in `files`.
      files: the TFRecord files, the same as for the export.

    Raises:
      ValueError: the files are not those of the export.
    """
    with np.load(path) as data:
        labels = data["labels"].astype(np.int32)
        if "images" in data:
            return data["images"], labels
        if not files:
            raise ValueError("--records is needed: the export has the rows of the examples alone")
        stored, classes = images_and_labels(files)
        if data["rows"].max() >= len(classes) or not np.array_equal(classes[data["rows"]], labels):
            raise ValueError("the TFRecord files are not those of the export")
        return stored[data["rows"]], labels
