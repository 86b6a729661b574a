"""Training that goes out of the numbers: noticed in loss and weights, never saved, told, rolled back once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import divergence, errors
from fairat_tf.checkpointing import Checkpoints
from fairat_tf.data import pipeline
from fairat_tf.training_loop import Loop
from tests import support

SPLIT = support.tiny_split(64)
EPOCHS, STEPS = 3, 4


def batches(position):
    return pipeline.training_batches(
        SPLIT, batch_size=16, seed=0, epoch=position.epoch, first_step=position.step
    )


class Poison(keras.callbacks.Callback):
    """Makes one weight infinite after the given optimiser steps, once for each."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = list(steps)

    def on_train_batch_end(self, batch, logs=None):
        iterations = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        if iterations in self.steps:
            self.steps.remove(iterations)
            weight = self.model.network.trainable_variables[0]
            value = np.array(keras.ops.convert_to_numpy(weight))
            value.flat[0] = np.inf
            weight.assign(value)


def loop_for(folder, *poison, on_divergence="stop", seconds=600.0, **options):
    method = support.make_method("standard", support.tiny_network(batch_norm=True), **options)
    return Loop(
        method,
        tf.distribute.get_strategy(),
        callbacks=[Poison(*poison)],
        checkpoints=Checkpoints(folder, method.state),
        checkpoint_seconds=seconds,
        on_divergence=on_divergence,
    )


def run(loop):
    loop.run(loop.restore(), EPOCHS, batches, STEPS)
    return [np.array(keras.ops.convert_to_numpy(v)) for v in loop.method.network.variables]


@pytest.mark.parametrize("seconds", [600.0, 0.0], ids=["seldom saved", "always saved"])
def test_weights_that_are_not_finite_end_with_6_and_are_never_saved(tmp_path, seconds):
    loop = loop_for(tmp_path, STEPS + 2, seconds=seconds)
    with pytest.raises(errors.Diverged) as diverged:
        run(loop)
    assert diverged.value.exit_code == 6
    told = str(diverged.value)
    for part in (
        "epoch 2",
        "learning rate 0.05",
        "of the weights",
        "momentum",
        "class",
        "last good checkpoint",
    ):
        assert part in told, told
    fresh = loop_for(tmp_path)
    position = fresh.restore()
    assert (position.epoch, position.step) == ((1, 1) if seconds == 0.0 else (1, 0))
    assert not divergence.happened(fresh.method)


def test_a_loss_that_is_not_finite_is_noticed_though_the_weights_are(tmp_path):
    loop = loop_for(tmp_path)
    method = loop.method
    assert not divergence.happened(method)
    method.train_loss.update_state([0, 1], [1.0, np.nan])
    assert divergence.happened(method)
    facts = divergence.facts(method, 0, 1)
    assert "training loss became nan" in facts and "not finite: 0 % of the weights" in facts


def test_the_views_own_batch_norm_is_watched_as_well():
    network = support.tiny_network(batch_norm=True)
    method = support.make_method("fairat", network, split_bn=True, hard_combine="append")
    assert divergence.weights_are_finite(method)
    own = method.split.own_variables[-1]
    own.assign(np.full(own.shape, np.nan, np.float32))
    assert all(np.isfinite(w).all() for w in network.get_weights())
    assert not divergence.weights_are_finite(method)


def test_facts_count_what_is_not_finite(tmp_path):
    method = loop_for(tmp_path).method
    method.train_loss.update_state([0, 1, 2], [1.0, np.inf, 3.0])
    kernel = method.network.trainable_variables[0]
    broken = np.array(keras.ops.convert_to_numpy(kernel))
    broken.flat[:81] = np.nan
    kernel.assign(broken)
    total = sum(int(np.prod(v.shape)) for v in method.network.trainable_variables)
    facts = divergence.facts(method, 4, 7)
    assert f"not finite: {8100 / total:.3g} % of the weights" in facts
    assert "epoch 5 by step 7" in facts and "infinite loss in class 1" in facts


def test_rollback_goes_on_from_the_last_good_checkpoint_with_a_tenth_of_the_rate(tmp_path, caplog):
    rolled = run(loop_for(tmp_path / "a", STEPS + 2, on_divergence="rollback"))
    assert "back to epoch 2, step 0, with a tenth of the learning rate" in caplog.text
    by_hand = loop_for(tmp_path / "b")
    by_hand.run(by_hand.restore(), 1, batches, STEPS)
    position = by_hand.restore()
    by_hand.method.optimizer.rate_factor.assign(divergence.RATE_FACTOR)
    by_hand._save(position)
    by_hand.method.optimizer.rate_factor.assign(1.0)  # the factor, too, comes back from the checkpoint
    for a, b in zip(rolled, run(by_hand), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rollback_in_the_first_epoch_begins_again(tmp_path, caplog):
    rolled = run(loop_for(tmp_path / "a", 2, on_divergence="rollback"))
    assert "back to epoch 1, step 0" in caplog.text and all(np.isfinite(w).all() for w in rolled)


def test_a_second_divergence_ends_also_in_a_resumed_run(tmp_path):
    with pytest.raises(errors.Diverged, match="a tenth of the rate diverged, too"):
        run(loop_for(tmp_path / "a", STEPS + 2, 2 * STEPS + 2, on_divergence="rollback"))
    again = loop_for(tmp_path / "a", 2 * STEPS + 2, on_divergence="rollback")
    assert divergence.factor_of(again.method.optimizer) == 1.0
    with pytest.raises(errors.Diverged, match="a tenth of the rate diverged, too"):
        run(again)
    assert divergence.factor_of(again.method.optimizer) == pytest.approx(divergence.RATE_FACTOR)


def test_rollback_needs_checkpoints():
    method = support.make_method("standard")
    with pytest.raises(ValueError, match="needs checkpoints"):
        Loop(method, tf.distribute.get_strategy(), on_divergence="rollback")


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
