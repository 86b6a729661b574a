"""Tells a method where an epoch begins and ends, with its class-wise values.

model.fit(batches, validation_data=validation)                       # brings `MethodHooks` by itself
Loop(model, strategy, callbacks=[MethodHooks()])                     # the package's own loop does not
"""

from typing import Any

import keras
import numpy as np


class ClasswiseRecord(keras.callbacks.Callback):
    """Keeps the class-wise values of the epoch that just ended.

    Attributes:
      train, validation: metric name -> float [K] (NaN where a class had no examples); `validation` is
        empty in an epoch without validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.train: dict[str, np.ndarray] = {}
        self.validation: dict[str, np.ndarray] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins a record."""
        self.validation = {}

    def on_test_begin(self, logs: Any = None) -> None:
        """Takes the training values before validation resets the metrics."""
        self.train = self.model.classwise(self.model.train_metrics)

    def on_test_end(self, logs: Any = None) -> None:
        """Takes the validation values."""
        self.validation = self.model.classwise(self.model.validation_metrics)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Takes the training values where there was no validation."""
        if not self.validation:
            self.train = self.model.classwise(self.model.train_metrics)


class MethodHooks(ClasswiseRecord):
    """Calls `on_epoch_begin` and `on_epoch_end` of the method that is trained."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Tells the method."""
        super().on_epoch_begin(epoch, logs)
        self.model.on_epoch_begin(epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Tells the method, with the class-wise values of training and validation."""
        super().on_epoch_end(epoch, logs)
        self.model.on_epoch_end(epoch, self.train, self.validation)
