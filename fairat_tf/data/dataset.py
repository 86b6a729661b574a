"""What every data source returns: images, labels and group columns in memory.

data = fairat_tf.data.load("street_digits")
data.train.images.shape, data.train.counts(data.num_classes)
"""

import dataclasses
import hashlib

import numpy as np

from fairat_tf.errors import DataError

__all__ = ["NO_YES", "DataError", "Dataset", "Split"]

NO_YES = ("no", "yes")
"""Names of the values of a boolean group column."""


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Examples in memory.

    Attributes:
      images: uint8 [N, H, W, C], C is 1 or 3.
      labels: int32 [N] in [0, K).
      groups: further columns of the examples, name -> integers [N] (a person's attribute, a coarse class);
        empty where the source has none. What the integers mean is in `Dataset.group_names`.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Split":
        """Returns the examples at `indices` (integers [n]), in that order."""
        rows = np.asarray(indices, np.int64)
        groups = {name: column[rows] for name, column in self.groups.items()}
        return Split(self.images[rows], self.labels[rows], groups)

    def fingerprint(self) -> str:
        """Returns the SHA-256 (hex) of labels and pixels, in their order."""
        digest = hashlib.sha256(f"{self.images.shape}".encode())
        digest.update(self.labels.astype("<i4").tobytes())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()

    def counts(self, num_classes: int) -> np.ndarray:
        """Returns the number of examples of each class, int64 [num_classes]."""
        return np.bincount(self.labels, minlength=num_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: `train`, `test` and, only where the source brings one, `validation`.

    Attributes:
      name: the name it was asked for.
      class_names: K names; label k is `class_names[k]`.
      train: what is trained on (a validation split is carved from it by `split_validation`).
      test: read by evaluation only.
      validation: the source's own validation split, or None.
      group_names: group column -> names of its values 0, 1, ...; plain integers have no entry.
      test_is_drawn: the source has no test split, and `test` was drawn from what could be trained on.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    group_names: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    test_is_drawn: bool = False

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.train.images.shape[1:]
        return int(height), int(width), int(channels)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name, in the order train, validation, test."""
        every = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in every.items() if split is not None}

    def fingerprint(self) -> str:
        """Returns the SHA-256 (hex) of all splits: labels, pixels, group columns, and all names."""
        digest = hashlib.sha256("\0".join(self.class_names).encode())
        for column, names in sorted(self.group_names.items()):
            digest.update("\0".join((column, *names)).encode())
        for name, split in self.splits.items():
            digest.update(f"\0{name}{split.images.shape}".encode())
            digest.update(split.labels.astype("<i4").tobytes())
            digest.update(split.images.tobytes())
            for column, values in sorted(split.groups.items()):
                digest.update(column.encode() + values.astype("<i8").tobytes())
        return digest.hexdigest()
