"""ABSLD: distillation with a temperature of its own for the teacher's labels of each class.

    model = ABSLD(student, attack=attack, num_classes=10, teacher_logits=load_logits("runs/teacher"))

Zhao, Duan, Wang, Wei, "Improving Adversarial Robust Fairness via Anti-Bias Soft Label Distillation",
NeurIPS 2024 (arXiv 2312.05508). RSLAD with T_t the teacher's probabilities at temperature t:

    x' = argmax in the ball of KL(T_t(x) || S(x')), t = t_adv of the class
    minimise a * KL(T_t(x) || S(x')) + (1 - a) * KL(T_t'(x) || S(x)), t' = t_nat of the class

After each epoch, for both temperatures, L_c the student's mean cross-entropy of class c on adversarial
(natural) training examples in it:

    t_c <- clip(t_c - rate * (L_c - mean L) / max |L - mean L|, 0.5, 5)

so that hard classes get sharper labels and easy ones softer. The temperatures start at 1, the rate
falls to a tenth with each drop of the authors' learning rate, at 215, 260 and 285 of 300 epochs, here
at the same shares of the run. rate = 0 is RSLAD.

Defaults of the authors' code on CIFAR-10: a = 5/6, rate 0.1, 300 epochs, weight decay 2e-4. In 300
epochs the temperatures reach their bounds; a run of 10 epochs moves them by at most 0.7.

Differences from the authors' code: there both re-tempered teachers share memory, so that each label is
divided by both temperatures; here each has its own, as in the paper. L_c is a mean (theirs: a sum, the
same for balanced classes); divergences are sums over classes (theirs: means); the attack starts at a
uniform point of the ball (theirs: x + 0.001 * N(0, 1)).
"""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf.config import option
from fairat_tf.methods.batches import Batch, Examples
from fairat_tf.methods.distillation import Distilled, WithTeacher, divergence, share_option, shares
from fairat_tf.metrics.classwise import ClassMean
from fairat_tf.objectives import Objective, losses

_LOWEST, _HIGHEST = 0.5, 5.0
_DROPS = (215 / 300, 260 / 300, 285 / 300)  # shares of the run at which the rate falls to a tenth


def moved(temperatures: np.ndarray, class_losses: np.ndarray, rate: float) -> np.ndarray:
    """Returns the temperatures [K] after an epoch with these losses [K]; NaN (no example) moves nothing."""
    excess = np.nan_to_num(class_losses - np.nanmean(class_losses))
    largest = np.abs(excess).max()
    step = rate * excess / largest if largest > 1e-6 else 0.0  # below that it is rounding
    return np.clip(temperatures - step, _LOWEST, _HIGHEST)


class ABSLD(Distilled):
    """Anti-bias soft label distillation; see the module."""

    not_with_mix = "method=absld"  # a temperature belongs to one class

    @dataclasses.dataclass(frozen=True)
    class Options(WithTeacher):
        """The teacher, the weight of the two terms, and how fast the temperatures move."""

        distill_adversarial: float = share_option()
        absld_rate: float = option(0.1, "by how much a temperature moves in an epoch at most", low=0.0)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        classes = (self.num_classes,)
        self.adversarial_temperature = self._state("adversarial_temperature", classes, initial=1.0)
        self.natural_temperature = self._state("natural_temperature", classes, initial=1.0)

    def _tempered(self, guide: tf.Tensor, labels: tf.Tensor, temperature: Any) -> tf.Tensor:
        return guide / tf.cast(self.of_class(temperature, labels), guide.dtype)[:, None]

    def attack_loss(self, guide: tf.Tensor, labels: tf.Tensor) -> Objective | None:
        """Returns KL(T_t(x) || S(x')) at the adversarial temperature of the class."""
        return super().attack_loss(self._tempered(guide, labels, self.adversarial_temperature), labels)

    def student_loss(self, examples: Examples, natural: Any, logits: tf.Tensor) -> tf.Tensor:
        """Returns RSLAD's loss with both teachers at the temperature of the class, [M]."""
        guide, labels = examples.guide, examples.labels
        adversarial = self._tempered(guide, labels, self.adversarial_temperature)
        calm = self._tempered(guide, labels, self.natural_temperature)
        share = self.options.distill_adversarial
        return shares(share, divergence(adversarial, logits), divergence(calm, natural))

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Adds up the student's cross-entropies by class."""
        adversarial, natural = tf.split(logits, 2)
        for mean, view in ((self.adversarial_loss, adversarial), (self.natural_loss, natural)):
            mean.update_state(batch.labels, losses.cross_entropy(view, batch.labels))

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Moves the temperatures."""
        super().on_epoch_end(epoch, train, validation)
        rate = self.options.absld_rate * 0.1 ** sum(epoch + 1 >= self.epoch_at(drop) for drop in _DROPS)
        for state, mean in (
            (self.adversarial_temperature, self.adversarial_loss),
            (self.natural_temperature, self.natural_loss),
        ):
            state.assign(moved(keras.ops.convert_to_numpy(state), train[mean.name], rate))

    def _add_metrics(self) -> None:
        super()._add_metrics()
        self.adversarial_loss = ClassMean("adversarial_cross_entropy", self.num_classes)
        self.natural_loss = ClassMean("natural_cross_entropy", self.num_classes)

    @property
    def train_metrics(self) -> list[Any]:
        """Adds the student's cross-entropies by class."""
        return [*super().train_metrics, self.adversarial_loss, self.natural_loss]
