"""BatchNorm of each replica: statistics that stay one set, the mean of the replicas', and resume exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import errors
from fairat_tf.checkpointing import Checkpoints
from fairat_tf.data import pipeline
from fairat_tf.methods import moving_statistics
from fairat_tf.training_loop import Loop, Position
from tests import support

SPLIT = support.tiny_split(64)


def made(strategy, synchronized=False):
    with strategy.scope():
        network = support.tiny_network(batch_norm=True, synchronized=synchronized)
        return support.make_method("standard", network, ema_decay=0.5)


def batches(position):
    return pipeline.training_batches(SPLIT, batch_size=16, seed=0, epoch=0, first_step=position.step)


def copies(method):
    """Returns, for each variable of the trained and the averaged network, its values on the replicas."""
    variables = [*method.network.variables, *method.ema_network.variables]
    return [[part.numpy() for part in variable.value.values] for variable in variables]


def test_every_step_leaves_the_mean_of_the_replicas_statistics_on_both(mirrored):
    method = made(mirrored)
    loop = Loop(method, mirrored)
    layer = next(x for x in method.network.layers if isinstance(x, keras.layers.BatchNormalization))
    kernel = keras.ops.convert_to_numpy(method.network.layers[1].kernel)
    batch = next(iter(batches(Position())))
    loop.run(Position(), 1, lambda position: tf.data.Dataset.from_tensors(batch), 1)
    features = tf.nn.conv2d(batch["image"], kernel, 2, "VALID").numpy().astype(np.float64)
    parts = features[:8], features[8:]
    mean = np.mean([0.1 * part.mean((0, 1, 2)) for part in parts], 0)
    variance = np.mean([0.9 + 0.1 * part.var((0, 1, 2)) for part in parts], 0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.moving_mean), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.moving_variance), variance, rtol=1e-4)
    for first, second in copies(method):
        np.testing.assert_array_equal(first, second)


def test_a_stopped_run_resumes_bit_for_bit(tmp_path, mirrored):
    def train(folder, stop_after=None):
        method, done = made(mirrored), iter(range(100))
        loop = Loop(
            method,
            mirrored,
            checkpoints=Checkpoints(folder, method.state),
            stopping=lambda: "test" if stop_after is not None and next(done) >= stop_after else "",
        )
        loop.run(loop.restore(), 1, batches, 4)
        return copies(method)

    undisturbed = train(tmp_path / "a")
    with pytest.raises(errors.Interrupted):
        train(tmp_path / "b", stop_after=1)
    for a, b in zip(undisturbed, train(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[0], a[1])


def test_synchronised_layers_and_one_device_are_left_alone(mirrored):
    assert moving_statistics.kept_apart_in(made(mirrored, synchronized=True).network) == []
    alone = moving_statistics.kept_apart_in(support.tiny_network(batch_norm=True))
    assert len(alone) == 2
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in alone]
    moving_statistics.share(alone)
    for value, variable in zip(before, alone, strict=True):
        np.testing.assert_array_equal(value, keras.ops.convert_to_numpy(variable))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
