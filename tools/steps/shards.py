"""Arrays in files of limited size, hashed: how a step's state travels. NumPy alone.

    write(folder, {"0003": weights}, {"epoch": 2})
    arrays, facts = read(folder)

All arrays are one stream of bytes, cut into `part-000.bin` and so on; `manifest.json`, written last, says
what lies where. Arrays that are 0 take no bytes, and equal ones are stored once (a moving average at the
start).
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 16_000_000  # bytes of a part


class DamagedError(ValueError):
    """The folder is not whole, or not what was written."""


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Returns float32 numbers rounded to bfloat16 (to nearest, ties to even), as uint16."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Returns float32 of bfloat16 numbers that are given as uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def write(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    facts: Mapping[str, Any],
    limit: int = LIMIT,
    small: bool = False,
) -> None:
    """Writes arrays and facts; a folder of that name is there as a whole or not at all.

    Args:
      folder: is replaced.
      arrays: name -> array of any NumPy dtype.
      facts: what JSON can hold.
      limit: most bytes of a part.
      small: store float32 as bfloat16, which rounds it.
    """
    entries, chunks, known, place = {}, [], {}, 0
    for name, array in arrays.items():
        array = np.asarray(array, order="C")
        entry: dict[str, Any] = {"dtype": str(array.dtype), "shape": list(array.shape)}
        entries[name] = entry
        if not array.any():
            entry["zero"] = True
            continue
        rounded = small and array.dtype == np.float32
        data = (to_bfloat16(array) if rounded else array).tobytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest not in known:
            known[digest] = place
            chunks.append(data)
            place += len(data)
        entry |= {"offset": known[digest], "bytes": len(data), "rounded": rounded}
    temporary = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    stream, parts = b"".join(chunks), []
    for number, start in enumerate(range(0, len(stream), limit)):
        part = stream[start : start + limit]
        _write(temporary / f"part-{number:03d}.bin", part)
        parts.append(hashlib.sha256(part).hexdigest())
    manifest = {"facts": dict(facts), "parts": parts, "arrays": entries}
    _write(temporary / "manifest.json", json.dumps(manifest).encode())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns (arrays, facts).

    Raises:
      DamagedError: no manifest, or a part is missing or does not have its hash.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        parts = [(folder / f"part-{i:03d}.bin").read_bytes() for i in range(len(manifest["parts"]))]
    except (OSError, ValueError) as error:
        raise DamagedError(f"{folder} is not whole: {error}") from error
    for number, (part, digest) in enumerate(zip(parts, manifest["parts"], strict=True)):
        if hashlib.sha256(part).hexdigest() != digest:
            raise DamagedError(f"{folder}: part-{number:03d}.bin is damaged")
    stream = b"".join(parts)
    return {name: _array(stream, entry) for name, entry in manifest["arrays"].items()}, manifest["facts"]


def _array(stream: bytes, entry: Mapping[str, Any]) -> np.ndarray:
    shape, dtype = entry["shape"], np.dtype(entry["dtype"])
    if entry.get("zero"):
        return np.zeros(shape, dtype)
    data = stream[entry["offset"] : entry["offset"] + entry["bytes"]]
    if entry["rounded"]:
        return from_bfloat16(np.frombuffer(data, np.uint16)).reshape(shape)
    return np.frombuffer(data, dtype).reshape(shape).copy()


def newest(folder: Path, prefix: str) -> Path | None:
    """Returns the last of the folders PREFIX..., by name, that is whole; None if there are none.

    Damaged ones that it passes are named on stderr.

    Raises:
      DamagedError: there are some, and none is whole.
    """
    there = sorted(folder.glob(f"{prefix}*"), reverse=True)
    for found in there:
        try:
            read(found)
        except DamagedError as error:
            print(f"run_step: {error}; looking for an older one", file=sys.stderr)
            continue
        return found
    if there:
        raise DamagedError(f"{folder} holds damaged states only; mend one, or remove them to begin anew")
    return None
