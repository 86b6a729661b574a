"""Writes a contact sheet of an augmentation as a PNG.

    python -m fairat_tf.augment_preview --augmentation=randaugment:2,8 --output=preview.png
    python -m fairat_tf.augment_preview --augmentation=idbh_weak --dataset=street_digits --output=preview.png

Rows are examples; the first column is the original, the others are draws. Exit codes: 0 written; 2 wrong
usage; 3 data missing or unreadable; 7 file not writable.
"""

import sys
from typing import Any

import numpy as np
from absl import flags

from fairat_tf import cli, errors

COMMAND = cli.Command(
    "augment_preview",
    "Writes a picture of what an augmentation does: rows are examples, columns the original and draws of it.",
    example="python -m fairat_tf.augment_preview --augmentation=crop_flip+cutout --output=preview.png",
)

with COMMAND.group("Augmentation") as _values:
    flags.DEFINE_string(
        "augmentation",
        "randaugment:2,8",
        'name[:arguments], joined by "+"; cutmix and mixup mix the rows.',
        flag_values=_values,
    )
    flags.DEFINE_integer("seed", 0, "Seed of the draws.", 0, flag_values=_values)
with COMMAND.group("Images") as _values:
    flags.DEFINE_string(
        "dataset",
        "",
        "Data set of which the first training images of each class are shown in turn; empty: generated.",
        flag_values=_values,
    )
    flags.DEFINE_string("data_dir", "", "Where the data set lies.", flag_values=_values)
    flags.DEFINE_bool("download", False, "Download what is missing, as TFDS does it.", flag_values=_values)
    flags.DEFINE_integer(
        "image_size", 0, "Resize to this many pixels; 0 keeps the images.", 0, flag_values=_values
    )
    flags.DEFINE_integer("examples", 8, "Rows.", 1, 1000, flag_values=_values)
with COMMAND.group("Output") as _values:
    flags.DEFINE_string("output", "augment_preview.png", "The PNG file to write.", flag_values=_values)
    flags.DEFINE_integer("draws", 12, "Columns after the original.", 1, 1000, flag_values=_values)
    flags.DEFINE_integer("scale", 2, "Pixels of the sheet for one of the image.", 1, 32, flag_values=_values)


def load_images(dataset: str, count: int, **options: Any) -> np.ndarray:
    """Returns uint8 [N, H, W, C]: `count` training images, classes in turn; without a data set drawn ones.

    `options` are those of `data.load`.

    Raises:
      errors.DataError: the data set is missing or unreadable.
      ValueError: an unknown data set.
    """
    if not dataset:
        from fairat_tf.augment.sheet import sample_pictures

        return sample_pictures(count)
    from fairat_tf import data

    try:
        train = data.load(dataset, **options).train
    except data.DataError as error:
        raise errors.DataError(str(error)) from error
    return train.images[in_turn(train.labels)[:count]]


def in_turn(labels: np.ndarray) -> np.ndarray:
    """Returns the rows in the order: first of each class, second of each class, and so on."""
    by_class = np.argsort(labels, kind="stable")
    place = np.empty_like(by_class)
    place[by_class] = np.arange(len(labels)) - np.searchsorted(labels[by_class], labels[by_class])
    return np.lexsort((labels, place))


def main(values: flags.FlagValues, arguments: list[str]) -> None:
    """Writes the sheet that the flags describe and prints its path.

    Raises:
      errors.UsageError: an unknown augmentation or data set, or wrong arguments.
      errors.DataError: the data set is missing or unreadable.
      errors.StorageError: the file cannot be written.
    """
    from PIL import Image

    from fairat_tf.augment.sheet import contact_sheet

    try:
        options = {"data_dir": values.data_dir, "download": values.download, "image_size": values.image_size}
        images = load_images(values.dataset, values.examples, **options)
        sheet = contact_sheet(images, values.augmentation, values.draws, values.seed, values.scale)
    except errors.CommandError:
        raise
    except ValueError as error:
        raise errors.UsageError(str(error)) from error
    try:
        Image.fromarray(sheet).save(values.output, format="PNG")
    except OSError as error:
        raise errors.StorageError(f"cannot write {values.output}: {error.strerror or error}") from error
    print(f"{values.output}: {len(images)} examples, {values.draws} draws of {values.augmentation}")


def run() -> int:
    """Runs the command line of this process; returns the exit code."""
    return COMMAND.run(main)


if __name__ == "__main__":
    sys.exit(run())
