"""The directory of one run: who may write there, what it holds, and files that are never half written.

    with RunDirectory("runs/first") as run:
        run.claim(config)
        run.write("config.json", config.to_json())

Contents: `config.json`, `data.json` (which training data), `flags.txt` (for --flagfile), `environment.json`,
`metrics.jsonl`, `classwise.csv`, `times.csv`, `tensorboard/`, `checkpoints/`, `best/model.keras`, `export/`,
`evaluation/`, `MODEL_CARD.md`, `report.html`, `curves.png`, `last/`. Nothing here deletes a run directory.
"""

import dataclasses
import datetime
import errno
import fcntl
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from fairat_tf import data, errors
from fairat_tf.config import Config
from fairat_tf.data.dataset import Split

BY_TRAINING = ".by_training"
"""Marks an evaluation that training made, and may replace when it goes on."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def default_path(config: Config) -> str:
    """Returns runs/<data set>-<method>-<time>, for a run that names no directory; never one that exists."""
    name = config.data.dataset.replace(":", "-").replace("/", "-").strip("-.")
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    path = os.path.join("runs", f"{name}-{config.method}-{time}")
    numbers = itertools.count(2)  # a clock that was set back may give a time again
    while os.path.exists(path):
        path = os.path.join("runs", f"{name}-{config.method}-{time}-{next(numbers)}")
    return path


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file so that at any moment the old content or the new is there, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(path: pathlib.Path) -> None:
    """Makes renames in the directory last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunDirectory:
    """A run's or an evaluation's directory, locked against a second process while used as a context."""

    def __init__(self, path: str):
        self.path = pathlib.Path(path)
        self._lock: Any = None
        self._made = False

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.path / name

    def __enter__(self) -> "RunDirectory":
        try:
            self._made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / "lock", "a")
        except OSError as error:
            told = error.strerror or error
            raise errors.StorageError(
                f"{self.path} cannot be used: {told}; choose another directory"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise errors.StorageError(
                f"{self.path} is in use by another process; wait for it or choose another directory"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                self._lock.close()
                raise errors.StorageError(f"{self.path} cannot be locked: {error.strerror}") from error
            logging.warning("%s: its file system has no locks; let one process alone use it", self.path)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind and self._made and [path.name for path in self.path.iterdir()] == ["lock"]:
            (self.path / "lock").unlink()  # refused before anything was written: nothing is left
            self.path.rmdir()
        self._lock.close()

    def claim(self, config: Config, defaults: Mapping[str, Any] | None = None) -> None:
        """Makes the directory this configuration's, or checks that it is.

        Args:
          config: with all options of the method.
          defaults: of these options; a run that is older than one of them has its default.

        Raises:
          errors.StorageError: it belongs to another configuration; the message shows the difference.
        """
        path = self.path / "config.json"
        if not path.exists():
            self.write("config.json", config.to_json())
            return
        try:
            other = Config.from_json(path.read_text())
        except ValueError as error:
            raise errors.StorageError(f"{path}: {error}; choose another --run_dir") from error
        if other.method == config.method:
            other = dataclasses.replace(other, options={**(defaults or {}), **other.options})
        difference = other.difference(config)
        if difference:
            told = "; ".join(f"{k}: {a!r} there, {b!r} asked for" for k, (a, b) in difference.items())
            raise errors.StorageError(
                f"{self.path} holds a run of another configuration ({told}); choose another --run_dir"
            )

    def claim_data(self, train: Split, teacher: str = "", name: str = "") -> None:
        """Notes which examples (and whose answers) the run is trained on, or checks that they are the same.

        What is kept for validation, and for a test split that the source lacks, is drawn from them: from
        other examples another part would be drawn, and what was trained on would be tested.

        Args:
          train: the examples.
          teacher: SHA-256 of the network that is distilled from; "" where there is none.
          name: of the data set; where it holds a path, this is noted as seen from the root.

        Raises:
          errors.StorageError: they are others, or the teacher is another.
        """
        now: dict[str, Any] = {"train": train.fingerprint(), "examples": len(train)}
        before = data_of(self.path)
        if before is None:
            facts = {**now, "teacher": teacher, "source": data.place(name)}
            self.write("data.json", json.dumps(facts) + "\n")
            return
        before.pop("source")
        if before.pop("teacher") not in ("", teacher):
            raise errors.StorageError(
                f"{self.path} was trained with another teacher: the file has changed since; give the one it "
                "had, or choose another --run_dir"
            )
        if before != now:
            raise errors.StorageError(
                f"{self.path} was trained on other data ({then_and_now(before, train)}): their "
                "validation part would be another; choose another --run_dir"
            )

    def write(self, name: str, text: str) -> None:
        """Writes a text file of the directory, atomically."""
        write_atomically(self.path / name, text.encode())


def data_of(path: str | pathlib.Path) -> dict[str, Any] | None:
    """Returns what the run at `path` was trained on, if it says.

    {"train": SHA-256, "examples": number, "teacher": SHA-256 or "", "source": `data.place` of it or ""}.
    """
    try:
        found = json.loads((pathlib.Path(path) / "data.json").read_text())
        facts = {"train": str(found["train"]), "examples": int(found["examples"])}
        return {**facts, **{name: str(found.get(name, "")) for name in ("teacher", "source")}}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_of(model: str) -> tuple[pathlib.Path, Config | None]:
    """Returns the run directory that `model` is, or lies in, and its configuration; None: it is in none."""
    path = pathlib.Path(model).resolve() if pathlib.Path(model).exists() else pathlib.Path(model)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").is_file():
            try:
                return folder, Config.from_json((folder / "config.json").read_text())
            except (OSError, ValueError):
                break
    return path, None


def then_and_now(before: dict[str, Any], train: Split) -> str:
    """Returns in words how the training data differ from those that `data_of` told of."""
    told = f"{before['examples']} training examples then, {len(train)} now"
    return told + (", but others" if before["examples"] == len(train) else "")
