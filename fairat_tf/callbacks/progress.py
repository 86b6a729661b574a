"""What a person sees while a run goes on: a bar within an epoch, one line after it.

model.fit(batches, verbose=0, callbacks=[history, Progress(history)])
"""

import sys
import time
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from fairat_tf.callbacks.classwise_history import ClasswiseHistory

WIDTH = 79


class Progress(keras.callbacks.Callback):
    """Shows loss, robust accuracy and the worst class, within 80 columns.

    Args:
      history: the run's class-wise history.
      first_step: batches of the first epoch that were done before (a resumed run).
    """

    def __init__(self, history: ClasswiseHistory, first_step: int = 0):
        super().__init__()
        self._history = history
        self.first_step = first_step
        self._bar: Any = None
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Opens the bar."""
        self._began = time.monotonic()
        self.close()
        self._bar = tqdm(
            total=self.params.get("steps"),
            initial=self.first_step,
            desc=f"epoch {epoch + 1}/{self.params['epochs']}",
            unit="step",
            leave=False,
            ncols=WIDTH,
            mininterval=0.2 if sys.stderr.isatty() else 20.0,
            bar_format="{desc} {bar} {n}/{total} {postfix[0]} {remaining} left",
            postfix=[""],
        )
        self.first_step = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Moves the bar."""
        if logs:
            self._bar.postfix[0] = _short(logs)
        self._bar.update(1)

    def on_test_begin(self, logs: Any = None) -> None:
        """Says that validation runs."""
        if self._bar is not None:
            self._bar.postfix[0] = "validating"
            self._bar.refresh()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Closes the bar and prints the epoch's line."""
        self.close()
        seconds = time.monotonic() - self._began
        print(self._line(epoch, logs or {}, seconds), flush=True)

    def close(self) -> None:
        """Clears the bar, if there is one: of an epoch that ended, or that was given up."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, epoch: int, logs: dict[str, Any], seconds: float) -> str:
        epochs = self.params["epochs"]
        begin = f"epoch {epoch + 1:>{len(str(epochs))}}/{epochs}  loss {float(logs.get('loss', np.nan)):.3f}"
        end = f"  {seconds:.0f} s"
        if "val_robust_accuracy" not in logs:
            return begin + end
        names = ("clean_accuracy", "robust_accuracy", "robust_worst_class")
        clean, robust, worst = (100 * float(logs[f"val_{name}"]) for name in names)
        begin += f"  val clean {clean:.1f}  robust {robust:.1f}  worst {worst:.1f} "
        weakest = self._history.class_names[int(np.nanargmin(self._history.validation["robust"]))]
        weakest = f"(class {weakest})" if weakest.isdigit() else weakest
        return begin + weakest[: max(WIDTH - len(begin) - len(end), 3)] + end


def _short(logs: dict[str, Any]) -> str:
    view = "robust" if "robust_accuracy" in logs else "clean"
    accuracy, worst = (100 * float(logs[f"{view}_{what}"]) for what in ("accuracy", "worst_class"))
    return f"loss {float(logs['loss']):.3f} {view} {accuracy:.1f}% worst {worst:.1f}%"
