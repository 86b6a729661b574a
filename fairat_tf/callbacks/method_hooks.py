"""Tells a method where an epoch begins and ends.

model.fit(batches, callbacks=[MethodHooks()])
"""

from typing import Any

import keras

from fairat_tf.callbacks.classwise_history import ClasswiseHistory


class MethodHooks(keras.callbacks.Callback):
    """Calls `on_epoch_begin` and `on_epoch_end` of the method that is trained.

    Args:
      history: the run's class-wise history, which must come earlier in the list of callbacks.
    """

    def __init__(self, history: ClasswiseHistory):
        super().__init__()
        self._history = history

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Tells the method."""
        self.model.on_epoch_begin(epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Tells the method, with the class-wise values of training and validation."""
        self.model.on_epoch_end(epoch, self._history.train, self._history.validation)
