"""Text logs of a run: `metrics.jsonl` (a line an epoch) and `classwise.csv` (a row for each class).

model.fit(batches, callbacks=[history, RunLog(run, history)])
"""

import csv
import io
import json
import math
from typing import Any

import keras

from fairat_tf.callbacks.classwise_history import ClasswiseHistory
from fairat_tf.run_directory import RunDirectory

_COLUMNS = ("epoch", "split", "metric", "class", "value")


class RunLog(keras.callbacks.Callback):
    """Rewrites both files at the end of each epoch, atomically.

    What an earlier, killed process wrote of the same or a later epoch is replaced, so a resumed run
    ends with the same files as one that was never stopped. They hold no times for that reason.
    """

    def __init__(self, run: RunDirectory, history: ClasswiseHistory):
        super().__init__()
        self._run, self._history = run, history

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the epoch."""
        record = {"epoch": epoch, **{k: _number(v) for k, v in (logs or {}).items()}}
        lines = [line for line in self._lines("metrics.jsonl") if json.loads(line)["epoch"] < epoch]
        self._run.write("metrics.jsonl", "\n".join([*lines, json.dumps(record)]) + "\n")
        self._run.write("classwise.csv", self._csv(epoch))

    def _csv(self, epoch: int) -> str:
        kept = [row for row in csv.DictReader(self._lines("classwise.csv")) if int(row["epoch"]) < epoch]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        writer.writerows({"epoch": epoch, **row} for row in self._history.table())
        return buffer.getvalue()

    def _lines(self, name: str) -> list[str]:
        path = self._run / name
        return path.read_text(encoding="utf-8").rstrip("\n").split("\n") if path.exists() else []


def _number(value: Any) -> float | None:
    """Returns a number that JSON knows: null for NaN and infinities."""
    value = float(value)
    return value if math.isfinite(value) else None
