"""What comes into a training step, and what it trains on.

batch = unpack(data)
examples = plain_examples(batch, adversarial)
"""

from typing import Any, NamedTuple

import tensorflow as tf


class Batch(NamedTuple):
    """What comes in: images [B, H, W, C] in [0, 1], labels int32 [B], index int32 [B], mask [B].

    `index` is the example's row in the training set (None where the data does not tell);
    `mask` is 0 for the padding of an evaluation batch.
    """

    images: tf.Tensor
    labels: tf.Tensor
    index: tf.Tensor | None  # type: ignore[assignment]
    mask: tf.Tensor


class Examples(NamedTuple):
    """What is trained on: M rows, the first B of which belong to the batch's own examples.

    `images` and `natural` are [M, H, W, C] (after and before the attack), `labels` int32 [M],
    `present` [M] is 1, or 0 for a row that only fills the static shape; `hard` bool [B] and
    `scores` [B] say who was found hard. `guide` [M, K] are a teacher's logits, where there is one.
    """

    images: tf.Tensor
    natural: tf.Tensor
    labels: tf.Tensor
    present: tf.Tensor
    hard: tf.Tensor
    scores: tf.Tensor
    guide: Any = None


def unpack(data: Any) -> Batch:
    """Returns the batch from a dict of `fairat_tf.data.pipeline` or an (images, labels) pair."""
    if not isinstance(data, dict):
        data = dict(zip(("image", "label"), data, strict=False))
    labels = tf.cast(data["label"], tf.int32)
    return Batch(
        images=data["image"],
        labels=labels,
        index=data.get("index"),
        mask=data.get("mask", tf.ones(tf.shape(labels))),
    )


def plain_examples(batch: Batch, images: tf.Tensor) -> Examples:
    """Returns examples of which none is marked as hard: `images` in place of the batch's own."""
    size = tf.shape(batch.labels)
    return Examples(
        images=images,
        natural=batch.images,
        labels=batch.labels,
        present=tf.ones(size),
        hard=tf.zeros(size, tf.bool),
        scores=tf.zeros(size),
    )
