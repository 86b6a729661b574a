"""DPLS: the difficulties of two epochs by loops, the smoothed step in closed form, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.methods.batches import unpack
from tests import support
from tests.methods import oracle

TARGETS = oracle.one_hot(oracle.LABELS)
ROWS = np.arange(oracle.SIZE)
PLACES = np.array([7, 0, 3, 9, 1, 4], np.int32)  # of the batch's examples in the training set
BATCH = {**oracle.batch(), "index": tf.constant(PLACES)}


def dpls(**options):
    method = oracle.linear_method("dpls", num_examples=10, epochs=10, **options)
    method.on_epoch_begin(1)
    return method


def doubts(weights):
    return 1 - oracle.softmax(oracle.flat(oracle.shifted()) @ weights)[ROWS, oracle.LABELS]


def known(method):
    return oracle.value(method.difficulty)[PLACES]


def test_difficulty_of_two_epochs_by_loops():
    method = dpls(dpls_memory=0.8)
    first = doubts(oracle.kernel(method))
    method.train_step(BATCH)
    np.testing.assert_allclose(known(method), first, rtol=1e-5)
    second = doubts(oracle.kernel(method))
    method.train_step(BATCH)
    expected = [0.8 * a + 0.2 * b for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(known(method), expected, rtol=1e-5)
    others = np.setdiff1d(np.arange(10), PLACES)
    np.testing.assert_array_equal(oracle.value(method.difficulty)[others], -1)


def with_difficulties(**options):
    method, d = dpls(**options), np.array([0.9, 0.0, -1.0, 0.4, 1.0, 0.25])
    method.difficulty.assign(tf.tensor_scatter_nd_update(method.difficulty, PLACES[:, None], d))
    return method, np.maximum(d, 0.0)[:, None]


@pytest.mark.parametrize("loss", ["cross_entropy", "trades"])
def test_step_equals_closed_form(loss):
    method, d = with_difficulties(loss=loss, beta=2.0, dpls_strength=0.6, label_smoothing=0.1)
    s = 0.6 * d + 0.1
    soft = (1 - s) * TARGETS + s / oracle.CLASSES
    if loss == "trades":
        rows = oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, oracle.shifted(), soft, 2.0)
    else:
        rows = oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), soft)
    before = oracle.kernel(method).astype(np.float64)
    method.train_step(BATCH)
    expected = oracle.after_step(before, oracle.gradient(rows))
    np.testing.assert_allclose(oracle.kernel(method), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("epoch, options", [(0, {}), (1, {"dpls_strength": 0.0})])
def test_in_the_warm_up_and_without_strength_it_is_the_base_method(epoch, options):
    method, _ = with_difficulties(**options)
    method.on_epoch_begin(epoch)
    plain = oracle.linear_method("pgd_at")
    for each in (method, plain):
        each.train_step(BATCH)
    np.testing.assert_allclose(oracle.kernel(method), oracle.kernel(plain), rtol=1e-6)


def test_more_than_the_whole_label_is_not_spread():
    method, _ = with_difficulties(dpls_strength=1.0, label_smoothing=0.5)
    examples = method.training_batch(unpack(BATCH), rng.key(0, "test"))
    assert float(tf.reduce_max(method.smoothing(examples))) == 1.0


def test_without_the_size_of_the_training_set_or_the_index_it_is_refused():
    with pytest.raises(ValueError, match="dpls needs num_examples"):
        oracle.linear_method("dpls", num_examples=0)
    batch = {name: value for name, value in BATCH.items() if name != "index"}
    with pytest.raises(ValueError, match="dpls needs batches that carry `index`"):
        dpls().train_step(batch)


def test_two_devices_remember_all_examples(mirrored):
    with mirrored.scope():
        method = support.make_method("dpls", oracle.linear_network(), attack=oracle.Shift(), num_examples=10)
    step = tf.function(lambda batch: mirrored.run(method.train_step, (batch,)), autograph=False)
    data = tf.data.Dataset.from_tensors(BATCH).unbatch().batch(oracle.SIZE)
    for batch in mirrored.experimental_distribute_dataset(data):
        step(batch)
    np.testing.assert_allclose(known(method), doubts(oracle.KERNEL), rtol=1e-5)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
