"""tf.data pipelines over a split in memory: shuffled training batches, padded evaluation batches.

    for batch in training_batches(split, batch_size=128, seed=0, epoch=3, augment=weak):
        batch["image"], batch["label"], batch["index"]

An epoch is a function of (split, batch size, seed, epoch) and of the class shares, if any, alone, so
training can go on in the middle of one: `first_step` leaves earlier batches out without reading them.
Images are float32 in [0, 1].
"""

import collections
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.data.dataset import Split
from fairat_tf.data.order import drawn_order, epoch_order

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(images float32 [B, H, W, C] in [0, 1], seed int32 [2]) -> images alike."""

Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""(images, labels int32 [B], seed) -> (mixed images, label distributions float32 [B, K])."""

_REMEMBERED = 4
_memory: "weakref.WeakKeyDictionary[Split, collections.OrderedDict[Any, Any]]" = weakref.WeakKeyDictionary()


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Returns the number of whole batches in `split`; the last partial one is dropped.

    Raises:
      ValueError: `batch_size` is below 1 or above the number of examples.
    """
    if not 1 <= batch_size <= len(split):
        raise ValueError(
            f"batch_size: expected 1 to {len(split)} (the examples there are), received {batch_size}; "
            "choose a smaller batch or more data."
        )
    return len(split) // batch_size


def training_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    augment: Augment | None = None,
    mix: Mix | None = None,
    threads: int = 0,
    class_shares: Any = None,
) -> tf.data.Dataset:
    """Returns the batches of one epoch, in its own order.

    Args:
      split: the examples.
      batch_size: B, of the global batch; the last partial batch is dropped.
      seed: the run's seed.
      epoch: number of the epoch, from 0.
      first_step: how many batches to leave out at the start (they are not read).
      augment: called with a whole global batch and the seed of ("weak augmentation", global step), inside
        tf.data. Pass the same function object every epoch: it is traced once for each.
      mix: called after it, likewise, with the labels and the seed of ("mix", global step). It sees the global
        batch: partners do not depend on the number of devices that share it afterwards.
      threads: size of a thread pool of its own; 0 shares TensorFlow's.
      class_shares: probability with which each class is drawn, [K], and then any of its examples, with
        replacement; None: every example at most once.

    Returns:
      A data set of dictionaries: "image" float32 [B, H, W, C] in [0, 1], "label" int32 [B], "index"
      int32 [B] (row in `split`). With `mix` also "soft_label" float32 [B, K]; "label" and "index" are then
      those of the image that kept its place.

    Raises:
      ValueError: impossible `batch_size`, or `first_step` outside [0, steps per epoch].
    """
    steps = steps_per_epoch(split, batch_size)
    if not 0 <= first_step <= steps:
        raise ValueError(f"first_step: expected 0 to {steps} (steps per epoch), received {first_step}.")
    key = ("train", batch_size, seed, augment, mix)
    make = _remembered(split, key, lambda: _trainer(split, batch_size, seed, augment, mix))
    if class_shares is None:
        order = epoch_order(len(split), seed, epoch)
    else:
        order = drawn_order(split.labels, class_shares, seed, epoch)
    order = order[: steps * batch_size].reshape(steps, batch_size)
    numbers = epoch * steps + np.arange(steps, dtype=np.int64)
    with tf.device("CPU:0"):
        plan = tf.data.Dataset.from_tensor_slices((order[first_step:], numbers[first_step:].astype(np.int32)))
        return _run(plan, make, threads)


def varied(
    batch: dict[str, tf.Tensor], step: tf.Tensor, *, seed: int, augment: Augment | None, mix: Mix | None
) -> dict[str, tf.Tensor]:
    """Returns the batch augmented and mixed as that of global step `step` (int32 scalar)."""
    batch = dict(batch)
    if augment is not None:
        drawn = augment(batch["image"], rng.key(seed, "weak augmentation", step))
        batch["image"] = tf.ensure_shape(drawn, batch["image"].shape)
    if mix is not None:
        mixed = mix(batch["image"], batch["label"], rng.key(seed, "mix", step))
        batch["image"], batch["soft_label"] = mixed
    return batch


def evaluation_batches(split: Split, *, batch_size: int, threads: int = 0) -> tf.data.Dataset:
    """Returns all examples in order; the last batch is padded with row 0 and masked.

    Returns:
      A data set of dictionaries: "image" float32 [B, H, W, C] in [0, 1], "label" int32 [B], "index"
      int32 [B], "mask" float32 [B], 1 for an example and 0 for padding. B is always `batch_size`; the
      masks sum to the number of examples.

    Raises:
      ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, received {batch_size}.")
    make = _remembered(split, ("evaluate", batch_size), lambda: _evaluator(split, batch_size))
    steps = -(-len(split) // batch_size)
    rows = np.arange(steps * batch_size, dtype=np.int32).reshape(steps, batch_size)
    real = rows < len(split)
    with tf.device("CPU:0"):
        numbers = np.arange(steps, dtype=np.int32)
        plan = tf.data.Dataset.from_tensor_slices((np.where(real, rows, 0), real.astype(np.float32), numbers))
        return _run(plan, make, threads)


def _run(plan: tf.data.Dataset, make: Any, threads: int) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    if threads:
        options.threading.private_threadpool_size = threads
    batches = plan.map(make, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(4).with_options(options)


def _remembered(split: Split, key: Any, create: Callable[[], Any]) -> Any:
    """Returns `create()`, the same object for the last few keys of a split that is still in use.

    So an epoch costs no tracing, and the pixels are handed to TensorFlow once for each split.
    """
    known = _memory.setdefault(split, collections.OrderedDict())
    if key not in known:
        known[key] = create()
        while len(known) > _REMEMBERED:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


def _tensors(split: Split) -> tuple[tf.Tensor, tf.Tensor]:
    def create() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.device("CPU:0"):
            return tf.constant(split.images), tf.constant(split.labels, tf.int32)

    return _remembered(split, "tensors", create)


def _examples(images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
    pixels = tf.cast(tf.gather(images, index), tf.float32) / 255.0
    return {"image": pixels, "label": tf.gather(labels, index), "index": index}


def _trainer(split: Split, batch_size: int, seed: int, augment: Augment | None, mix: Mix | None) -> Any:
    images, labels = _tensors(split)

    def make(index: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        return varied(_examples(images, labels, index), step, seed=seed, augment=augment, mix=mix)

    return _traced(make, tf.TensorSpec([batch_size], tf.int32), tf.TensorSpec([], tf.int32))


def _evaluator(split: Split, batch_size: int) -> Any:
    images, labels = _tensors(split)

    def make(index: tf.Tensor, mask: tf.Tensor, number: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**_examples(images, labels, index), "mask": mask, "number": tf.fill([batch_size], number)}

    whole = [batch_size]
    return _traced(
        make,
        tf.TensorSpec(whole, tf.int32),
        tf.TensorSpec(whole, tf.float32),
        tf.TensorSpec([], tf.int32),
    )


def _traced(make: Any, *signature: tf.TensorSpec) -> Any:
    return tf.function(make, input_signature=signature).get_concrete_function()
