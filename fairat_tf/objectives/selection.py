"""Which examples of a batch are the hard ones: scores in, membership out.

    chosen = topk(scores, fraction=0.5)          # bool [B], exactly max(1, round(0.5 * B)) of them

All shapes are static. Ties go to the lower index. A score of -inf says that nothing is known of the
example: it is no part of `above_mean` and `quantile`. Under several replicas the choice is made over the
global batch: `global_scores` gathers the scores, `local` cuts a replica's part out again.
"""

from typing import Any

import tensorflow as tf

from fairat_tf import errors


def count_of(fraction: float, size: int) -> int:
    """Returns max(1, round(fraction * size)), rounding halves up, at most `size`."""
    return min(size, max(1, int(fraction * size + 0.5)))


def _reached(share: tf.Tensor, size: Any) -> tf.Tensor:
    """Returns `count_of` of a share float64 that the graph knows, int32; `size` may be a tensor."""
    size = tf.cast(size, tf.float64)
    return tf.cast(tf.clip_by_value(tf.floor(share * size + 0.5), 1.0, tf.maximum(size, 1.0)), tf.int32)


def topk(scores: tf.Tensor, fraction: float, reached: tf.Tensor | None = None) -> tf.Tensor:
    """Returns the `count_of(fraction, B)` examples with the highest scores, bool [B].

    Args:
      scores: float [B].
      fraction: in (0, 1].
      reached: float64 scalar tensor in [0, 1], or None for 1: the number is that of `reached * fraction`.
    """
    size = scores.shape[0]
    rows = tf.math.top_k(scores, count_of(fraction, size)).indices
    return tf.reduce_any(_first(rows, fraction, size, reached)[:, None] == tf.range(size)[None], axis=0)


def _first(rows: tf.Tensor, fraction: float, size: int, reached: tf.Tensor | None) -> tf.Tensor:
    """Returns the rows [..., k] with -1 in place of those beyond what `reached` of the fraction allows."""
    if reached is None:
        return rows
    return tf.where(tf.range(rows.shape[-1]) < _reached(reached * fraction, size), rows, -1)


def above_mean(scores: tf.Tensor) -> tf.Tensor:
    """Returns the examples whose score exceeds the mean of those that are known, bool [B]."""
    known = scores > -float("inf")
    total = tf.reduce_sum(tf.where(known, scores, 0.0))
    return known & (scores > total / tf.maximum(tf.reduce_sum(tf.cast(known, scores.dtype)), 1.0))


def quantile(scores: tf.Tensor, fraction: float) -> tf.Tensor:
    """Returns the threshold that a share `fraction` of the known scores reaches: the k-th highest, scalar.

    NaN where none is known.
    """
    known = tf.reduce_sum(tf.cast(scores > -float("inf"), tf.int32))
    place = _reached(tf.constant(fraction, tf.float64), known)
    value = tf.gather(tf.sort(scores, direction="DESCENDING"), place - 1)
    return tf.where(known > 0, value, tf.constant(float("nan"), scores.dtype))


def lowest_classes(class_values: tf.Tensor, fraction: float) -> tf.Tensor:
    """Returns the `count_of(fraction, K)` classes with the lowest values, bool [K]."""
    return topk(-class_values, fraction)


def places_in_class(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the place of each score among those of its class, from -1 (lowest) to 0 (highest), float32 [B].

    With n examples of the class, the one with j higher ones has -(j + 1/2) / n; ties: the lower index is
    higher. The highest places of a batch are thus about the same share of every class.
    """
    same = labels[:, None] == labels[None]
    index = tf.range(scores.shape[0])
    earlier = (scores[None] == scores[:, None]) & (index[None] < index[:, None])
    higher = same & ((scores[None] > scores[:, None]) | earlier)
    above, size = (tf.reduce_sum(tf.cast(pairs, tf.float32), 1) for pairs in (higher, same))
    return -(above + 0.5) / size


def check_group(size: int, group: int) -> None:
    """Raises UsageError where groups of so many neighbours do not fill a replica's batch."""
    if size % group:
        raise errors.UsageError(f"hard_group {group} must divide the batch of a replica, {size}")


def in_groups(scores: tf.Tensor, fraction: float, group: int, reached: tf.Tensor | None = None) -> tf.Tensor:
    """Returns `topk` taken within each run of `group` neighbours, bool [B]; `group` divides B."""
    check_group(scores.shape[0], group)
    blocks = tf.reshape(scores, [-1, group])
    rows = tf.math.top_k(blocks, count_of(fraction, group)).indices
    rows = _first(rows, fraction, group, reached)
    chosen = tf.reduce_any(rows[:, :, None] == tf.range(group)[None, None], axis=1)
    return tf.reshape(chosen, [-1])


def global_scores(scores: tf.Tensor) -> tf.Tensor:
    """Returns the scores (or any values [B, ...]) of the global batch, in its order, on every replica.

    Raises:
      ValueError: there are several replicas, and the size of the batch is not known.
    """
    context: Any = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return scores
    if scores.shape[0] is None:
        raise ValueError(
            "expected batches of one size, for several replicas: tf.data's batch(..., drop_remainder=True)"
        )
    gathered = context.all_gather(tf.identity(scores), axis=0)  # an argument of the step has no device yet
    return tf.ensure_shape(gathered, [context.num_replicas_in_sync * scores.shape[0], *scores.shape[1:]])


def local(values: tf.Tensor, size: int) -> tf.Tensor:
    """Returns this replica's `size` rows of a tensor over the global batch."""
    context: Any = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    start = context.replica_id_in_sync_group * size
    return tf.gather(values, start + tf.range(size))
