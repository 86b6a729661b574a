"""The class-wise record of an epoch, from which logs, charts and tables are made.

history = ClasswiseHistory(("airplane", "automobile"))
model.fit(batches, validation_data=validation, callbacks=[history])
history.train["robust"]           # accuracy of each class, [K]
history.validation["robust"]
"""

from typing import Any

import keras
import numpy as np

from fairat_tf.metrics.ranks import rank_correlation


class ClasswiseHistory(keras.callbacks.Callback):
    """Keeps the class-wise values of the epoch that just ended.

    It also adds the paper's premise to the logs: `premise_entropy` and `premise_cross_entropy`, the
    rank correlation over classes between the mean uncertainty of the model about validation images
    and their robust accuracy (-1 where the most uncertain class is always the least robust).

    Attributes:
      train, validation: metric name -> float [K] (NaN where a class had no examples); `validation` is
        empty in an epoch without validation.
      confusion: counts [K, K] of the attacked validation images, true class by predicted class.
    """

    def __init__(self, class_names: tuple[str, ...]):
        super().__init__()
        self.class_names = class_names
        self.train: dict[str, np.ndarray] = {}
        self.validation: dict[str, np.ndarray] = {}
        self.confusion = np.zeros((len(class_names), len(class_names)))
        self._validated = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins a record."""
        self._validated, self.validation = False, {}

    def on_test_begin(self, logs: Any = None) -> None:
        """Takes the training values before validation resets the metrics."""
        self.train = self.model.classwise(self.model.train_metrics)

    def on_test_end(self, logs: Any = None) -> None:
        """Takes the validation values."""
        self.validation = self.model.classwise(self.model.validation_metrics)
        self.confusion = self.model.robust.matrix()
        self._validated = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Takes the training values where there was no validation, and logs the premise where there was."""
        if not self._validated:
            self.train = self.model.classwise(self.model.train_metrics)
        elif logs is not None:
            robust = self.validation["robust"]
            logs["premise_entropy"] = rank_correlation(self.validation["entropy"], robust)
            logs["premise_cross_entropy"] = rank_correlation(self.validation["clean_loss"], robust)

    def table(self) -> list[dict[str, Any]]:
        """Returns the record as rows {"split", "metric", "class", "value"}."""
        return [
            {"split": split, "metric": metric, "class": name, "value": float(value)}
            for split, values in (("train", self.train), ("validation", self.validation))
            for metric, per_class in values.items()
            for name, value in zip(self.class_names, per_class, strict=True)
        ]
