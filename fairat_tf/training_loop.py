"""The loop of the command line: `strategy.run(method.train_step, ...)` for any number of devices.

    loop = Loop(method, strategy, callbacks=[...], checkpoints=checkpoints)
    loop.run(Position(epoch=0, step=0), epochs=15, training=batches_of_epoch, validation=validation)

`model.fit` gives the same numbers on one machine (a test holds them equal); it cannot go on in the
middle of an epoch and does not work with several workers, hence this loop. It calls Keras callbacks
at the same places as `fit`.

With several workers each runs this loop; whatever needs all of them (reading metrics, saving, stopping) they
agree on after every step, so that they do it at the same one.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from fairat_tf import divergence, errors
from fairat_tf.checkpointing import Checkpoints
from fairat_tf.methods.base import Method
from fairat_tf.workers import Team

_LOOK_SECONDS = 0.5  # how often the metrics are read within an epoch; reading waits for the device


@dataclasses.dataclass(frozen=True)
class Position:
    """Where training stands: `step` batches of `epoch` (from 0) are done."""

    epoch: int = 0
    step: int = 0


class Loop:
    """Trains a compiled method, epoch by epoch.

    Args:
      method: compiled, with its optimiser built.
      strategy: the strategy in whose scope the method was made.
      callbacks: Keras callbacks; those with an attribute `best` (a dict) keep it in checkpoints, and
        are told of it by `saved` and `restored`.
      checkpoints: where to save; None means nowhere.
      checkpoint_seconds: time between checkpoints within an epoch; each epoch ends with one.
      jit_compile: compile the step with XLA (one device only).
      stopping: asked after every step, of validation too; when it returns a reason the loop saves and
        raises `errors.Interrupted`.
      go_on: what a person must do to go on, for that error.
      on_divergence: "stop", or "rollback": go back to the last checkpoint and lower the learning rate, once.
      team: the workers of the run; None: one process.
    """

    def __init__(
        self,
        method: Method,
        strategy: tf.distribute.Strategy,
        *,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        checkpoints: Checkpoints | None = None,
        checkpoint_seconds: float = 600.0,
        jit_compile: bool = False,
        stopping: Callable[[], str] = lambda: "",
        go_on: str = "the same command goes on",
        on_divergence: str = "stop",
        team: Team | None = None,
    ):
        if jit_compile and strategy.num_replicas_in_sync > 1:
            raise ValueError("jit_compile works with one device: XLA cannot hold variables of several")
        self.method, self.strategy = method, strategy
        self.callbacks = list(callbacks)
        self.checkpoints = checkpoints
        self.checkpoint_seconds = checkpoint_seconds
        self.stopping = stopping
        self.go_on = go_on
        self.rolls_back = on_divergence == "rollback"
        if self.rolls_back and (checkpoints is None or not hasattr(method.optimizer, "rate_factor")):
            raise ValueError(
                "on_divergence=rollback needs checkpoints and an optimizer with a rate_factor (SGD)"
            )
        self.team = team or Team(strategy)
        self._train_step = self._compiled(method.train_step, jit_compile)
        self._test_step = self._compiled(method.test_step, jit_compile)
        self._sound = tf.function(lambda: divergence.weights_are_finite(method), autograph=False)
        self._saved = self._looked = time.monotonic()

    def _compiled(self, step: Callable[..., Any], jit_compile: bool) -> Callable[[Any], Any]:
        if self.strategy.num_replicas_in_sync == 1:
            return tf.function(step, jit_compile=jit_compile, reduce_retracing=True, autograph=False)

        @tf.function(reduce_retracing=True, autograph=False)
        def on_replicas(batch: Any) -> None:
            self.strategy.run(step, args=(batch,))

        return on_replicas

    def run(
        self,
        start: Position,
        epochs: int,
        training: Callable[[Position], tf.data.Dataset],
        steps: int,
        validation: tf.data.Dataset | None = None,
    ) -> None:
        """Trains from `start` to the end of epoch `epochs`.

        Args:
          start: where to begin.
          epochs: total number of epochs.
          training: position -> the batches that are left of its epoch.
          steps: batches in a whole epoch.
          validation: batches for `test_step` after each epoch.

        Raises:
          errors.Interrupted: `stopping` gave a reason; everything is saved.
          errors.Diverged: loss or weights are not finite; the last good checkpoint is kept.
        """
        watchers = keras.callbacks.CallbackList(
            self.callbacks,
            add_history=False,
            add_progbar=False,
            model=self.method,
            epochs=epochs,
            steps=steps,
        )
        watchers.on_train_begin()
        first = self.rolls_back and self.checkpoints is not None and not self.checkpoints.generations()
        if self.team.agree(save=first)[1]:
            self._save(start)
        position = start
        while position.epoch < epochs:
            try:
                position = self._whole_epoch(position, training, steps, validation, watchers)
            except errors.Diverged as error:
                position = self._rolled_back(error)
        watchers.on_train_end()

    def _whole_epoch(
        self,
        start: Position,
        training: Callable[[Position], tf.data.Dataset],
        steps: int,
        validation: tf.data.Dataset | None,
        watchers: Any,
    ) -> Position:
        """Trains and validates what is left of an epoch, saves, and returns where the next one begins."""
        epoch = start.epoch
        if not start.step:
            self.method.reset_metrics()
        watchers.on_epoch_begin(epoch)
        logs = self._epoch(training(start), start, watchers)
        if validation is not None:
            found = self.validate(validation, watchers, Position(epoch, steps))
            logs |= {f"val_{name}": value for name, value in found.items()}
        watchers.on_epoch_end(epoch, logs)
        self._save(Position(epoch + 1, 0))
        self._stop_if_asked(self.team.agree(self.stopping())[0])
        return Position(epoch + 1, 0)

    def _epoch(self, batches: tf.data.Dataset, start: Position, watchers: Any) -> dict[str, float]:
        position = start
        for step, batch in enumerate(self.team.batches(batches), start.step):
            watchers.on_train_batch_begin(step)
            self._train_step(batch)
            position = Position(start.epoch, step + 1)
            stop, save, look = self.team.agree(
                self.stopping(), self._is_time_to_save(), self._is_time_to_look()
            )
            logs = self._looked_at(position) if look else None
            watchers.on_train_batch_end(step, logs)
            if save:
                self._save(position)
            self._stop_if_asked(stop, position)
        return self._looked_at(position)

    def _is_time_to_save(self) -> bool:
        return self.checkpoints is not None and time.monotonic() - self._saved > self.checkpoint_seconds

    def _is_time_to_look(self) -> bool:
        return time.monotonic() - self._looked > _LOOK_SECONDS

    def validate(
        self, batches: tf.data.Dataset, watchers: Any = None, position: Position | None = None
    ) -> dict[str, float]:
        """Returns the validation metrics over `batches`; at a signal, saves `position` where it is given."""
        if watchers:
            watchers.on_test_begin()
        for metric in self.method.validation_metrics:
            metric.reset_state()
        for batch in self.team.batches(batches):
            self._test_step(batch)
            if position is not None:
                self._stop_if_asked(self.team.agree(self.stopping())[0], position)
        results = self.results(self.method.validation_metrics)
        if watchers:
            watchers.on_test_end(results)
        return results

    def results(self, metrics: list[keras.metrics.Metric]) -> dict[str, float]:
        """Returns the metrics' values over all replicas, as Python floats."""
        return {name: float(value) for name, value in self.method.results(metrics).items()}

    def _looked_at(self, position: Position) -> dict[str, float]:
        """Returns the training metrics so far.

        Raises:
          errors.Diverged: loss or weights are not finite.
        """
        self._raise_if_diverged(position)
        logs = self.results(self.method.train_metrics)
        self._looked = time.monotonic()
        return logs

    def _raise_if_diverged(self, position: Position) -> None:
        if divergence.happened(self.method, self._sound):
            facts = divergence.facts(self.method, position.epoch, position.step)
            raise errors.Diverged(
                f"{facts}; the last good checkpoint is kept; give --on_divergence=rollback, or lower "
                "--learning_rate in another --run_dir"
            )

    def _rolled_back(self, error: errors.Diverged) -> Position:
        """Goes back to the last good checkpoint and lowers the rate; raises `error` the second time."""
        told = str(error).partition("; the last good")[0]
        if self.rolls_back and divergence.factor_of(self.method.optimizer) != 1.0:
            raise errors.Diverged(
                f"{told}; a tenth of the rate diverged, too; the last good checkpoint is kept; lower "
                "--learning_rate in another --run_dir"
            ) from error
        if not self.rolls_back:
            raise error
        position = self.restore()
        self.method.optimizer.rate_factor.assign(divergence.RATE_FACTOR)
        self._save(position)
        logging.warning(
            "%s; back to epoch %d, step %d, with a tenth of the learning rate",
            told, position.epoch + 1, position.step,
        )  # fmt: skip
        return position

    def _stop_if_asked(self, reason: str, position: Position | None = None) -> None:
        """Saves `position` (None: saved already) and raises, if there is a reason to stop."""
        if not reason:
            return
        if position is not None:
            self._save(position)
        raise errors.Interrupted(f"{reason}: training is saved; {self.go_on}")

    def _save(self, position: Position) -> None:
        """Saves; weights that are not finite never become the last good checkpoint."""
        self._saved = time.monotonic()
        if self.checkpoints is None:
            return
        self._raise_if_diverged(position)
        keepers = self._keepers()
        best = [callback.best for callback in keepers]
        state = {"epoch": position.epoch, "step": position.step, "best": best}
        self.checkpoints.save(state, int(keras.ops.convert_to_numpy(self.method.optimizer.iterations)))
        for callback in keepers:
            callback.saved()

    def _keepers(self) -> list[Any]:
        return [callback for callback in self.callbacks if hasattr(callback, "best")]

    def restore(self) -> Position:
        """Loads the newest checkpoint, the callbacks' state included, and returns where to go on."""
        state = self.checkpoints.restore() if self.checkpoints else None
        if state is None:
            return Position()
        for callback, best in zip(self._keepers(), state["best"], strict=True):
            callback.best = best
            callback.restored()
        return Position(state["epoch"], state["step"])
