"""Held: batches against NumPy indexing; order, resume, seeds, masks and cheap epochs of the pipelines."""

import gc
import time
import weakref
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.data import pipeline
from fairat_tf.data.dataset import Split


@pytest.fixture
def split() -> Split:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (23, 4, 5, 3), dtype=np.uint8)
    return Split(images, random.integers(0, 10, 23).astype(np.int32))


def epoch(split: Split, **options: Any) -> list[dict[str, np.ndarray]]:
    given = {"batch_size": 5, "seed": 1, "epoch": 0, **options}
    return list(pipeline.training_batches(split, **given).as_numpy_iterator())


def seed_as_pixels(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    low = tf.cast(tf.bitwise.bitwise_and(seed, 0xFFFF), tf.float32)
    return tf.zeros_like(images) + low[0] + low[1] * 65536.0


def test_training_batches_are_the_named_rows(split: Split) -> None:
    batches = epoch(split)
    assert len(batches) == pipeline.steps_per_epoch(split, 5) == 4
    for batch in batches:
        expected = split.images[batch["index"]].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(batch["image"], expected)
        np.testing.assert_array_equal(batch["label"], split.labels[batch["index"]])
        assert (batch["image"].dtype, batch["label"].dtype) == (np.float32, np.int32)


def test_an_epoch_visits_no_example_twice_and_follows_its_permutation(split: Split) -> None:
    rows = np.concatenate([batch["index"] for batch in epoch(split, epoch=3)])
    assert len(set(rows)) == 20
    assert rows.tolist() == pipeline.epoch_order(23, 1, 3)[:20].tolist()


def test_order_depends_on_seed_and_epoch(split: Split) -> None:
    orders = {tuple(pipeline.epoch_order(23, seed, number)) for seed in (0, 1) for number in (0, 1, 2)}
    assert len(orders) == 6
    assert all(sorted(order) == list(range(23)) for order in orders)


@pytest.mark.parametrize("first_step", [0, 1, 3, 4])
def test_resume_within_an_epoch_gives_the_same_rest(split: Split, first_step: int) -> None:
    options = {"epoch": 2, "augment": seed_as_pixels}
    whole = epoch(split, **options)
    rest = epoch(split, first_step=first_step, **options)
    assert len(rest) == 4 - first_step
    for expected, received in zip(whole[first_step:], rest, strict=True):
        for key in ("image", "label", "index"):
            np.testing.assert_array_equal(received[key], expected[key])


def test_augmentation_gets_the_seed_of_the_global_step(split: Split) -> None:
    for step, batch in enumerate(epoch(split, epoch=2, augment=seed_as_pixels)):
        low = rng.key(1, "weak augmentation", 2 * 4 + step).numpy() & 0xFFFF
        assert batch["image"][0, 0, 0, 0] == np.float32(np.float32(low[0]) + np.float32(low[1]) * 65536)


def test_augmentation_is_traced_once_for_all_epochs(split: Split) -> None:
    traces = []

    def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        traces.append(images.shape)
        return 1.0 - images

    for number in range(3):
        batch = epoch(split, epoch=number, augment=augment)[0]
        plain = epoch(split, epoch=number)[0]
        np.testing.assert_array_equal(batch["image"], 1 - plain["image"])
    assert traces == [tf.TensorShape([5, 4, 5, 3])]


def test_a_later_epoch_is_built_quickly() -> None:
    split = Split(np.zeros((20_000, 16, 16, 3), np.uint8), np.zeros(20_000, np.int32))
    pipeline.training_batches(split, batch_size=100, seed=0, epoch=0)
    seconds = []
    for number in range(1, 6):
        start = time.thread_time()
        pipeline.training_batches(split, batch_size=100, seed=0, epoch=number)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.05


def test_pixels_are_released_with_the_split(split: Split) -> None:
    own = split.take(np.arange(10))
    epoch(own)
    watched = weakref.ref(own)
    del own
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("batch_size", [1, 5, 23, 40])
def test_evaluation_counts_every_example_once(split: Split, batch_size: int) -> None:
    batches = list(pipeline.evaluation_batches(split, batch_size=batch_size).as_numpy_iterator())
    assert all((batch["number"] == place).all() for place, batch in enumerate(batches))
    assert {len(batch["index"]) for batch in batches} == {batch_size}
    mask = np.concatenate([batch["mask"] for batch in batches])
    rows = np.concatenate([batch["index"] for batch in batches])
    assert rows[mask == 1].tolist() == list(range(23))
    assert not rows[mask == 0].any()
    assert sum(mask) == 23
    images = np.concatenate([batch["image"] for batch in batches])
    np.testing.assert_array_equal(images, split.images[rows].astype(np.float32) / np.float32(255))


def test_shapes_are_static(split: Split) -> None:
    training = pipeline.training_batches(split, batch_size=5, seed=0, epoch=0, augment=seed_as_pixels)
    evaluation = pipeline.evaluation_batches(split, batch_size=6, threads=2)
    assert training.element_spec["image"] == tf.TensorSpec([5, 4, 5, 3], tf.float32)
    assert evaluation.element_spec["image"] == tf.TensorSpec([6, 4, 5, 3], tf.float32)
    assert evaluation.element_spec["mask"] == tf.TensorSpec([6], tf.float32)


def test_two_replicas_get_the_halves_of_the_global_batch(split: Split, mirrored: Any) -> None:
    expected = epoch(split, batch_size=6)
    batches = pipeline.training_batches(split, batch_size=6, seed=1, epoch=0)
    distributed = list(mirrored.experimental_distribute_dataset(batches))
    assert len(distributed) == 3
    for batch, whole in zip(distributed, expected, strict=True):
        halves = [part.numpy().tolist() for part in mirrored.experimental_local_results(batch["index"])]
        assert halves == [whole["index"][:3].tolist(), whole["index"][3:].tolist()]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "1 to 23"),
        ({"batch_size": 24}, "received 24"),
        ({"first_step": -1}, "0 to 4"),
        ({"first_step": 5}, "received 5"),
    ],
)
def test_impossible_arguments_are_errors(split: Split, options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        epoch(split, **options)


def test_evaluation_needs_a_positive_batch(split: Split) -> None:
    with pytest.raises(ValueError, match="received 0"):
        pipeline.evaluation_batches(split, batch_size=0)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
