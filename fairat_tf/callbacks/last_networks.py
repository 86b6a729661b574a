"""Keeps the networks of a run's last epochs.

model.fit(batches, callbacks=[LastNetworks(folder, count=5)])    # epoch-0106.keras to epoch-0110.keras

The worst class moves by several points from one epoch to the next, so the mean over the last epochs says
more of a method than one of them.
"""

import pathlib
from typing import Any

import keras

from fairat_tf.callbacks.best_checkpoint import save_network


class LastNetworks(keras.callbacks.Callback):
    """Saves the evaluated network of each of the last `count` epochs (counted from 1 in the names).

    Args:
      folder: where the `.keras` files go; each loads with Keras alone.
      count: number of epochs.
    """

    def __init__(self, folder: pathlib.Path, count: int):
        super().__init__()
        self._folder = folder
        self._count = count

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the network of an epoch that is among the last."""
        if epoch >= self.params["epochs"] - self._count:
            save_network(self.model, self._folder / f"epoch-{epoch + 1:04d}.keras")
