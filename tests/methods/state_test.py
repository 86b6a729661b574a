"""What a method remembers survives a stop anywhere, and is the same on one device and on two."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import errors, methods
from fairat_tf.callbacks.classwise_history import ClasswiseHistory
from fairat_tf.checkpointing import Checkpoints
from fairat_tf.data import pipeline
from fairat_tf.methods.hooks import MethodHooks
from fairat_tf.training_loop import Loop
from tests import support

EPOCHS, STEPS, BATCH = 3, 2, 16
SPLIT = support.tiny_split(32)
# short runs in which every switch is passed and every class has moved away from the others
OPTIONS = {
    "cfa": {"cfa_average_from": 0.3, "cfa_threshold": 0.0},
    "dafa": {"dafa_warmup": 0.3},
    "wat": {},
    "pgd_at": {"class_weights": "hedge:1"},
    "frl": {"frl_rate": 0.5},
    "dpls": {"dpls_warmup": 0.3},
    "cfol": {"cfol_rate": 0.005},
    "spectral": {},
    "fair_ard": {},
    "absld": {},
    "fairat": {
        "loss": "trades",
        "awp_gamma": 0.01,
        "class_weights": "inverse",
        "class_label_smoothing": 0.2,
        "hard_choice": "worst_classes",
    },
}
MOVED = {
    "cfa": ["class_accuracy"],
    "dafa": ["class_scale", "probabilities"],
    "wat": ["total_costs", "weights_by_class"],
    "pgd_at": ["total_losses", "class_weight"],
    "frl": ["margin_multipliers"],
    "dpls": ["difficulty"],
    "cfol": ["log_weights", "shares"],
    "spectral": ["confusion_weights"],
    "fair_ard": ["fair_weight"],
    "absld": ["adversarial_temperature", "natural_temperature"],
    "fairat": ["class_accuracy", "class_weight"],
}


# nothing of these is kept in another way than that of the others
ALIKE = {"spectral", "fair_ard", "absld"}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in OPTIONS]


def batches(method, position):
    return pipeline.training_batches(
        SPLIT,
        batch_size=BATCH,
        seed=0,
        epoch=position.epoch,
        first_step=position.step,
        class_shares=method.class_shares(),
    )


def train(name, directory, strategy=None, stop_after=None, epochs=EPOCHS, **kwargs):
    """Trains a new process's worth: builds everything, goes on from what is there.

    A run is asked whether to stop after each step, each batch of validation and each epoch: 2 + 2 + 1 times.
    """
    strategy = strategy or tf.distribute.get_strategy()
    options = {**OPTIONS.get(name, {}), **kwargs}
    with strategy.scope():
        network = support.tiny_network(batch_norm=True, synchronized=strategy.num_replicas_in_sync > 1)
        method = support.make_method(name, network, num_examples=32, epochs=epochs, **options)
    history = ClasswiseHistory(tuple("abcd"))
    done = iter(range(100))
    loop = Loop(
        method,
        strategy,
        callbacks=[history, MethodHooks()],
        checkpoints=Checkpoints(directory, method.state),
        stopping=lambda: "test" if stop_after is not None and next(done) >= stop_after else "",
    )
    validation = pipeline.evaluation_batches(support.tiny_split(24, seed=2), batch_size=BATCH)
    loop.run(loop.restore(), epochs, functools.partial(batches, method), STEPS, validation)
    return method


def values(method):
    """Returns (path, value) of all that a method holds; what its `state` leaves out as well."""
    sums = [variable for metric in method.metrics for variable in metric.variables]
    held = [*method.variables, *sums, *method.optimizer.variables]
    return [(variable.path, keras.ops.convert_to_numpy(variable)) for variable in held]


def assert_goes_on_as_undisturbed(name, folder, stops, **kwargs):
    """Compares the bits of a run with those of one that was stopped; returns the former."""
    undisturbed = train(name, folder / "a", **kwargs)
    for stop_after, place in stops:
        with pytest.raises(errors.Interrupted):
            train(name, folder / "b", stop_after=stop_after, **kwargs)
        newest = Checkpoints(folder / "b", []).generations()[0]
        position = json.loads((newest / "state.json").read_text())
        assert (position["epoch"], position["step"]) == place
    resumed = train(name, folder / "b", **kwargs)
    for (path, a), (_, b) in zip(values(undisturbed), values(resumed), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=path)
    return undisturbed


@pytest.mark.filterwarnings("ignore:Even though the")  # tf.data is traced as ever
@pytest.mark.parametrize("name", methods.names())
def test_every_method_goes_on_within_the_second_epoch_from_its_variables_alone(name, tmp_path):
    tf.config.run_functions_eagerly(True)  # saves the tracing; the fixture of all tests takes it back
    assert_goes_on_as_undisturbed(name, tmp_path, [(5, (1, 1))], epochs=2, steps=1, ema_decay=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_state_moves_and_survives_a_stop_within_and_between_epochs(name, tmp_path):
    # after the first epoch, then within the next
    undisturbed = assert_goes_on_as_undisturbed(name, tmp_path, [(4, (1, 0)), (0, (1, 1))])
    for attribute in MOVED[name]:
        assert np.ptp(keras.ops.convert_to_numpy(getattr(undisturbed, attribute))) > 1e-3, attribute


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_state_is_equal_on_one_device_and_on_two(name, tmp_path, mirrored):
    one, two = train(name, tmp_path / "one"), train(name, tmp_path / "two", mirrored)
    for attribute in MOVED[name]:
        a, b = (keras.ops.convert_to_numpy(getattr(m, attribute)) for m in (one, two))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=attribute)
    for a, b in zip(one.evaluated_network.get_weights(), two.evaluated_network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
