"""What an epoch costs: `times.csv`, a row for each epoch that was trained whole or in part.

    model.fit(batches, callbacks=[EpochTimes(run)])

Columns: `epoch`, `steps` that were timed, and their `seconds` and `processor_seconds` (of all threads of the
process). The first step of a process is not timed, for it traces the graph; neither is validation. The other
logs hold no times, so that a run that was stopped and resumed ends with the files of one that was not.
"""

import csv
import io
import time
from typing import Any

import keras

from fairat_tf.run_directory import RunDirectory

FILE = "times.csv"
_COLUMNS = ("epoch", "steps", "seconds", "processor_seconds")


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


class EpochTimes(keras.callbacks.Callback):
    """Adds a row at the end of each epoch; what an earlier process measured stays, beside the new row."""

    def __init__(self, run: RunDirectory):
        super().__init__()
        self._run = run
        self._began: tuple[float, float] | None = None  # None: the process has made no step yet
        self._steps = 0
        self._spent = (0.0, 0.0)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock, unless the graph is still to be traced."""
        self._steps = 0
        self._spent = (0.0, 0.0)
        if self._began is not None:
            self._began = _now()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step."""
        now = _now()
        if self._began is None:
            self._began = now
            return
        self._steps += 1
        self._spent = (now[0] - self._began[0], now[1] - self._began[1])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the row."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        path = self._run / FILE
        if not path.exists():
            writer.writerow(_COLUMNS)
        writer.writerow([epoch, self._steps, *(f"{spent:.3f}" for spent in self._spent)])
        self._run.write(FILE, (path.read_text() if path.exists() else "") + buffer.getvalue())
