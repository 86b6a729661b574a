"""Where data sets come from: the table of names, and what a source is asked for.

    source("folder:/data/birds", data_dir="")(Request("folder:/data/birds"))

A source is a function `Request -> Dataset`. A new one is one file and one line in `SOURCES` or `PREFIXES`.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from fairat_tf.data.dataset import Dataset
from fairat_tf.lookup import Table


@dataclasses.dataclass(frozen=True)
class Request:
    """What a source is asked for.

    Attributes:
      name: the name as given, prefix included ("cifar10", "folder:/data/birds").
      data_dir: folder of original or prepared files; "" for TFDS' own default.
      download: whether files may be fetched from the network.
      image_size: height and width to resize to, in pixels; 0 keeps the images as they are.
      progress: show bars on stderr where reading takes long.
    """

    name: str
    data_dir: str = ""
    download: bool = True
    image_size: int = 0
    progress: bool = True

    @property
    def argument(self) -> str:
        """What follows the prefix: the path in "folder:PATH"."""
        return self.name.partition(":")[2]


Source = Callable[[Request], Dataset]

SOURCES = Table(
    "data set",
    {
        "street_digits": "fairat_tf.data.street_digits:load_street_digits",
        "svhn": "fairat_tf.data.svhn_files:load_svhn",
        "svhn_cropped": "fairat_tf.data.svhn_files:load_svhn",
        "cifar10": "fairat_tf.data.cifar_files:load_cifar10",
        "cifar100": "fairat_tf.data.cifar_files:load_cifar100",
        "mnist": "fairat_tf.data.tfds_source:load_tfds",
        "fashion_mnist": "fairat_tf.data.tfds_source:load_tfds",
        "stl10": "fairat_tf.data.tfds_source:load_tfds",
    },
    family="folder:PATH, npz:PATH, any other image classification set of TFDS (NAME or NAME:FEATURE)",
)

PREFIXES = Table(
    "source",
    {
        "folder": "fairat_tf.data.image_folder:load_folder",
        "npz": "fairat_tf.data.npz_file:load_npz",
    },
)


def place(name: str) -> str:
    """Returns the data set's name with the path in it, if there is one, absolute."""
    prefix, colon, path = name.partition(":")
    if not colon or prefix not in PREFIXES.names():
        return name
    return f"{prefix}:{pathlib.Path(path).expanduser().resolve()}"


def source(name: str, data_dir: str) -> Source:
    """Returns the source of data set `name`.

    Raises:
      UnknownNameError: neither listed, nor with a known prefix, nor a data set of TFDS or of `data_dir`.
    """
    prefix, colon, _ = name.partition(":")
    if colon and prefix in PREFIXES.names():
        return PREFIXES.get(prefix)
    if name in SOURCES.names():
        return SOURCES.get(name)
    from fairat_tf.data import tfds_source

    known: Any = tfds_source.load_tfds if tfds_source.knows(name, data_dir) else SOURCES.get(name)
    return known
