"""FAT: the variance of the class risks as a penalty.

    model = FATVar(network, attack=attack, num_classes=10, var_strength=0.1)

Ma, Wang, Liu, "On the Tradeoff Between Robustness and Fairness", NeurIPS 2022 (their FAT; another FAT is
friendly adversarial training, hence the name here). With R_k the mean cross-entropy of the adversarial
examples of class k in the batch:

    minimise the mean of l_i + alpha * variance over the classes of R_k        (l: PGD-AT, TRADES or MART)

The variance is the unbiased one, over the classes that the global batch holds. Its gradient reaches
example i through 1 / n_y * 2 (R_y - mean R) / (K - 1): classes above the mean count more, classes below
it less. alpha = 0 is the base loss.

Defaults of the authors' code: alpha 0.1; 120 epochs, drops at 60 and 90, weight decay 2e-4, batch 512 (the
risk of a class is then a mean over about 50 examples; at 128 over about 13).

Differences from the authors' code: there the list of risks has 100 entries whatever the data, so that on
CIFAR-10 and SVHN the variance is over ten risks and ninety zeros, close to 0.09 times the mean squared
risk and hardly a measure of fairness; absent classes count as 0 there. The default 0.1 was chosen with
that. Their TRADES variant attacks with the cross-entropy; here the attack follows the loss. Groups of
classes (their superclasses of CIFAR-100) are not offered.
"""

import dataclasses

import tensorflow as tf

from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Examples
from fairat_tf.methods.options import WithLoss
from fairat_tf.objectives import losses
from fairat_tf.objectives.classwise import class_sums, over_replicas


class FATVar(Method):
    """Fair adversarial training by the variance of class risks; see the module."""

    @dataclasses.dataclass(frozen=True)
    class Options(WithLoss):
        """The base loss and the strength of the penalty."""

        var_strength: float = option(
            0.1, "alpha: weight of the variance of the classes' adversarial cross-entropies", low=0.0
        )

    def per_example_loss(self, examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the base loss plus each example's part of the penalty, and the logits."""
        loss, logits = super().per_example_loss(examples)
        if not self.options.var_strength:
            return loss, logits
        risk = losses.cross_entropy(logits, examples.truth)
        return loss + self.options.var_strength * self._variance_parts(risk, examples), logits

    def _variance_parts(self, risk: tf.Tensor, examples: Examples) -> tf.Tensor:
        """Returns [M] with the mean over the global batch equal to the variance, in value and gradient.

        The class risks hold the examples of all replicas. The derivative of the variance by a class risk
        is a constant factor here; what is differentiated are the replica's own examples alone.
        """
        present = tf.cast(examples.present, risk.dtype)
        rows = tf.stack([present * tf.stop_gradient(risk), present], -1)
        total, count = tf.unstack(over_replicas(class_sums(rows, examples.truth, self.num_classes)), axis=-1)
        held = tf.cast(count > 0, risk.dtype)
        class_risk, classes = tf.math.divide_no_nan(total, count), tf.reduce_sum(held)
        excess = held * (class_risk - tf.reduce_sum(class_risk) / tf.maximum(classes, 1.0))
        degrees = tf.maximum(classes - 1.0, 1.0)
        variance = tf.reduce_sum(tf.square(excess)) / degrees
        by_risk = 2.0 * excess / degrees * tf.math.divide_no_nan(tf.reduce_sum(count), count)
        # the first term's mean is twice the variance
        return self.of_class(by_risk, examples.truth) * risk - variance
