"""Shows a data set: classes, counts, sizes, pixel statistics, and a contact sheet.

print(describe(fairat_tf.data.load("street_digits")))
"""

import functools
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from fairat_tf import errors
from fairat_tf.data.dataset import DataError, Dataset
from fairat_tf.data.sources import PREFIXES, Request
from fairat_tf.data.specs import pixel_statistics

_EXAMPLES = 12
_SCALE_TO = 48
_MARGIN = 96
_NAMES = 6


def describe(dataset: Dataset) -> str:
    """Returns a text: image size, examples of each class in each split, pixel mean and deviation."""
    height, width, channels = dataset.image_shape
    mean, deviation = pixel_statistics(dataset.train.images)
    splits = dataset.splits
    lines = [
        f"{dataset.name}: {dataset.num_classes} classes, images {height}x{width}x{channels}",
        "examples: " + ", ".join(f"{name} {len(split)}" for name, split in splits.items()),
        "train pixels in [0, 1]: mean " + _numbers(mean) + ", standard deviation " + _numbers(deviation),
        f"fingerprint: {dataset.fingerprint()}",
    ]
    groups = ", ".join(_column(dataset, name) for name in dataset.train.groups)
    lines += [f"group columns: {groups}"] if groups else []
    counts = [split.counts(dataset.num_classes) for split in splits.values()]
    longest = max(5, *(len(name) for name in dataset.class_names))
    lines += ["", "class".ljust(longest) + "".join(name.rjust(12) for name in splits)]
    for label, name in enumerate(dataset.class_names):
        lines.append(name.ljust(longest) + "".join(str(count[label]).rjust(12) for count in counts))
    return "\n".join(lines)


def contact_sheet(dataset: Dataset, path: str) -> None:
    """Writes a PNG to `path`: a row for each class with its name and its first twelve training examples.

    Raises:
      StorageError: the file cannot be written.
    """
    height, width = dataset.image_shape[:2]
    scale = max(1, round(_SCALE_TO / height))
    cell = (width * scale, height * scale)
    sheet = Image.new("RGB", (_MARGIN + _EXAMPLES * cell[0], dataset.num_classes * cell[1]), "white")
    pen = ImageDraw.Draw(sheet)
    for label, name in enumerate(dataset.class_names):
        pen.text((4, label * cell[1] + 4), name[:15], fill="black")
        for place, row in enumerate(np.flatnonzero(dataset.train.labels == label)[:_EXAMPLES]):
            pixels = np.broadcast_to(dataset.train.images[row], (height, width, 3))
            picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(cell, Image.Resampling.NEAREST)
            sheet.paste(picture, (_MARGIN + place * cell[0], label * cell[1]))
    try:
        sheet.save(pathlib.Path(path).expanduser(), "PNG")
    except OSError as error:
        raise errors.StorageError(
            f"contact sheet: cannot write {path} ({error.strerror or error})."
        ) from error


def downloads(name: str, data_dir: str = "") -> str:
    """Returns a text: what TFDS would download for data set `name`; "" where it has it or says nothing."""
    if name == "street_digits" or name.partition(":")[0] in PREFIXES.names():
        return ""
    import tensorflow_datasets as tfds

    from fairat_tf.data import tfds_source

    opened = functools.partial(tfds.builder, tfds_source.tfds_name(name))
    try:
        builder = tfds_source.make_builder(opened, Request(name, data_dir))
    except DataError:
        return ""
    files = {} if builder.is_prepared() else tfds_source.wanted_files(builder)
    if not files:
        return ""
    lines = [f"  {url} ({size / 2**20:.1f} MiB)" for url, (_, size) in files.items()]
    total = sum(size for _, size in files.values()) / 2**20
    return "\n".join([f"--download would fetch {total:.1f} MiB:", *lines])


def _column(dataset: Dataset, name: str) -> str:
    """Returns a group column's name with the first names of its values."""
    names = dataset.group_names.get(name, ())
    shown = ", ".join(names[:_NAMES]) + (", ..." if len(names) > _NAMES else "")
    return f"{name} ({shown})" if names else name


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"
