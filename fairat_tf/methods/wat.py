"""WAT: worst-class adversarial training by no-regret weights.

    model = WAT(network, attack=attack, num_classes=10, epochs=100)
    for epoch in range(100):
        batches = data.training_batches(train, batch_size=128, seed=0, epoch=epoch)
        model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, validation_data=validation)

Li, Liu, "WAT: Improve the Worst-Class Robustness in Adversarial Training", AAAI 2023 (arXiv 2302.04025).
Minimise the maximum over K class risks and the average risk; Hedge plays the maximum, with the risks of the
validation examples. With l the base loss (TRADES), T the epochs so far and c_t,k the mean loss of class k on
validation after epoch t (entry K + 1: of all examples):

    w_k = K * exp(eta * sum over t <= T of c_t,k) / sum over the K + 1 entries of the same   (first epoch: 1)
    loss of example i = (w_y + w_(K+1)) * l_i

The loss of the first epoch is thus 2 l, and with eta 0 it is 2 K / (K + 1) * l ever after: the learning rate
acts on a loss about twice that of TRADES, as in the authors' code.

Defaults: eta 0.1, beta 6. The authors hold back 300 validation examples a class (CIFAR-100: 30), which is
`--validation_fraction=0.06`, and train for 100 epochs with drops at 75 and 90 and weight decay 2e-4.

Differences from the authors' code: class risks are means over the class (theirs: sums times K / examples,
the same for balanced classes); attack and validation attack on the base loss start at a uniform point of
the ball (theirs: x + 0.001 * N(0, 1)); the costs of padding and of a last partial batch are exact.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Batch, Examples
from fairat_tf.methods.class_weights import hedge
from fairat_tf.methods.measuring import unknown_as_average
from fairat_tf.methods.options import WithLoss, loss_option
from fairat_tf.metrics.classwise import ClassMean
from fairat_tf.objectives.robust import Terms


class WAT(Method):
    """Worst-class adversarial training; see the module."""

    @dataclasses.dataclass(frozen=True)
    class Options(WithLoss):
        """The base loss and the rate of Hedge."""

        loss: str = loss_option("trades")
        wat_eta: float = option(0.1, "learning rate of the class weights", low=0.0)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.total_costs = self._state("total_costs", (self.num_classes + 1,))
        self.weights_by_class = self._state("weights_by_class", (self.num_classes + 1,), initial=1.0)

    def term_weights(self, examples: Examples, logits: tf.Tensor, terms: Terms) -> tuple[Any, Any]:
        """Returns w_y + w_(K+1) for both terms, [M]."""
        total = tf.convert_to_tensor(self.weights_by_class)
        weight = self.of_class(total[:-1], examples.truth) + total[-1]
        return weight, weight

    def observe_validation(self, batch: Batch, logits_fn: Callable[..., tf.Tensor], right: tf.Tensor) -> None:
        """Measures the base loss of the weights being trained, with the attack of training."""
        adversarial = self.attacked(
            batch.images, batch.labels, self.validation_seed(batch, "validation cost")
        )
        natural = self.inference(batch.images) if self.objective.needs_natural else None
        terms = self.objective.terms(self.inference(adversarial), natural, batch.labels, batch.labels)
        self.cost.update_state(batch.labels, terms.error + self.objective.beta * terms.boundary, batch.mask)

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Plays a round of Hedge.

        Raises:
          ValueError: the epoch had no validation.
        """
        super().on_epoch_end(epoch, train, validation)
        if not validation:
            raise ValueError("wat needs validation data after every epoch: its class weights follow them")
        average = float(keras.ops.convert_to_numpy(self.cost.result()))
        costs = unknown_as_average(validation["cost"], average)
        total = keras.ops.convert_to_numpy(self.total_costs) + costs
        self.total_costs.assign(total)
        self.weights_by_class.assign(hedge(total, self.options.wat_eta))

    def _add_metrics(self) -> None:
        super()._add_metrics()
        self.cost = ClassMean("cost", self.num_classes)

    @property
    def validation_metrics(self) -> list[Any]:
        """Adds the mean base loss by class."""
        return [*super().validation_metrics, self.cost]
