"""Checkpoints that survive being killed: atomic, hashed, two generations.

    checkpoints = Checkpoints(directory, variables)
    checkpoints.save({"epoch": 3, "step": 120})
    state = checkpoints.restore()          # None where there is none

One checkpoint is a folder `step-00001234` with `variables.npz` (every variable in order),
`state.json` (the loop's position and scores) and, written last, `manifest.json` with the SHA-256
of both. It is written under a temporary name and renamed; a folder without a matching manifest is
damaged, said to be so, and the generation before it is used.

Sums that each replica keeps for itself (metrics within an epoch) are saved replica by replica: adding them up
and splitting them again would round differently. With several workers all take part in a save, the chief
writes, and all restore from the directory, which must be one that all of them see.
"""

import hashlib
import io
import json
import logging
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf.run_directory import sync_directory, write_atomically
from fairat_tf.workers import Team

_KEPT = 2
_REPLICAS, _APART = "-replicas", "-apart"  # not counted as variables


class Checkpoints:
    """Saves and restores variables (in the given order) with a state that JSON can hold.

    Args:
      directory: where the generations lie; made when needed.
      variables: Keras or TensorFlow variables: weights, optimiser slots, metrics, method state.
      team: the workers of the run; None: one process.
    """

    def __init__(self, directory: pathlib.Path, variables: Sequence[Any], team: Team | None = None):
        self.directory = directory
        self.variables = list(variables)
        self.team = team

    def save(self, state: dict[str, Any], step: int) -> None:
        """Writes a generation for optimiser step `step` and drops all but the newest two.

        A generation is never written over: a further one of the same step gets a number behind its name.
        """
        packed = self._packed()
        if self.team and not self.team.chief:
            return
        target = self._free_name(f"step-{step:010d}")
        temporary = self.directory / ".writing"
        shutil.rmtree(temporary, ignore_errors=True)
        files = {"variables.npz": packed, "state.json": json.dumps(state).encode()}
        for name, content in files.items():
            write_atomically(temporary / name, content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        write_atomically(temporary / "manifest.json", json.dumps(hashes).encode())
        temporary.rename(target)
        sync_directory(self.directory)
        for old in self.generations()[_KEPT:]:
            shutil.rmtree(old)

    def _free_name(self, name: str) -> pathlib.Path:
        taken = [int(folder.name[len(name) + 1 :] or 0) for folder in self.directory.glob(f"{name}*")]
        return self.directory / (f"{name}-{max(taken) + 1:03d}" if taken else name)

    def generations(self) -> list[pathlib.Path]:
        """Returns the folders of the generations, newest first."""
        return sorted(self.directory.glob("step-*"), reverse=True)

    def restore(self) -> dict[str, Any] | None:
        """Loads the newest undamaged generation into the variables and returns its state, or None."""
        for folder in self.generations():
            content = _verified(folder)
            if content is None:
                logging.warning("checkpoint %s is damaged; trying the one before it", folder)
                continue
            self._unpack(content["variables.npz"])
            return json.loads(content["state.json"])
        return None

    def _packed(self) -> bytes:
        buffer = io.BytesIO()
        apart = [i for i, variable in enumerate(self.variables) if _is_kept_apart(_plain(variable))]
        values: dict[str, Any] = {_REPLICAS: self._replicas(), _APART: np.array(apart, np.int64)}
        gathered = self._gathered()
        for i, variable in enumerate(self.variables):
            parts = gathered[i] if i in gathered else [part.numpy() for part in _components(variable)]
            first, *others = parts
            values[f"v{i:05d}"] = first
            if any(not np.array_equal(first, other, equal_nan=True) for other in others):
                values |= {f"v{i:05d}-{replica}": other for replica, other in enumerate(others, 1)}
        np.savez(buffer, **values)
        return buffer.getvalue()

    def _gathered(self) -> dict[int, Any]:
        """Returns the values of all replicas, [replicas, ...], of what several workers keep apart."""
        if not self.team or self.team.count == 1:
            return {}
        plain = [_plain(variable) for variable in self.variables]
        apart = [i for i, variable in enumerate(plain) if _is_kept_apart(variable)]
        return dict(zip(apart, self.team.of_all_replicas([plain[i] for i in apart]), strict=True))

    def _unpack(self, content: bytes) -> None:
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            count = sum("-" not in name for name in saved.files)
            before = int(saved[_REPLICAS]) if _REPLICAS in saved.files else self._replicas()
            if count != len(self.variables):
                raise ValueError(
                    f"the checkpoint holds {count} variables, this run has {len(self.variables)}"
                )
            first, now = self.team.first_replica if self.team else 0, self._replicas()
            apart = set(saved[_APART].tolist()) if _APART in saved.files else set()
            for i, variable in enumerate(self.variables):
                parts = _parts(saved, f"v{i:05d}", before)
                if now != before and (i in apart or _is_kept_apart(_plain(variable))):
                    parts = [np.sum(parts, axis=0), *[np.zeros_like(parts[0])] * (now - 1)]
                for replica, component in enumerate(_components(variable), first):
                    component.assign(parts[replica] if replica < len(parts) else parts[0])

    def _replicas(self) -> int:
        """Returns how many replicas, of all workers, the variables have parts on."""
        parts = max((len(_components(variable)) for variable in self.variables), default=1)
        return parts * (self.team.count if self.team else 1)


def _parts(saved: Any, name: str, replicas: int) -> list[np.ndarray]:
    """Returns what each replica had of a variable: only what differs from the first one's is saved."""
    first = saved[name]
    others = (f"{name}-{replica}" for replica in range(1, replicas))
    return [first, *(saved[other] if other in saved.files else first for other in others)]


def _components(variable: Any) -> list[Any]:
    """Returns the variable of each replica: sums that are kept apart must not be added up and split again."""
    plain = _plain(variable)
    return list(getattr(plain, "values", (plain,)))


def _plain(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _is_kept_apart(variable: Any) -> bool:
    on_read = variable.synchronization == tf.VariableSynchronization.ON_READ
    return on_read and variable.aggregation == tf.VariableAggregation.SUM


def _verified(folder: pathlib.Path) -> dict[str, bytes] | None:
    """Returns the files of a generation, or None where one is missing or differs from its hash."""
    try:
        hashes = json.loads((folder / "manifest.json").read_bytes())
        content = {name: (folder / name).read_bytes() for name in hashes}
    except (OSError, ValueError):
        return None
    sound = all(hashlib.sha256(content[name]).hexdigest() == value for name, value in hashes.items())
    return content if sound and "variables.npz" in content else None
