"""Keeps the best network of a run, by validation.

model.fit(batches, validation_data=validation, callbacks=[BestCheckpoint(path, "robust_accuracy")])
"""

import os
import pathlib
from collections.abc import Collection
from typing import Any

import keras

from fairat_tf import optimization
from fairat_tf.run_directory import sync_directory

_SCORES = ("_accuracy", "_worst_class")


class BestCheckpoint(keras.callbacks.Callback):
    """Saves the evaluated network (the moving average where there is one) when its score rises.

    Args:
      path: a `.keras` file; what is there loads with Keras alone and is replaced atomically.
      select: validation metrics joined by "+", without the prefix `val_`; their sum is the score.
      writes: whether this process writes the file; of several workers only the chief does.

    Attributes:
      best: {"score", "epoch"} of the file, or {} before the first; part of a checkpoint's state.
    """

    def __init__(self, path: pathlib.Path, select: str, writes: bool = True):
        super().__init__()
        self._path = path
        self._select = select
        self._writes = writes
        self.best: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the network if no earlier epoch had the same score or a higher one."""
        if not any(name.startswith("val_") for name in logs or {}):
            return  # an epoch without validation
        score = self._score(logs or {})
        if self.best and self.best["epoch"] < epoch and score <= self.best["score"]:
            return
        if self._writes:
            if self.best and self._path.exists():
                os.replace(self._path, self._set_aside(self.best["epoch"]))
            save_network(self.model, self._path)
        self.best = {"score": score, "epoch": epoch}

    def saved(self) -> None:
        """Drops the best network before this one: the new facts are on the disk as well."""
        for file in self._path.parent.glob(self._set_aside("*").name) if self._writes else ():
            file.unlink()

    def restored(self) -> None:
        """Makes the file that of `best` again, where training ended between the file and the facts."""
        right = self._set_aside(self.best.get("epoch", ""))
        if self._writes and right.exists():
            os.replace(right, self._path)
        self.saved()

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves one file, also after Keras' own `fit`, which keeps no facts."""
        self.saved()

    def _set_aside(self, epoch: Any) -> pathlib.Path:
        return self._path.with_name(f".best-of-epoch-{epoch}-{self._path.name}")

    def _score(self, logs: dict[str, Any]) -> float:
        values = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
        return float(sum(float(values[name]) for name in selection_names(self._select, values)))


def save_network(method: Any, path: pathlib.Path) -> None:
    """Writes the evaluated network as a `.keras` file, folder included, atomically.

    A reader sees the old file or the new one. What can be trained in it is what can be in the method's
    network, also where it is the moving average.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{path.name}")
    with optimization.trainable_like(method.evaluated_network, method.network):
        method.evaluated_network.save(temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def selection_names(select: str, known: Collection[str]) -> list[str]:
    """Returns the metrics that are joined by "+" in `select`.

    Raises:
      ValueError: one of them is not among the `known` validation metrics, or is none of which more is
        better; the message lists those that can be chosen.
    """
    names = [name.strip() for name in select.split("+")]
    scores = sorted(name for name in known if name.endswith(_SCORES))
    wrong = [name for name in names if name not in scores]
    if wrong:
        what = (
            "unknown validation metric"
            if set(wrong) - set(known)
            else "not a metric of which more is better:"
        )
        raise ValueError(f"select: {what} {', '.join(wrong)}; known: {', '.join(scores)}")
    return names
