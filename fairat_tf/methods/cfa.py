"""CFA: radius, regularisation and averaging calibrated class by class.

    model = CFA(network, attack=attack, num_classes=10, epochs=110)

Wei, Wang, Guo, Wang, "CFA: Class-wise Calibrated Fair Adversarial Training", CVPR 2023. With t_k the robust
accuracy of class k on the training examples of the last epoch:

    CCM (section 4.1)   epsilon_k = (lambda_1 + t_k) * epsilon
    CCR (section 4.2)   beta_k = (lambda_2 + t_k) * beta; loss (CE + beta_y * KL) / (1 + beta_y)
    FAWA (section 4.3)  after an epoch: average <- d * average + (1 - d) * weights, if the worst class of the
                        weights has a robust accuracy on validation of at least delta; else the average stays

CCM begins after 5 % of the run (the authors' code: epoch 10 of 200), FAWA after 25 % (paper: epoch 50 of
200); until then, and in the first epoch in any case, epsilon_k = epsilon and beta_k = beta, and the average
follows the weights (`ema_decay`).
Defaults of the paper on CIFAR-10: lambda_1 0.3 for TRADES and 0.5 for PGD-AT (`loss=cross_entropy`, where
CCR does not apply), lambda_2 0.5, beta 6, d 0.85, delta 0.2. On data with weaker worst classes (CIFAR-100)
delta must be lower, or nothing is averaged.

Differences from the authors' code: decay 0.88 and threshold 0.24 there by default; they average from the
first epoch that passes the threshold; PGD-AT is attacked with BatchNorm in training mode there; the TRADES
attack starts at x + 0.001 * N(0, 1) there, here at a uniform point of the ball. The average that is
validated and saved after an epoch holds the epochs before it: its own joins when the next one begins, since
the gate needs its validation. Without validation (`validation` empty) nothing is averaged.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import optimization
from fairat_tf.attacks.pgd import misclassified
from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Batch, Examples
from fairat_tf.methods.options import WithLoss, loss_option
from fairat_tf.metrics.classwise import ClassMean
from fairat_tf.objectives.robust import Terms


class CFA(Method):
    """Class-wise calibrated fair adversarial training; see the module."""

    @dataclasses.dataclass(frozen=True)
    class Options(WithLoss):
        """Each of the three parts can be left out."""

        loss: str = loss_option("trades")
        cfa_margin: bool = option(True, "CCM: class-wise radius in training")
        cfa_regularization: bool = option(True, "CCR: class-wise beta, and the loss divided by 1 + beta")
        cfa_average: bool = option(True, "FAWA: average the weights of epochs that pass the threshold")
        cfa_lambda1: float = option(
            0.3, "share of epsilon that every class has (paper: 0.5 for PGD-AT)", low=0.0
        )
        cfa_lambda2: float = option(0.5, "share of beta that every class has", low=0.0)
        cfa_begin: float = option(0.05, "share of the run before CCM and CCR begin", low=0.0, high=1.0)
        cfa_average_from: float = option(0.25, "share of the run before FAWA begins", low=0.0, high=1.0)
        cfa_decay: float = option(0.85, "decay of the average, by epoch", low=0.0, high=1.0)
        cfa_threshold: float = option(
            0.2, "least robust accuracy of the worst validation class for an epoch to be averaged", low=0.0
        )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.options.cfa_average and self.ema_network is None:
            self.ema_network = optimization.copy_of(self.network)
        self.waiting = self._state("waiting", (), "int32")  # 1: the last epoch is to be averaged

    @property
    def _averages_from(self) -> int:
        """The epoch with which FAWA begins: never the first, in which the average follows."""
        return max(1, self.epoch_at(self.options.cfa_average_from))

    def _calibrated(self, share: float, labels: tf.Tensor) -> tf.Tensor:
        """Returns share + t_y, [B]; 1 before the calibration begins (nothing is known in epoch 0)."""
        started = self.epoch >= max(1, self.epoch_at(self.options.cfa_begin))
        return tf.where(started, share + self.of_class(self.class_accuracy, labels), 1.0)

    def epsilon_for(self, labels: tf.Tensor) -> Any:
        """Returns (lambda_1 + t_y) * epsilon, [B]."""
        if not self.options.cfa_margin:
            return None
        return self.attack.epsilon * self._calibrated(self.options.cfa_lambda1, labels)

    def term_weights(self, examples: Examples, logits: tf.Tensor, terms: Terms) -> tuple[Any, Any]:
        """Returns 1 / (1 + beta_y) for the error, beta_y / beta / (1 + beta_y) for the divergence, [M]."""
        if not self.options.cfa_regularization or not self.objective.needs_natural:
            return 1.0, 1.0
        scale = self._calibrated(self.options.cfa_lambda2, examples.truth)
        total = 1.0 + scale * self.objective.beta
        return 1.0 / total, scale / total

    # ---- FAWA -----------------------------------------------------------------------------------------

    def average_decay(self) -> tf.Tensor:
        """Returns 1 once FAWA has begun: from then on only whole epochs join the average."""
        by_step = super().average_decay()
        if not self.options.cfa_average:
            return by_step
        return tf.where(self.epoch >= self._averages_from, 1.0, by_step)

    def on_epoch_begin(self, epoch: int) -> None:
        """Lets the last epoch into the average if it passed; a resumed epoch does not do so again."""
        super().on_epoch_begin(epoch)
        if keras.ops.convert_to_numpy(self.waiting):
            optimization.ema_update(
                self.ema_network.variables, self.network.variables, self.options.cfa_decay
            )
            self.waiting.assign(0)

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Decides by the weights' own worst class whether the epoch joins the average."""
        super().on_epoch_end(epoch, train, validation)
        if not self.options.cfa_average or epoch < self._averages_from:
            return
        if validation:
            worst = np.nanmin(validation["weights_robust"])
            self.waiting.assign(int(worst >= self.options.cfa_threshold))

    def observe_validation(self, batch: Batch, logits_fn: Callable[..., tf.Tensor], right: tf.Tensor) -> None:
        """Attacks the weights themselves, where the average is what is validated."""
        if not self.options.cfa_average:
            return
        seed = self.validation_seed(batch, "validation")
        adversarial = self.validation_attack(self.inference, batch.images, batch.labels, seed)
        hit = ~misclassified(self.inference(adversarial), batch.labels)
        self.weights_robust.update_state(batch.labels, hit, batch.mask)

    def _add_metrics(self) -> None:
        super()._add_metrics()
        self.weights_robust = ClassMean("weights_robust", self.num_classes)

    @property
    def validation_metrics(self) -> list[Any]:
        """Adds the robust accuracy of the weights, where it is measured apart from the average's."""
        own = [self.weights_robust] if self.options.cfa_average else []
        return [*super().validation_metrics, *own]
