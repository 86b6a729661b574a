"""Where an evaluation keeps what it has done, so that a killed one goes on where it was.

    store = Store("runs/a/eval_state", identity={"model": sha256, "seed": 0})
    store.save("pgd20", predictions=predictions)
    store.load("pgd20")["predictions"]

Plain `.npz` without pickle, written beside and renamed into place. State that belongs to other settings
is refused, never mixed in. Without a directory nothing is kept.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fairat_tf import errors


class Store:
    """Named groups of arrays on disk, tied to what they belong to.

    Args:
      directory: where; None keeps nothing.
      identity: JSON-able; whatever would change a result.
    """

    def __init__(self, directory: str | Path | None, identity: Mapping[str, Any]):
        self._directory = Path(directory) if directory else None
        if self._directory:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                message = f"{self._directory} cannot be made: {error.strerror or error}"
                raise errors.StorageError(message) from error
            wanted = json.dumps(dict(identity), sort_keys=True, indent=1)
            self._check(self._directory / "identity.json", wanted)

    def _check(self, path: Path, wanted: str) -> None:
        if not path.exists():
            _replace(path, wanted.encode())
        elif path.read_text() != wanted:
            new = json.loads(wanted)
            try:
                old = json.loads(path.read_text())
                changed = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
            except (ValueError, AttributeError):
                changed = ["identity.json is damaged"]
            self.refuse(", ".join(changed))

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._directory is not None

    def refuse(self, changed: str) -> NoReturn:
        """Raises OtherSettings, which says what has changed."""
        raise errors.OtherSettings(
            f"{self._directory} holds an evaluation with other settings ({changed}): choose another "
            "--output_dir, or remove that folder to start anew"
        )

    def save(self, name: str, **arrays: Any) -> None:
        """Replaces what is kept under `name`."""
        if self._directory:
            path = self._directory / f"{name}.npz"
            temporary = path.with_suffix(".tmp")
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)
            os.replace(temporary, path)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Returns what is kept under `name`, empty if nothing or if it is unreadable."""
        path = self._directory / f"{name}.npz" if self._directory else None
        if path is None or not path.exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except (ValueError, *errors.DAMAGED):
            return {}

    def path(self, name: str) -> str | None:
        """Returns a path for a part that keeps its own state, or None."""
        return str(self._directory / name) if self._directory else None


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
