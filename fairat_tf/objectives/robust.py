"""Losses of adversarial training, term by term, and what their attacks maximise.

    objective = get("trades")(beta=6.0)
    terms = objective.terms(logits, natural_logits, labels, targets)
    loss = terms.error + objective.beta * terms.boundary          # [B]

Every loss here is the sum of an error and beta times a boundary term, so that a method can weigh the
two terms of each example or class as it likes and leaves the rest alone.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import tensorflow as tf

from fairat_tf.lookup import Table
from fairat_tf.objectives import Objective, losses


class Terms(NamedTuple):
    """The two terms of each example, [B] each."""

    error: tf.Tensor
    boundary: tf.Tensor


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """PGD-AT: the cross-entropy of the adversarial example; no boundary term.

    Madry et al., ICLR 2018, equation 2.1.

    Attributes:
      beta: weight of the boundary term.
      needs_natural: whether `terms` needs the logits of the natural examples.
      attacks_prediction: whether the attack leads away from the natural prediction, not from the label.
    """

    beta: float = 0.0
    needs_natural: ClassVar[bool] = False
    attacks_prediction: ClassVar[bool] = False

    def terms(
        self, logits: tf.Tensor, natural: tf.Tensor | None, labels: tf.Tensor, targets: tf.Tensor
    ) -> Terms:
        """Returns the two terms.

        Args:
          logits: [B, K] of the adversarial examples.
          natural: [B, K] of the natural examples; None where `needs_natural` is false.
          labels: int32 [B], or label distributions [B, K] of mixed images.
          targets: the labels, or soft labels [B, K] to train towards.
        """
        error = losses.cross_entropy(logits, targets)
        return Terms(error, tf.zeros_like(error))

    def attack_loss(self, natural: Callable[[], tf.Tensor]) -> Objective | None:
        """Returns what the attack maximises; None means the attack's own objective.

        Args:
          natural: returns the logits [B, K] of the natural examples, BatchNorm in inference mode.
        """
        if not self.attacks_prediction:
            return None
        prediction = tf.stop_gradient(natural())
        return lambda logits, labels: losses.kl_divergence(prediction, logits)


@dataclasses.dataclass(frozen=True)
class Trades(CrossEntropy):
    """TRADES: CE(x, y) + beta * KL(p(x) || p(x')), x' maximising the same KL.

    Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019,
    equation 5. The gradient flows through both arguments of the divergence, as in the authors' code.
    """

    beta: float = 6.0
    needs_natural: ClassVar[bool] = True
    attacks_prediction: ClassVar[bool] = True

    def terms(
        self, logits: tf.Tensor, natural: tf.Tensor | None, labels: tf.Tensor, targets: tf.Tensor
    ) -> Terms:
        """Returns the natural cross-entropy and the divergence; see `CrossEntropy.terms`."""
        return Terms(losses.cross_entropy(natural, targets), losses.kl_divergence(natural, logits))


@dataclasses.dataclass(frozen=True)
class Mart(CrossEntropy):
    """MART: BCE(x', y) + beta * KL(p(x) || p(x')) * (1 - p_y(x)), x' maximising the cross-entropy.

    Wang et al., "Improving Adversarial Robustness Requires Revisiting Misclassified Examples", ICLR 2020,
    equations 9 to 11: BCE(x', y) = -log p_y(x') - log(1 - max over j != y of p_j(x')). As in the authors'
    code the second logarithm is taken of 1.0001 - max, and the last factor is 1.0000001 - p_y(x).
    With mixed labels the maximum is over classes without a share, and p_y the mean under the label (ours).
    """

    beta: float = 5.0
    needs_natural: ClassVar[bool] = True

    def terms(
        self, logits: tf.Tensor, natural: tf.Tensor | None, labels: tf.Tensor, targets: tf.Tensor
    ) -> Terms:
        """Returns the boosted cross-entropy and the weighted divergence; see `CrossEntropy.terms`."""
        logits = losses.at_least_float32(logits)
        _, other = losses.true_and_best_other(logits, labels)
        rival = tf.exp(other - tf.reduce_logsumexp(logits, -1))
        error = losses.cross_entropy(logits, targets) - tf.math.log(1.0001 - rival)
        doubt = 1.0000001 - losses.label_probability(natural, labels)
        return Terms(error, losses.kl_divergence(natural, logits) * doubt)


TABLE = Table(
    "loss",
    {
        "cross_entropy": "fairat_tf.objectives.robust:CrossEntropy",
        "trades": "fairat_tf.objectives.robust:Trades",
        "mart": "fairat_tf.objectives.robust:Mart",
    },
)


def get(name: str) -> type[CrossEntropy]:
    """Returns the loss called `name`, a class whose only argument is `beta`."""
    return TABLE.get(name)


def names() -> list[str]:
    """Returns the names of all losses of adversarial training."""
    return TABLE.names()


def smoothed(labels: tf.Tensor, smoothing: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns soft labels (1 - s) * one-hot + s / K, float32 [B, K], from int32 [B] and s in [0, 1] ([B]).

    Label distributions [B, K] stand in place of the one-hot ones.
    """
    amount = tf.reshape(tf.cast(smoothing, tf.float32), [-1, 1])
    whole = labels if labels.dtype.is_floating else tf.one_hot(labels, num_classes)
    return (1.0 - amount) * whole + amount / num_classes
