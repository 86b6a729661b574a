"""What comes into a training step, and what it trains on.

batch = unpack(data)
examples = plain_examples(batch, adversarial)
"""

from typing import Any, NamedTuple

import tensorflow as tf


class Batch(NamedTuple):
    """What comes in: images [B, H, W, C] in [0, 1], labels int32 [B], index int32 [B], mask [B].

    `index` is the example's row in the training set (None where the data does not tell);
    `mask` is 0 for the padding of an evaluation batch. `soft` float32 [B, K] are the labels of mixed
    images (None: nothing is mixed); `labels` is then the class with the largest share, ties going to the
    lower number, and serves for counting alone. `number` counts the batches of an evaluation from 0 (0 where
    the data does not tell), so that each has draws of its own.
    """

    images: tf.Tensor
    labels: tf.Tensor
    index: tf.Tensor | None  # type: ignore[assignment]
    mask: tf.Tensor
    soft: tf.Tensor | None = None
    number: Any = 0

    @property
    def truth(self) -> tf.Tensor:
        """What attack, loss and class-wise values follow: labels int32 [B], or mixed ones float32 [B, K]."""
        return self.labels if self.soft is None else self.soft

    @property
    def size(self) -> int:
        """B, for methods whose choice among the rows needs it before they are there.

        Raises:
          ValueError: it is not known.
        """
        if self.labels.shape[0] is None:
            raise ValueError("expected batches of one size: tf.data's batch(..., drop_remainder=True)")
        return int(self.labels.shape[0])


class Examples(NamedTuple):
    """What is trained on: M rows, the first B of which belong to the batch's own examples.

    `images` and `natural` are [M, H, W, C] (after and before the attack), `labels` int32 [M],
    `present` [M] is 1, or 0 for a row that only fills the static shape; `hard` bool [B] and
    `scores` [B] say who was found hard. `soft` [M, K] as in `Batch`. `views` bool [M] tells which rows
    are views beside the batch's own rows (None: none is, or it does not matter). `guide` [M, K] are a
    teacher's logits, where there is one.
    """

    images: tf.Tensor
    natural: tf.Tensor
    labels: tf.Tensor
    present: tf.Tensor
    hard: tf.Tensor
    scores: tf.Tensor
    soft: tf.Tensor | None = None
    views: tf.Tensor | None = None
    guide: Any = None

    @property
    def truth(self) -> tf.Tensor:
        """What loss and class-wise values follow: labels int32 [M], or mixed ones float32 [M, K]."""
        return self.labels if self.soft is None else self.soft


def unpack(data: Any, training: bool = False) -> Batch:
    """Returns the batch from a dict of `fairat_tf.data.pipeline` or an (images, labels) pair.

    Raises:
      ValueError: something else; weights of examples or classes, or padded rows to train on.
    """
    if not isinstance(data, dict):
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise ValueError("expected batches (images, labels); weights of Keras' fit have no effect here")
        data = {"image": data[0], "label": data[1]}
    if training and "mask" in data:
        raise ValueError("these batches are padded, for evaluation; train on `data.training_batches`")
    soft = data.get("soft_label")
    labels = tf.cast(data["label"], tf.int32) if soft is None else tf.argmax(soft, -1, tf.int32)
    return Batch(
        images=data["image"],
        labels=labels,
        index=data.get("index"),
        mask=data.get("mask", tf.ones(tf.shape(labels))),
        soft=soft,
        number=data["number"][0] if "number" in data else 0,
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
        soft=batch.soft,
    )


def replaced(old: tf.Tensor, new: tf.Tensor, rows: tf.Tensor, member: tf.Tensor) -> tf.Tensor:
    """Returns `old` [B, H, W, C] with `new` [m, H, W, C] in the rows `rows` that are members, bool [m]."""
    updates = tf.where(tf.reshape(member, [-1, 1, 1, 1]), new, tf.gather(old, rows))
    return tf.tensor_scatter_nd_update(old, rows[:, None], updates)
