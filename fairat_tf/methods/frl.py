"""FRL: fair robust learning by reweighting and remargining.

    network = ...                                # a trained one, for example by TRADES (--init_from)
    model = FRL(network, attack=attack, num_classes=10, epochs=40)

Xu, Liu, Li, Jain, Tang, "To be Robust or to be Fair: Towards Fairness in Adversarial Training", ICML 2021,
section 4: minimise natural error + beta * boundary error under the constraints, for every class i,

    e_i - e <= tau_1  and  b_i - b <= tau_2        (e: natural error, b: natural minus robust accuracy)

by multipliers that rise after every epoch with the violation on validation, P cutting at 0 and scaling a
sum above the limit down to it:

    reweight:  lambda_nat  <- P(lambda_nat + rate * (e_i - e - tau_1))
               lambda_bndy <- P(lambda_bndy + 2 rate * (b_i - b - tau_2))
               w_i = 1/K + lambda_i - mean(lambda), for both terms
               loss = sum(w_nat CE) / sum(w_nat) + beta * sum(w_bndy KL) / sum(w_bndy), sums over the batch
    remargin:  lambda_eps  <- lambda_eps + rate_eps * (b_i - b - tau_2)
               epsilon_i = epsilon * clip(exp(2 lambda_eps), 0.98, 3)

Defaults, of the authors' code for CIFAR-10 with both parts: 40 epochs with learning rate 0.001 from a
TRADES network, beta 1.5, tau 0.07 (reweighting alone: 0.1), rate 0.05, rate_eps 0.2, limit 0.5. 300
validation examples a class (`--validation_fraction=0.06`).

Differences from the authors' code: the first epoch has equal weights (theirs validates once before it); the
steps of an example are in proportion to its own radius (theirs: the largest radius of the batch, for all);
validation uses `validation_steps` (theirs: PGD-20); the rate is not halved after epoch 40; with a moving
average the constraints are those of the average.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Examples
from fairat_tf.methods.options import Plain, beta_option
from fairat_tf.objectives import robust, selection


def projected(multipliers: np.ndarray, limit: float) -> np.ndarray:
    """Returns the multipliers [K] cut at 0, scaled to the sum `limit` where theirs is larger."""
    positive = np.maximum(multipliers, 0.0)
    return positive * min(1.0, limit / max(positive.sum(), 1e-12))


class FRL(Method):
    """Fair robust learning; see the module."""

    scale_steps = True
    fine_tunes = True

    @dataclasses.dataclass(frozen=True)
    class Options(Plain):
        """Tolerances and rates of the constraints."""

        beta: float = beta_option(1.5, "weight of the boundary error")
        frl_remargin: bool = option(True, "class-wise radius besides class weights")
        frl_natural_tolerance: float = option(
            0.07, "tau_1: how far a class's natural error may exceed the mean"
        )
        frl_boundary_tolerance: float = option(0.07, "tau_2: the same for the boundary error")
        frl_rate: float = option(0.05, "rate of the multipliers of the weights", low=0.0)
        frl_margin_rate: float = option(0.2, "rate of the multipliers of the radii", low=0.0)
        frl_limit: float = option(0.5, "largest sum of the multipliers of the weights", low=0.0, high=1.0)

        def objective(self) -> robust.CrossEntropy:
            """Returns the TRADES loss."""
            return robust.Trades(self.beta)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.natural_multipliers = self._state("natural_multipliers", (self.num_classes,))
        self.boundary_multipliers = self._state("boundary_multipliers", (self.num_classes,))
        self.margin_multipliers = self._state("margin_multipliers", (self.num_classes,))

    def epsilon_for(self, labels: tf.Tensor) -> Any:
        """Returns epsilon * clip(exp(2 lambda_eps), 0.98, 3) of the class, [B]."""
        if not self.options.frl_remargin:
            return None
        by_class = tf.exp(2.0 * tf.convert_to_tensor(self.margin_multipliers))
        return self.attack.epsilon * self.of_class(tf.clip_by_value(by_class, 0.98, 3.0), labels)

    def term_weights(self, examples: Examples, logits: tf.Tensor, terms: robust.Terms) -> tuple[Any, Any]:
        """Returns w_nat and w_bndy of the class, [M] each, relative to their means over the global batch."""
        return (
            self._relative(self.natural_multipliers, examples),
            self._relative(self.boundary_multipliers, examples),
        )

    def _relative(self, multipliers: Any, examples: Examples) -> tf.Tensor:
        multipliers = tf.convert_to_tensor(multipliers)
        by_class = 1.0 / self.num_classes + multipliers - tf.reduce_mean(multipliers)
        weights = self.of_class(by_class, examples.truth)
        present = tf.cast(selection.global_scores(examples.present), weights.dtype)
        mean = tf.reduce_sum(selection.global_scores(weights) * present) / tf.reduce_sum(present)
        return tf.math.divide_no_nan(weights, mean)  # 0 / 0: only classes of weight 0 are in the batch

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Raises the multipliers of classes that violate their constraint, and lowers the others.

        Raises:
          ValueError: the epoch had no validation.
        """
        super().on_epoch_end(epoch, train, validation)
        if not validation:
            raise ValueError("frl needs validation data after every epoch: its constraints hold there")
        options = self.options
        natural, boundary = self._violations(validation)
        for state, step in (
            (self.natural_multipliers, options.frl_rate * natural),
            (self.boundary_multipliers, 2.0 * options.frl_rate * boundary),
        ):
            moved = keras.ops.convert_to_numpy(state) + step
            state.assign(projected(moved, options.frl_limit))
        margins = keras.ops.convert_to_numpy(self.margin_multipliers)
        self.margin_multipliers.assign(margins + options.frl_margin_rate * boundary)

    def _violations(self, validation: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Returns e_i - e - tau_1 and b_i - b - tau_2, [K] each; absent classes violate nothing."""
        clean, robust_accuracy = validation["clean"], validation["robust"]
        right, survived = self.clean.matrix(), self.robust.matrix()
        total_clean, total_robust = (np.trace(m) / m.sum() for m in (right, survived))
        natural = (total_clean - clean) - self.options.frl_natural_tolerance
        boundary = (clean - robust_accuracy) - (total_clean - total_robust)
        return np.nan_to_num(natural), np.nan_to_num(boundary - self.options.frl_boundary_tolerance)
