"""The class-wise record of an epoch, from which logs, charts and tables are made.

history = ClasswiseHistory(("airplane", "automobile"))
model.fit(batches, validation_data=validation, callbacks=[history])
history.train["robust"]           # accuracy of each class, [K]
history.validation["robust"]
"""

from typing import Any

import numpy as np

from fairat_tf.methods.hooks import ClasswiseRecord
from fairat_tf.metrics.ranks import rank_correlation


class ClasswiseHistory(ClasswiseRecord):
    """Keeps the class-wise values of the epoch that just ended.

    It also adds the paper's premise to the logs: `premise_entropy` and `premise_cross_entropy`, the
    rank correlation over classes between the mean uncertainty of the model about validation images
    and their robust accuracy (-1 where the most uncertain class is always the least robust).

    Attributes:
      train, validation: as in `ClasswiseRecord`.
      confusion: counts [K, K] of the attacked validation images, true class by predicted class.
    """

    def __init__(self, class_names: tuple[str, ...]):
        super().__init__()
        self.class_names = class_names
        self.confusion = np.zeros((len(class_names), len(class_names)))

    def on_test_end(self, logs: Any = None) -> None:
        """Takes the validation values."""
        super().on_test_end(logs)
        self.confusion = self.model.robust.matrix()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends the record, and logs the premise where there was validation."""
        super().on_epoch_end(epoch, logs)
        if self.validation and logs is not None:
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
