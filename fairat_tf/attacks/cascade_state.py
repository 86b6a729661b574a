"""The state of an evaluation on disk: one file, replaced as a whole, arrays and JSON, no pickle.

save(path, arrays={"robust": flags}, header={"fingerprint": "..."})
found = load(path)             # (arrays, header), or None where there is no file
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fairat_tf import errors

_HEADER = "header_json"
_CHUNK = 1024


class OtherStateError(ValueError):
    """A state is there, and it is of another evaluation."""


def save(path: str | Path, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    """Writes the state beside `path`, to the disk, and then puts it in the place of the former one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays, **{_HEADER: np.array(json.dumps(header))})
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Returns (arrays, header) as saved, or None where there is no such file.

    Raises:
      ValueError: the file is not a state written by `save`.
    """
    if not Path(path).exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop(_HEADER)))
    except (ValueError, KeyError, *errors.DAMAGED) as error:
        raise ValueError(f"{path} is not the state of an evaluation ({error}); give another path") from error


def fingerprint(arrays: Iterable[np.ndarray], *texts: str) -> str:
    """Returns a SHA-256 of arrays (types, shapes, values; read in parts, so they may be mapped) and texts."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        for first in range(0, len(array), _CHUNK):
            digest.update(np.ascontiguousarray(array[first : first + _CHUNK]).tobytes())
    for text in texts:
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()
