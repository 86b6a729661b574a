"""What is measured while a method trains: class-wise metrics, and the step of validation.

logs = model.test_step(batch)                       # {"clean_accuracy": ..., "robust_worst_class": ...}
model.classwise(model.validation_metrics)["robust"]           # NumPy [K]
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks.pgd import misclassified
from fairat_tf.methods.batches import Batch, Examples, unpack
from fairat_tf.methods.fitting import Fitted
from fairat_tf.metrics.classwise import ClassMean, Confusion
from fairat_tf.networks.folding import prepared
from fairat_tf.objectives import losses


class _FirstAttack(threading.local):
    """Whether `count_stuck` counts: from the begin of a training step to its first attack, in this thread.

    Each replica's step runs in a thread of its own, and these take turns in the middle of the step.
    """

    awaited = False


_first_attack = _FirstAttack()


@contextlib.contextmanager
def first_attack_counted() -> Iterator[None]:
    """Inside, the first attack is looked at for examples that a gradient of 0 left at the start."""
    _first_attack.awaited = True
    try:
        yield
    finally:
        _first_attack.awaited = False


def unknown_as_average(costs: np.ndarray, average: float) -> np.ndarray:
    """Returns the costs [K] and the average behind them, [K + 1]; NaN, no example, becomes it."""
    return np.append(np.where(np.isnan(costs), average, costs), average)


class Measured(Fitted):
    """The part of `methods.base.Method` that counts, clean and attacked, class by class."""

    adversarial: bool
    evaluated_network: keras.Model
    attack: Any
    num_classes: int
    seed: int
    validation_attack: Callable[..., tf.Tensor]

    def _add_metrics(self) -> None:
        view = "robust" if self.adversarial else "clean"
        self.train_loss = ClassMean("loss", self.num_classes)
        self.train_confusion = Confusion(view, self.num_classes)
        self.train_zero_gradient = ClassMean("zero_gradient", self.num_classes)
        self.zero_gradient = ClassMean("zero_gradient", self.num_classes)
        self.clean = Confusion("clean", self.num_classes)
        self.robust = Confusion("robust", self.num_classes)
        self.clean_loss = ClassMean("clean_loss", self.num_classes)
        self.robust_loss = ClassMean("robust_loss", self.num_classes)
        self.uncertainty = ClassMean("entropy", self.num_classes)

    def _update_train_metrics(
        self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor
    ) -> None:
        size = tf.shape(batch.labels)[0]
        predictions = tf.argmax(logits[:size], -1, tf.int32)
        self.train_loss.update_state(examples.labels, loss, examples.present)
        self.train_confusion.update_state(batch.labels, predictions)

    def count_stuck(
        self,
        images: tf.Tensor,
        adversarial: tf.Tensor,
        labels: tf.Tensor,
        seed: rng.Seed,
        epsilon: Any = None,
    ) -> None:
        """Counts whom a gradient of 0 left at the attack's start, in the first attack of a training step.

        `labels` are int32 [B], or mixed ones [B, K]: their largest share then; `seed` is that of the attack.
        """
        if not _first_attack.awaited or not hasattr(self.attack, "stuck"):
            return
        classes = tf.argmax(labels, -1, tf.int32) if labels.dtype.is_floating else labels
        self.train_zero_gradient.update_state(classes, self.attack.stuck(images, adversarial, seed, epsilon))
        _first_attack.awaited = False

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Runs one step of validation, clean and attacked, and returns the validation metrics."""
        batch = unpack(data)
        logits_fn = prepared(self.evaluated_network)
        seed = self.validation_seed(batch, "validation")
        adversarial = self.validation_attack(logits_fn, batch.images, batch.labels, seed)
        if hasattr(self.validation_attack, "stuck"):
            stuck = self.validation_attack.stuck(batch.images, adversarial, seed)
            self.zero_gradient.update_state(batch.labels, stuck, batch.mask)
        clean, robust = logits_fn(batch.images), logits_fn(adversarial)
        self.uncertainty.update_state(batch.labels, losses.entropy(clean), batch.mask)
        for logits, confusion, mean in (
            (clean, self.clean, self.clean_loss),
            (robust, self.robust, self.robust_loss),
        ):
            confusion.update_state(batch.labels, tf.argmax(logits, -1, tf.int32), batch.mask)
            mean.update_state(batch.labels, losses.cross_entropy(logits, batch.labels), batch.mask)
        self.observe_validation(batch, logits_fn, ~misclassified(clean, batch.labels))
        return self.results(self.validation_metrics)

    def validation_seed(self, batch: Batch, purpose: str) -> rng.Seed:
        """Returns the seed for a batch of validation: another for each batch, the same in every epoch."""
        return rng.fold(rng.key(self.seed, purpose), batch.number)

    def observe_validation(self, batch: Batch, logits_fn: Callable[..., tf.Tensor], right: tf.Tensor) -> None:
        """Sees a validation batch and which of its plain images [B] were classified rightly."""

    def validation_losses(self, validation: dict[str, Any]) -> np.ndarray:
        """Returns the mean cross-entropies of the attacked validation images, by class and of all, [K + 1].

        Raises:
          ValueError: `validation`, the class-wise values of the epoch, is empty: there was none.
        """
        if not validation:
            raise ValueError("class_weights=hedge needs validation data after every epoch")
        average = keras.ops.convert_to_numpy(self.robust_loss.result())
        return unknown_as_average(validation[self.robust_loss.name], float(average))

    @property
    def train_metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that `train_step` updates."""
        attacked = [self.train_zero_gradient] if self.adversarial else []
        return [self.train_loss, self.train_confusion, *attacked]

    @property
    def validation_metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that `test_step` updates."""
        losses_seen = [self.clean_loss, self.robust_loss, self.uncertainty]
        return [self.clean, self.robust, *losses_seen, self.zero_gradient]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All metrics of the method."""
        return [*self.train_metrics, *self.validation_metrics]

    @property
    def state(self) -> list[Any]:
        """All variables that a checkpoint needs: weights, method state, metric sums, optimiser."""
        sums = [variable for metric in self.metrics for variable in metric.variables]
        return [*self.variables, *sums, *self.optimizer.variables]

    def results(self, metrics: list[keras.metrics.Metric]) -> dict[str, tf.Tensor]:
        """Returns the scalars of the metrics, by name."""
        results: dict[str, tf.Tensor] = {}
        for metric in metrics:
            value = metric.result()
            results.update(value if isinstance(value, dict) else {metric.name: value})
        return results

    def classwise(self, metrics: list[keras.metrics.Metric]) -> dict[str, Any]:
        """Returns the class-wise values of the metrics, name -> NumPy float [K]."""
        return {metric.name: metric.per_class() for metric in metrics}
