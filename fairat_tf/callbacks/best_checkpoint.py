"""Keeps the best network of a run, by validation.

    model.fit(batches, validation_data=validation, callbacks=[BestCheckpoint(path, "robust_accuracy")])
"""

import os
import pathlib
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
        self._names = [name.strip() for name in select.split("+")]
        self.best: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the network if no earlier epoch had the same score or a higher one."""
        score = self._score(logs or {})
        if self.best and self.best["epoch"] < epoch and score <= self.best["score"]:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".writing-{self._path.name}")
        self.model.evaluated_network.save(temporary)
        os.replace(temporary, self._path)
        sync_directory(self._path.parent)
        self.best = {"score": score, "epoch": epoch}

    def _score(self, logs: dict[str, Any]) -> float:
        missing = [name for name in self._names if f"val_{name}" not in logs]
        if missing:
            known = ", ".join(k.removeprefix("val_") for k in logs if k.startswith("val_"))
            raise ValueError(f"select: unknown validation metric {', '.join(missing)}; known: {known}")
        return float(sum(float(logs[f"val_{name}"]) for name in self._names))
