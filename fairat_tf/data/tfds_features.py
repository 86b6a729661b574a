"""Which features of a TFDS set are the label and which are group columns.

    split_name("celeb_a:Smiling")                     # ("celeb_a", "Smiling")
    scalar_columns(builder)["Male"]                   # Column(("attributes", "Male"), ("no", "yes"))
    label_column(builder, "Smiling")                  # "Smiling"

A column is a scalar class, boolean or integer feature, at any depth. It goes by its last name ("Male" for
attributes/Male); where that is not unique, by its whole path. What follows the colon of `NAME:FEATURE`
may be either.
"""

import dataclasses
import difflib
import re
from typing import Any

import numpy as np

from fairat_tf.data.dataset import NO_YES, DataError

_VERSION = re.compile(r"([\d*]+\.[\d*]+\.[\d*]+|experimental_latest)")
_RESERVED = "label"


@dataclasses.dataclass(frozen=True)
class Column:
    """A scalar feature.

    Attributes:
      path: keys that lead to it.
      names: of its values 0, 1, ...; empty for plain integers.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]

    def of(self, example: Any) -> Any:
        """Returns its value in one example (nested dictionaries)."""
        for key in self.path:
            example = example[key]
        return example


def split_name(name: str) -> tuple[str, str]:
    """Returns (TFDS' own name, feature); the feature is "" where none is named.

    A version, as in "mnist:3.0.1", is no feature.
    """
    base, colon, last = name.rpartition(":")
    return (base, last) if colon and not _VERSION.fullmatch(last) else (name, "")


def image_keys(builder: Any) -> list[str]:
    """Returns the names of the image features at the top level, sorted: TFDS' order may change."""
    import tensorflow_datasets as tfds

    images = (key for key, value in builder.info.features.items() if isinstance(value, tfds.features.Image))
    return sorted(images)


def image_key(builder: Any) -> str:
    """Returns the image that is classified: the supervised one, the one called "image", or the only one.

    Raises:
      DataError: none of these; a mask could be taken for it.
    """
    keys, supervised = image_keys(builder), (builder.info.supervised_keys or ("",))[0]
    for key in (supervised, "image", *(keys if len(keys) == 1 else ())):
        if key in keys:
            return key
    raise DataError(
        f"{builder.name}: several images an example ({', '.join(keys)}) and no way to tell which is to be "
        "classified; call it image, or name it in supervised_keys."
    )


def scalar_columns(builder: Any) -> dict[str, Column]:
    """Returns all scalar class, boolean and integer features by the name they go by, sorted by path.

    TFDS itself gives them in an order that changes from process to process.
    """
    found = sorted(_scalars(builder.info.features, ()), key=lambda column: column.path)
    last = [column.path[-1] for column in found]
    return {
        "/".join(column.path) if last.count(column.path[-1]) > 1 else column.path[-1]: column
        for column in found
    }


def group_name(builder: Any, name: str) -> str:
    """Returns what a group column is called: `name`, but never "label", which means the class."""
    return f"{builder.name}_{name}" if name == _RESERVED else name


def label_column(builder: Any, wanted: str) -> str:
    """Returns the name of the column that is the label: `wanted`, or what TFDS says is the label.

    Raises:
      DataError: no image, no such feature, or no label of its own; the message names the possible ones.
    """
    columns = scalar_columns(builder)
    if not columns or not image_keys(builder):
        raise DataError(
            f"{builder.name}: no image classification set: it needs one image and a class, boolean or "
            f"integer feature, and has {', '.join(builder.info.features)}."
        )
    return _chosen(builder, columns, wanted) if wanted else _own_label(builder, columns)


def _chosen(builder: Any, columns: dict[str, Column], wanted: str) -> str:
    for name, column in columns.items():
        if wanted in (name, "/".join(column.path)):
            return name
    close = difflib.get_close_matches(wanted, columns, n=1)
    hint = f" Did you mean {builder.name}:{close[0]}?" if close else ""
    raise DataError(
        f"{builder.name}:{wanted}: no class, boolean or integer feature {wanted!r}.{hint} "
        f"Possible: {_list(columns)}."
    )


def _own_label(builder: Any, columns: dict[str, Column]) -> str:
    import tensorflow_datasets as tfds

    features = builder.info.features
    classes = [key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel)]
    said = (builder.info.supervised_keys or ("", ""))[1]
    for key in (said, "label", *(classes if len(classes) == 1 else ())):
        if key in classes:
            return next(name for name, column in columns.items() if column.path == (key,))
    raise DataError(
        f"{builder.name}: has no class label of its own; name the feature to classify by, as in "
        f"--dataset={builder.name}:{_ordered(columns)[0]}. Possible: {_list(columns)}."
    )


def _ordered(columns: dict[str, Column]) -> list[str]:
    """Columns with named values first: they are more likely meant than counts and coordinates."""
    return sorted(columns, key=lambda name: (not columns[name].names, name))


def _list(columns: dict[str, Column]) -> str:
    return ", ".join(_ordered(columns))


def _scalars(features: Any, path: tuple[str, ...]) -> list[Column]:
    import tensorflow_datasets as tfds

    found: list[Column] = []
    for key, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            found += _scalars(feature, (*path, key))
        elif isinstance(feature, tfds.features.ClassLabel):
            found.append(Column((*path, key), tuple(feature.names)))
        elif getattr(feature, "shape", None) == () and np.dtype(feature.np_dtype).kind in "iub":
            boolean = np.dtype(feature.np_dtype).kind == "b"
            found.append(Column((*path, key), NO_YES if boolean else ()))
    return found
