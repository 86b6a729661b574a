"""CIFAR-10 and CIFAR-100 from their authors' binary archives (never the pickled ones).

    data = load_cifar10(Request("cifar10", data_dir="/data"))     # holds cifar-10-binary.tar.gz

The archive is read in place, or its unpacked folder. Records are 1 (CIFAR-10) or 2 (CIFAR-100: coarse, fine)
label bytes and 3072 pixels, channel by channel. Members are read by their names; nothing is unpacked.
"""

import dataclasses
import pathlib
import tarfile

import numpy as np

from fairat_tf import errors
from fairat_tf.data import specs, tfds_source
from fairat_tf.data.dataset import DataError, Dataset, Split
from fairat_tf.data.images import resize
from fairat_tf.data.sources import Request

_PIXELS = 32 * 32 * 3


@dataclasses.dataclass(frozen=True)
class _Layout:
    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    classes: int
    label_bytes: int


_CIFAR10 = _Layout(
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test=("test_batch.bin",),
    names="batches.meta.txt",
    classes=10,
    label_bytes=1,
)
_CIFAR100 = _Layout(
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    names="fine_label_names.txt",
    classes=100,
    label_bytes=2,
)


def load_cifar10(request: Request) -> Dataset:
    """Returns CIFAR-10 from the binary archive in `request.data_dir` if it is there, else from TFDS.

    Raises:
      DataError: the archive lacks a member or is not in CIFAR's format.
    """
    return _load(request, _CIFAR10)


def load_cifar100(request: Request) -> Dataset:
    """As `load_cifar10`, for CIFAR-100: 100 fine classes; group column "coarse_label" has the 20 coarse."""
    return _load(request, _CIFAR100)


def _load(request: Request, layout: _Layout) -> Dataset:
    members = _members(pathlib.Path(request.data_dir), layout) if request.data_dir else {}
    if not members:
        return tfds_source.load_tfds(request)
    train = _split(members, layout.train, layout, request)
    test = _split(members, layout.test, layout, request)
    return Dataset(request.name, _names(members, layout), train, test)


def _members(folder: pathlib.Path, layout: _Layout) -> dict[str, bytes]:
    """Returns file name -> content of the files that are needed; empty where nothing of CIFAR lies there."""
    wanted = {*layout.train, *layout.test, layout.names}
    for place in (folder / layout.folder, folder):
        if any((place / name).is_file() for name in (*layout.train, *layout.test)):
            return {name: (place / name).read_bytes() for name in wanted if (place / name).is_file()}
    archive = folder / layout.archive
    return _archived(archive, layout, wanted) if archive.is_file() else {}


def _archived(archive: pathlib.Path, layout: _Layout, wanted: set[str]) -> dict[str, bytes]:
    found = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                stream = tar.extractfile(member) if folder == layout.folder and name in wanted else None
                if stream is not None:
                    found[name] = stream.read()
    except (tarfile.TarError, *errors.DAMAGED) as error:
        reason = type(error).__name__
        raise DataError(f"{archive}: not a readable archive ({reason}); fetch it again.") from error
    if not found:
        raise DataError(
            f"{archive}: holds no {layout.folder}/ with binary batches; is it the binary version?"
        )
    return found


def _split(members: dict[str, bytes], files: tuple[str, ...], layout: _Layout, request: Request) -> Split:
    missing = [name for name in files if name not in members]
    if missing:
        where = f"{request.name}: {layout.folder} in {request.data_dir}"
        raise DataError(f"{where} lacks {', '.join(missing)}; {', '.join(files)} are needed.")
    record = layout.label_bytes + _PIXELS
    for name in files:
        size = len(members[name])
        if not size or size % record:
            raise DataError(
                f"{request.name}: {name} has {size} bytes, expected a multiple of {record}; fetch it again."
            )
    rows = np.frombuffer(b"".join(members[name] for name in files), np.uint8).reshape(-1, record)
    pixels = rows[:, layout.label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    images = np.ascontiguousarray(pixels)
    if request.image_size:
        images = np.stack([resize(image, request.image_size) for image in images])
    groups = {"coarse_label": rows[:, 0].astype(np.int64)} if layout.label_bytes == 2 else {}
    return Split(images, rows[:, layout.label_bytes - 1].astype(np.int32), groups)


def _names(members: dict[str, bytes], layout: _Layout) -> tuple[str, ...]:
    lines = members.get(layout.names, b"").decode("utf-8", "replace").split()
    if len(lines) == layout.classes:
        return tuple(lines)
    known = specs.SPECS["cifar10"].class_names
    return known if layout.classes == len(known) else tuple(str(label) for label in range(layout.classes))
