"""Every kind of run is traced once: no later step, epoch or validation builds a graph again."""

import keras
import pytest
import tensorflow as tf

from fairat_tf.data import pipeline
from fairat_tf.training_loop import Loop, Position
from tests import support

SPLIT = support.tiny_split()
STEPS, BATCH = 4, 16


def batches(position):
    return pipeline.training_batches(SPLIT, batch_size=BATCH, seed=0, epoch=position.epoch)


def traces(name, strategy=None, jit_compile=False, **options):
    """Returns how often the training step and the step of validation are traced in two epochs."""
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        network = support.tiny_network(batch_norm=True, synchronized=strategy.num_replicas_in_sync > 1)
        method = support.make_method(name, network, num_examples=len(SPLIT), **options)
    loop = Loop(method, strategy, jit_compile=jit_compile)
    last_is_partial = pipeline.evaluation_batches(support.tiny_split(24, seed=2), batch_size=BATCH)
    loop.run(Position(), 2, batches, STEPS, last_is_partial)
    assert int(keras.ops.convert_to_numpy(method.optimizer.iterations)) == 2 * STEPS
    return [step.experimental_get_tracing_count() for step in (loop._train_step, loop._test_step)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fairat", {}),
        ("fairat", {"hard_score": "memory", "ema_decay": 0.9}),
        ("fairat", {"hard_score": "start", "hard_select": "quantile", "jit_compile": True}),
        ("cfa", {"awp_gamma": 0.01, "class_weights": "inverse"}),
    ],
    ids=["default", "memory", "xla", "awp"],
)
def test_one_device_traces_each_step_once(name, options):
    assert traces(name, **options) == [1, 1]


def test_several_devices_trace_each_step_once(mirrored):
    assert traces("fairat", mirrored, hard_score="memory") == [1, 1]


def test_the_count_sees_another_shape():
    network = support.tiny_network()
    loop = Loop(support.make_method("standard", network), tf.distribute.get_strategy())
    for size in (16, 8):
        loop._train_step(support.batch_of(SPLIT, size))
    assert loop._train_step.experimental_get_tracing_count() == 2


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
