"""Sums over classes and over replicas.

over_replicas(class_sums(values, labels, num_classes))       # [K, ...], of the global batch
"""

from typing import Any

import tensorflow as tf


def class_sums(values: tf.Tensor, labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns the sum of the values of each class, [K, ...], from values [B, ...] and labels int32 [B]."""
    return tf.math.unsorted_segment_sum(values, labels, num_classes)


def over_replicas(values: Any) -> Any:
    """Returns the sum over all replicas of a tensor, or of each tensor of a list, equal on each of them."""
    context: Any = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.map_structure(tf.identity, values))
