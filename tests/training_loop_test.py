"""The package's loop: equal to `fit`, and exact when it is stopped anywhere and goes on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import errors
from fairat_tf.callbacks.best_checkpoint import BestCheckpoint
from fairat_tf.callbacks.classwise_history import ClasswiseHistory
from fairat_tf.callbacks.run_log import RunLog
from fairat_tf.checkpointing import Checkpoints
from fairat_tf.data import pipeline
from fairat_tf.methods.hooks import MethodHooks
from fairat_tf.run_directory import RunDirectory
from fairat_tf.training_loop import Loop, Position
from tests import support

EPOCHS, STEPS, BATCH = 2, 4, 16
SPLIT = support.tiny_split()


def batches(position):
    return pipeline.training_batches(
        SPLIT, batch_size=BATCH, seed=0, epoch=position.epoch, first_step=position.step
    )


def validation():
    return pipeline.evaluation_batches(support.tiny_split(24, seed=2), batch_size=BATCH)


def made(strategy=None, **options):
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        network = support.tiny_network(batch_norm=True, synchronized=strategy.num_replicas_in_sync > 1)
        return support.make_method("fairat", network, num_examples=64, ema_decay=0.9, **options)


def loop_for(directory, method, strategy=None, stop_after=None, **kwargs):
    run = RunDirectory(directory)
    run.path.mkdir(exist_ok=True)
    history = ClasswiseHistory(tuple("abcd"))
    best = BestCheckpoint(run / "best/model.keras", "robust_accuracy+robust_worst_class")
    done = iter(range(10**6))

    def stopping():
        return "test" if stop_after is not None and next(done) >= stop_after else ""

    return Loop(
        method,
        strategy or tf.distribute.get_strategy(),
        callbacks=[history, MethodHooks(), RunLog(run, history), best],
        checkpoints=Checkpoints(run / "checkpoints", method.state),
        stopping=stopping,
        **kwargs,
    )


def train(directory, strategy=None, stop_after=None, **options):
    """Trains a new process's worth: builds everything, goes on from what is there."""
    method = made(strategy, **options)
    loop = loop_for(directory, method, strategy, stop_after)
    loop.run(loop.restore(), EPOCHS, batches, STEPS, validation())
    return method


def state(method):
    return [keras.ops.convert_to_numpy(v) for v in method.state]


def assert_same_bits(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "stops"),
    [({}, (0, 3, 4, 8)), ({"hard_score": "memory"}, (2,)), ({"hard_select": "quantile"}, (1,))],
    ids=["default", "memory", "quantile"],
)
def test_stopped_and_resumed_equals_undisturbed_bit_for_bit(tmp_path, options, stops):
    undisturbed = state(train(tmp_path / "a", **options))
    for stop_after in stops:
        folder = tmp_path / str(stop_after)
        with pytest.raises(errors.Interrupted) as stopped:
            train(folder, stop_after=stop_after, **options)
        assert stopped.value.exit_code == 75
        assert_same_bits(undisturbed, state(train(folder, **options)))
        for name in ("metrics.jsonl", "classwise.csv"):
            assert (tmp_path / "a" / name).read_bytes() == (folder / name).read_bytes()
        best = [
            keras.models.load_model(d / "best/model.keras").get_weights() for d in (tmp_path / "a", folder)
        ]
        assert_same_bits(*best)


def test_two_devices_resume_bit_for_bit(tmp_path, mirrored):
    undisturbed = train(tmp_path / "a", mirrored)
    with pytest.raises(errors.Interrupted):
        train(tmp_path / "b", mirrored, stop_after=5)
    assert_same_bits(state(undisturbed), state(train(tmp_path / "b", mirrored)))


def test_the_loop_equals_fit(tmp_path):
    looped, fitted = made(), made()
    loop = loop_for(tmp_path / "loop", looped)
    loop.run(Position(), EPOCHS, batches, STEPS, validation())
    history = ClasswiseHistory(tuple("abcd"))
    rows = []
    for epoch in range(EPOCHS):
        logs = fitted.fit(
            batches(Position(epoch, 0)),
            initial_epoch=epoch,
            epochs=epoch + 1,
            validation_data=validation(),
            callbacks=[history, MethodHooks()],
            verbose=0,
        ).history
        rows.append({name: values[-1] for name, values in logs.items()})
    for a, b in zip(looped.network.get_weights(), fitted.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(
        loop.validate(validation())["robust_accuracy"], rows[-1]["val_robust_accuracy"]
    )


def test_a_loss_that_is_not_finite_ends_with_exit_code_6(tmp_path):
    method = made()
    method.network.trainable_variables[0].assign(
        np.full(method.network.trainable_variables[0].shape, np.nan, np.float32)
    )
    with pytest.raises(errors.Diverged, match="training loss became nan") as diverged:
        loop_for(tmp_path / "run", method).run(Position(), 1, batches, STEPS)
    assert diverged.value.exit_code == 6


def test_xla_with_several_devices_is_refused(mirrored):
    with pytest.raises(ValueError, match="one device"):
        Loop(made(mirrored), mirrored, jit_compile=True)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
