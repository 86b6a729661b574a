"""Keeps the best network of a run, by validation.

model.fit(batches, validation_data=validation, callbacks=[BestCheckpoint(path, "robust_accuracy")])
"""

import os
import pathlib
from collections.abc import Collection
from typing import Any

import keras

from fairat_tf.run_directory import sync_directory


class BestCheckpoint(keras.callbacks.Callback):
    """Saves the evaluated network (the moving average where there is one) when its score rises.

    Args:
      path: a `.keras` file; what is there loads with Keras alone and is replaced atomically.
      select: validation metrics joined by "+", without the prefix `val_`; their sum is the score.

    Attributes:
      best: {"score", "epoch"} of the file, or {} before the first; part of a checkpoint's state.
    """

    def __init__(self, path: pathlib.Path, select: str):
        super().__init__()
        self._path = path
        self._select = select
        self.best: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the network if no earlier epoch had the same score or a higher one."""
        score = self._score(logs or {})
        if self.best and self.best["epoch"] < epoch and score <= self.best["score"]:
            return
        save_network(self.model.evaluated_network, self._path)
        self.best = {"score": score, "epoch": epoch}

    def _score(self, logs: dict[str, Any]) -> float:
        values = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
        return float(sum(float(values[name]) for name in selection_names(self._select, values)))


def save_network(network: keras.Model, path: pathlib.Path) -> None:
    """Writes a `.keras` file, folder included, atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{path.name}")
    network.save(temporary)
    os.replace(temporary, path)
    sync_directory(path.parent)


def selection_names(select: str, known: Collection[str]) -> list[str]:
    """Returns the metrics that are joined by "+" in `select`.

    Raises:
      ValueError: one of them is not among the `known` validation metrics; the message lists these.
    """
    names = [name.strip() for name in select.split("+")]
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"select: unknown validation metric {', '.join(missing)}; known: {', '.join(sorted(known))}"
        )
    return names
