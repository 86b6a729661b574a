"""Warns where the attack finds no direction: its examples are then noise, and robustness is not real.

model.fit(batches, validation_data=validation, callbacks=[history, ZeroGradients(history)])
"""

import logging
from typing import Any

import keras
import numpy as np

from fairat_tf.callbacks.classwise_history import ClasswiseHistory

ALARM = 0.01
"""Share of a class's examples from which on a person is told."""


class ZeroGradients(keras.callbacks.Callback):
    """Warns once a split when over 1 % of a class's examples have an input gradient of exactly 0.

    Exactly 0 is what a saturated softmax gives in low precision: in float32 with logits about 100 apart, in
    half precision far earlier. Every share is in the logs: `zero_gradient` and `val_zero_gradient`, by class
    in `classwise.csv` and TensorBoard.

    Args:
      history: the run's class-wise history, which must come earlier in the list of callbacks.
    """

    def __init__(self, history: ClasswiseHistory):
        super().__init__()
        self._history = history
        self._warned: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the epoch's shares."""
        splits = {"training": self._history.train, "validation": self._history.validation}
        for split, values in splits.items():
            shares = np.nan_to_num(values.get("zero_gradient", np.zeros(1)))
            if shares.max() <= ALARM or split in self._warned:
                continue
            self._warned.add(split)
            worst = self._history.class_names[int(shares.argmax())]
            logging.warning(
                "epoch %d: the attack has no gradient at %.1f %% of the %s examples of class %s, so it "
                "leaves them at random noise; robust accuracy there is not real (a network this sure needs "
                "more weight decay, a lower learning rate, or float32 instead of bfloat16)",
                *(epoch + 1, 100 * shares.max(), split, worst),
            )
