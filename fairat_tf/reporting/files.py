"""The evaluation result on disk: `evaluation.json`, `evaluation.csv`, `examples.npz`, `groups.csv`.

    files.write(result, "runs/a")
    result = files.read("runs/a")

    write_packed(result, "a.json")       # one file with what a comparison needs: small enough to be kept

JSON holds everything but the arrays by example; CSV one line for each attack and class (`groups.csv`, only
with groups, for each attack, class and group); `examples.npz` (no pickle) labels, flags and predictions of
every evaluated example, which comparisons pair up.
"""

import base64
import csv
import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fairat_tf import errors

RESULT, TABLE, EXAMPLES, GROUPS = "evaluation.json", "evaluation.csv", "examples.npz", "groups.csv"
_COLUMNS = ("attack", "class", "accuracy", "ci95_low", "ci95_high", "correct", "total")
_IMAGES = ("adversarial/", "places/")
_PACKED = "packed"  # in a packed result: name -> base64 of the zlib-compressed int16 values, by example


def write(result: Mapping[str, Any], directory: str | Path) -> list[Path]:
    """Writes the files into `directory` (made if missing), the JSON last; returns their paths.

    Raises:
      StorageError: the directory cannot be written.
    """
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / RESULT, folder / TABLE, folder / EXAMPLES]
        text = json.dumps(finite(without_arrays(result)), indent=1, allow_nan=False)
        _write_examples(result, paths[2])
        _write_table(_COLUMNS, rows(result), paths[1])
        (folder / GROUPS).unlink(missing_ok=True)
        if result.get("groups"):
            paths.append(folder / GROUPS)
            _write_table(("attack", result["groups"]["by"], *_COLUMNS[1:]), group_rows(result), paths[3])
        replace(paths[0], text.encode())
    except OSError as error:
        raise errors.StorageError(f"{folder} cannot be written: {error.strerror or error}") from error
    return paths


def read(directory: str | Path, arrays: bool = False) -> dict[str, Any]:
    """Returns a written result; with `arrays` also `per_example`. A path to the JSON itself works, too.

    Raises:
      DataError: there is none, it has another format, or its arrays are of another evaluation.
    """
    path = Path(directory)
    path = path / RESULT if path.is_dir() else path
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["format"] != 1:
            raise errors.DataError(f"{path}: expected format 1, got {result['format']}")
        packed = result.pop(_PACKED, None)
        if arrays and packed:
            result["per_example"] = {name: _unpacked(text) for name, text in packed.items()}
        elif arrays:
            with np.load(path.parent / EXAMPLES, allow_pickle=False) as stored:
                result["per_example"] = dict(stored)
        if arrays:
            _check_together(result, path)
    except (ValueError, KeyError, TypeError, *errors.DAMAGED) as error:
        if isinstance(error, errors.DataError):
            raise
        message = f"{path} holds no evaluation: {error}; run fairat_tf.evaluate first"
        raise errors.DataError(message) from error
    return result


def _check_together(result: Mapping[str, Any], path: Path) -> None:
    """Checks that the flags are those that the figures were counted from: an interrupted write mixes both."""
    for name, attack in result["attacks"].items():
        flags = result["per_example"].get(f"correct/{name}", np.zeros(0))
        if (np.sum(flags == 1), np.sum(flags >= 0)) != (attack["correct"], attack["total"]):
            raise errors.DataError(
                f"{path}: the examples' flags of {name} are those of another evaluation; evaluate again"
            )


def cell(text: str) -> str:
    """Returns a name as the text of a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def write_packed(result: Mapping[str, Any], path: str | Path) -> None:
    """Writes one JSON file with labels and flags in it, which `read` and comparisons take like a folder.

    Of the model's path it keeps the name alone, and nothing of the command, so that the file says nothing of
    the machine. The places of drawn examples are left out too: drawing and fingerprint say which they are.

    Args:
      result: as `read(..., arrays=True)` returns it.
      path: the file; some 20 KB for 10,000 examples under three attacks.
    """
    arrays = result["per_example"]
    described = {**result["model"], "path": Path(result["model"].get("path") or "").name}
    dataset = {key: value for key, value in result["dataset"].items() if key != "places"}
    kept = {name: _packed(arrays[name]) for name in sorted(arrays) if name.startswith(("labels", "correct/"))}
    whole = finite(without_arrays(result)) | {"model": described, "dataset": dataset, _PACKED: kept}
    whole.pop("command", None)
    text = json.dumps(whole, indent=1, allow_nan=False)
    replace(Path(path), (text + "\n").encode())


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.asarray(values, "<i2").tobytes(), 9)).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i2").astype(np.int32)


def without_arrays(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the result without `per_example`."""
    return {key: value for key, value in result.items() if key != "per_example"}


def finite(value: Any) -> Any:
    """Returns the value with NaN and infinities as None, for strict JSON."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def replace(path: Path, content: bytes) -> None:
    """Writes beside `path` and renames into place: a reader sees the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def rows(result: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    """Yields the lines of the CSV: every class under every attack, then the average as class "(all)"."""
    for name, attack in result["attacks"].items():
        for label, row in attack["per_class"].items():
            yield (name, label, row["accuracy"], *row["ci95"], row["correct"], row["total"])
        yield (name, "(all)", attack["accuracy"], *attack["ci95"], attack["correct"], attack["total"])


def group_rows(result: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    """Yields the lines of `groups.csv`: each group of every class, then of all as class "(all)"."""
    for name, attack in result["groups"]["attacks"].items():
        for label, own in (*attack["per_class_and_group"].items(), ("(all)", attack["per_group"])):
            for group, row in own.items():
                yield (name, group, label, row["accuracy"], *row["ci95"], row["correct"], row["total"])


def _write_table(columns: Iterable[str], lines: Iterable[tuple[Any, ...]], path: Path) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)
    os.replace(temporary, path)


def _write_examples(result: Mapping[str, Any], path: Path) -> None:
    arrays = {k: v for k, v in result.get("per_example", {}).items() if not k.startswith(_IMAGES)}
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(temporary, path)
