"""Every training method, whatever its name: one battery, on one device and on two.

A method that is added to the table is tested here without an edit; options that a method cannot do
without stand in NEEDS, and a name there that no longer exists fails.
"""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import methods
from fairat_tf.training_loop import Loop, Position
from tests import support

NAMES = methods.names()
NEEDS: dict[str, dict] = {}
IN_FIT = {"cfol": {"cfol_draw": "reweight"}}  # Keras' fit draws no classes
STEPS = 4


def made(name, strategy=None, **kwargs):
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        network = support.tiny_network(batch_norm=True, synchronized=strategy.num_replicas_in_sync > 1)
        return support.make_method(name, network, num_examples=64, **NEEDS.get(name, {}), **kwargs)


class Recorder(keras.callbacks.Callback):
    """Notes weights and class-wise training metrics after every step."""

    def __init__(self):
        super().__init__()
        self.weights, self.metrics = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(weights(self.model))
        self.metrics.append([metric.per_class() for metric in self.model.train_metrics])


def trained(method, strategy=None, steps=STEPS, jit_compile=False):
    recorder = Recorder()
    strategy = strategy or tf.distribute.get_strategy()
    loop = Loop(method, strategy, callbacks=[recorder], jit_compile=jit_compile)
    split = support.tiny_split()
    batches = [support.batch_of(split, 16, 16 * (i % 4)) for i in range(steps)]
    whole = {key: tf.concat([b[key] for b in batches], 0) for key in batches[0]}
    data = tf.data.Dataset.from_tensor_slices(whole).batch(16, drop_remainder=True)
    loop.run(Position(), 1, lambda position: data, steps)
    return recorder


@functools.cache
def course(name):
    """Returns a method after its training on one device, and what was noted on the way; made once."""
    method = made(name)
    return method, trained(method)


def weights(method):
    return [keras.ops.convert_to_numpy(v) for v in method.network.variables]


def test_needs_names_only_methods_that_exist():
    assert {*NEEDS, *IN_FIT} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_training_moves_weights_counts_every_example_and_stays_finite(name):
    before = weights(made(name))
    method, recorder = course(name)
    after = recorder.weights[-1]
    assert all(np.isfinite(w).all() for w in after)
    assert max(np.abs(a - b).max() for a, b in zip(after, before, strict=True)) > 1e-4
    assert method.train_confusion.matrix().sum() == 16 * STEPS
    assert int(method.optimizer.iterations) == STEPS
    np.testing.assert_array_equal(method.train_confusion.matrix().sum(1), [16] * 4)


@pytest.mark.parametrize("name", NAMES)
def test_train_step_returns_exactly_its_metrics(name):
    method = made(name)
    logs = method.train_step(support.batch_of(support.tiny_split()))
    assert {k: float(v) for k, v in logs.items()} == {
        k: float(v) for k, v in method.results(method.train_metrics).items()
    }
    assert float(logs["loss"]) > 0.0


@pytest.mark.parametrize("name", NAMES)
def test_two_devices_equal_one(name, mirrored):
    one, two = course(name)[1], trained(made(name, mirrored), mirrored, steps=1)
    for a, b in zip(one.weights[0], two.weights[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(one.metrics[0], two.metrics[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_xla_equals_graph(name):
    compiled = trained(made(name), steps=2, jit_compile=True)
    for a, b in zip(course(name)[1].weights[1], compiled.weights[1], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(name):
    first, second = course(name)[1], trained(made(name))
    for a, b in zip(first.weights[-1], second.weights[-1], strict=True):
        np.testing.assert_array_equal(a, b)
    if course(name)[0].adversarial:
        other = trained(made(name, seed=1))
        pairs = zip(first.weights[-1], other.weights[-1], strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_validation_counts_every_example_once_and_changes_no_weight(name):
    method = made(name)
    before = weights(method)
    split = support.tiny_split(24)
    batch = support.batch_of(split, 16) | {"mask": tf.constant([1.0] * 16)}
    last = support.batch_of(split, 16, 8) | {"mask": tf.constant([0.0] * 8 + [1.0] * 8)}
    method.test_step(batch)
    logs = method.test_step(last)
    assert method.clean.matrix().sum() == method.robust.matrix().sum() == 24
    assert {"clean_accuracy", "robust_accuracy", "robust_worst_class"} <= set(logs)
    for a, b in zip(weights(method), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_keras_fit_and_evaluate_work(name):
    method = made(name, **IN_FIT.get(name, {}))
    split = support.tiny_split()
    data = tf.data.Dataset.from_tensor_slices(support.batch_of(split, 64)).batch(16, drop_remainder=True)
    history = method.fit(data, epochs=2, validation_data=data, verbose=0).history
    assert len(history["loss"]) == 2 and "val_robust_worst_class" in history
    assert int(method.epoch) == 1
    assert method.predict(np.zeros((3, *support.SHAPE), np.float32), verbose=0).shape == (3, support.CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_documented_and_checked(name):
    for field in dataclasses.fields(methods.get(name).Options):
        assert field.metadata["help"], field.name
    with pytest.raises((TypeError, ValueError)):
        made(name, no_such_option=1)


@pytest.mark.parametrize("name", NAMES)
def test_moving_average_is_what_is_evaluated(name):
    method = made(name, ema_decay=0.5)
    trained(method, steps=3)
    average = [keras.ops.convert_to_numpy(v) for v in method.evaluated_network.variables]
    assert any(not np.array_equal(a, b) for a, b in zip(average, weights(method), strict=True))
    assert not method.evaluated_network.trainable_variables


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
