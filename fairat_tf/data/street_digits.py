"""`street_digits`, the embedded default: SVHN-like digits drawn here, so that nothing is downloaded.

    data = fairat_tf.data.load("street_digits")
    tfds.load("street_digits")           # after importing this module, an ordinary TFDS data set

32x32 colour images, 20,000 for training and 5,000 for testing, ten classes with SVHN's imbalance. Drawn once
into TFDS' data directory (about a minute on one core), then read from there.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from fairat_tf.data import digit_drawing, tfds_source
from fairat_tf.data.dataset import Dataset
from fairat_tf.data.sources import Request

_DESCRIPTION = """Coloured house-number digits in the manner of SVHN, drawn by a program: several fonts,
colours and contrasts, rotation, perspective, blur, noise, neighbouring digits cut off at the sides, and
SVHN's class imbalance."""


class StreetDigits(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of `street_digits`; the examples come from `digit_drawing`."""

    show_progress: bool = True

    VERSION = tfds.core.Version(".".join(map(str, digit_drawing.VERSION)))
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        size = digit_drawing.SIZE
        image = tfds.features.Image(shape=(size, size, 3), encoding_format="png")
        features = {"image": image, "label": tfds.features.ClassLabel(num_classes=10)}
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        return {split: self._generate_examples(split) for split in digit_drawing.SIZES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        labels = digit_drawing.labels(split)
        hidden = not self.show_progress
        bar = tqdm(labels, f"Drawing street_digits {split}", unit=" images", disable=hidden)
        for index, label in enumerate(bar):
            png = io.BytesIO()
            Image.fromarray(digit_drawing.draw(split, index, int(label))).save(png, "PNG", compress_level=1)
            png.seek(0)
            yield index, {"image": png, "label": int(label)}


def load_street_digits(request: Request) -> Dataset:
    """Returns `street_digits`, drawing it first where `request.data_dir` does not hold it yet."""
    builder = tfds_source.make_builder(StreetDigits, request)
    if not builder.is_prepared():
        _draw_all(builder, request)
    return tfds_source.read(builder, request)


def _draw_all(builder: StreetDigits, request: Request) -> None:
    """Prepares the data set without TFDS' talk of a download, and with a progress bar that has a total."""
    builder.show_progress = request.progress
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            tfds_source.prepare(builder, request)
    finally:
        tfds.enable_progress_bar()
