"""Sums over classes and over replicas.

over_replicas(class_sums(values, labels, num_classes))       # [K, ...], of the global batch
"""

from typing import Any

import tensorflow as tf


def class_sums(values: tf.Tensor, labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns the sum of the values of each class, [K, ...], from values [B, ...] and labels int32 [B].

    With label distributions [B, K] each example counts for every class by its share.
    """
    if labels.dtype.is_floating:
        shares = tf.reshape(tf.cast(labels, values.dtype), [-1, num_classes] + [1] * (len(values.shape) - 1))
        return tf.reduce_sum(shares * values[:, None], 0)
    return tf.math.unsorted_segment_sum(values, labels, num_classes)


def class_values(values: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the value of each example's class, [B], from values [K] and labels int32 [B].

    With label distributions [B, K] it is the mean of the values under the distribution.
    """
    if labels.dtype.is_floating:
        return tf.reduce_sum(tf.cast(labels, values.dtype) * values, -1)
    return tf.gather(values, labels)


def over_replicas(values: Any) -> Any:
    """Returns the sum over all replicas of a tensor, or of each tensor of a list, equal on each of them."""
    context: Any = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.map_structure(tf.identity, values))
