"""Keras metrics that keep one number for each class.

    robust = Confusion("robust", num_classes=10)
    robust.update_state(labels, predictions, mask)
    robust.result()            # {"robust_accuracy": ..., "robust_worst_class": ..., ...}
    robust.matrix()            # NumPy [K, K], true class by predicted class

Classes are counted as they are: no balance is assumed, and a class without examples takes no part.
Counts are vectors in the metric's state, so replicas add up and a resumed epoch ends the same.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


def _present(values: tf.Tensor, counts: tf.Tensor, absent: float) -> tf.Tensor:
    return tf.where(counts > 0, values, tf.cast(absent, values.dtype))


def _weights(mask: Any, labels: tf.Tensor, dtype: Any) -> tf.Tensor:
    return tf.ones(tf.shape(labels), dtype) if mask is None else tf.cast(mask, dtype)


@keras.saving.register_keras_serializable("fairat_tf")
class Confusion(keras.metrics.Metric):
    """Counts of (true class, predicted class), and the accuracies that follow from them.

    Args:
      name: prefix of the results: `<name>_accuracy` (over examples), `<name>_worst_class`,
        `<name>_gap` (best minus worst class), `<name>_nsd` (standard deviation over classes,
        ddof 0, divided by their mean). Fractions, not per cent.
      num_classes: K.
    """

    def __init__(self, name: str, num_classes: int, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.num_classes = num_classes
        self.counts = self.add_variable((num_classes, num_classes), "zeros", name="counts")

    def update_state(self, labels: tf.Tensor, predictions: tf.Tensor, mask: Any = None) -> None:
        """Adds examples: labels and predictions int [B]; mask [B] weighs them (0 leaves out padding)."""
        cells = tf.cast(labels, tf.int32) * self.num_classes + tf.cast(predictions, tf.int32)
        weights = _weights(mask, cells, self.dtype)
        hits = tf.math.unsorted_segment_sum(weights, cells, self.num_classes**2)
        self.counts.assign_add(tf.reshape(hits, (self.num_classes, self.num_classes)))

    def result(self) -> dict[str, tf.Tensor]:
        """Returns the four scalars described at the class."""
        counts = tf.convert_to_tensor(self.counts)
        correct, total = tf.linalg.diag_part(counts), tf.reduce_sum(counts, 1)
        accuracy = tf.math.divide_no_nan(correct, total)
        present = tf.cast(total > 0, accuracy.dtype)
        mean = tf.math.divide_no_nan(tf.reduce_sum(accuracy * present), tf.reduce_sum(present))
        variance = tf.math.divide_no_nan(
            tf.reduce_sum(tf.square(accuracy - mean) * present), tf.reduce_sum(present)
        )
        worst = tf.reduce_min(_present(accuracy, total, 2.0))
        worst = tf.where(worst > 1.0, tf.zeros_like(worst), worst)
        return {
            f"{self.name}_accuracy": tf.math.divide_no_nan(tf.reduce_sum(correct), tf.reduce_sum(total)),
            f"{self.name}_worst_class": worst,
            f"{self.name}_gap": tf.reduce_max(_present(accuracy, total, 0.0)) - worst,
            f"{self.name}_nsd": tf.math.divide_no_nan(tf.sqrt(variance), mean),
        }

    def matrix(self) -> np.ndarray:
        """Returns the counts, float64 [K, K]: row = true class, column = predicted class."""
        return np.asarray(keras.ops.convert_to_numpy(self.counts), np.float64)

    def per_class(self) -> np.ndarray:
        """Returns the accuracy of each class, [K]; NaN where a class had no examples."""
        counts = self.matrix()
        with np.errstate(invalid="ignore"):
            return np.diag(counts) / counts.sum(1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable("fairat_tf")
class ClassMean(keras.metrics.Metric):
    """Mean of a value over all examples (the result) and over those of each class.

    Args:
      name: name of the result.
      num_classes: K.
    """

    def __init__(self, name: str, num_classes: int, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.num_classes = num_classes
        self.total = self.add_variable((num_classes,), "zeros", name="total")
        self.count = self.add_variable((num_classes,), "zeros", name="count")

    def update_state(self, labels: tf.Tensor, values: tf.Tensor, mask: Any = None) -> None:
        """Adds examples: labels int [B], values float [B], mask [B] weighs them."""
        weights = _weights(mask, labels, self.dtype)
        labels, values = tf.cast(labels, tf.int32), tf.cast(values, self.dtype)
        self.total.assign_add(tf.math.unsorted_segment_sum(values * weights, labels, self.num_classes))
        self.count.assign_add(tf.math.unsorted_segment_sum(weights, labels, self.num_classes))

    def result(self) -> tf.Tensor:
        """Returns the mean over all examples (0 before any)."""
        return tf.math.divide_no_nan(tf.reduce_sum(self.total), tf.reduce_sum(self.count))

    def per_class(self) -> np.ndarray:
        """Returns the mean of each class, [K]; NaN where a class had no examples."""
        total, count = (np.asarray(keras.ops.convert_to_numpy(v)) for v in (self.total, self.count))
        with np.errstate(invalid="ignore", divide="ignore"):
            return total / count

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}
