"""DAFA: weights and radii by the distances between classes.

    model = DAFA(network, attack=attack, num_classes=10, epochs=110)

Lee, Lee, Jang, Park, Bae, Yoon, "DAFA: Distance-Aware Fair Adversarial Training", ICLR 2024, section 4.
After a warm-up with the base loss, p_i(j) is the mean probability of class j that the network gives the
adversarial training examples of class i in the last epoch of the warm-up, and

    W_i = 1 + lambda * sum over j != i of { p_i(j) * p_j(j)     if p_i(i) < p_j(j)
                                          { -p_j(i) * p_i(i)    otherwise

From then on class i is attacked with radius W_i * epsilon and steps W_i * step, and its cross-entropy is
multiplied by W_i (the divergence is not).

Defaults: lambda 1 on CIFAR-10, 1.5 on CIFAR-100 and STL-10; TRADES with beta 6; warm-up of 70 of 110 epochs.
The authors train with Nesterov momentum (`--nesterov`).

Differences from the authors' code: probabilities are summed by class and not kept for each example; the
attack starts at a uniform point of the ball (theirs: x + 0.001 * N(0, 1)); weights are cut at 0. Their
PGD-AT variant (`madry_loss`) follows each class-wise step with a second step and projection of the uniform
radius, so that the class radius is lost there; here `loss=cross_entropy` keeps it.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Batch, Examples
from fairat_tf.methods.options import WithLoss, loss_option
from fairat_tf.objectives.classwise import class_sums, over_replicas
from fairat_tf.objectives.robust import Terms


def weights(similarity: np.ndarray, strength: float) -> np.ndarray:
    """Returns W, float32 [K], from p [K, K] (row i: mean probabilities of class i) and lambda."""
    own = np.diag(similarity)
    harder = own[:, None] < own[None, :]
    gains = similarity * own[None, :]
    parts = np.where(harder, gains, -gains.T)
    np.fill_diagonal(parts, 0.0)
    return np.maximum(1.0 + strength * parts.sum(1), 0.0).astype(np.float32)


class DAFA(Method):
    """Distance-aware fair adversarial training; see the module."""

    scale_steps = True

    @dataclasses.dataclass(frozen=True)
    class Options(WithLoss):
        """Strength and time of the switch."""

        loss: str = loss_option("trades")
        dafa_lambda: float = option(1.0, "strength of the class weights (CIFAR-100, STL-10: 1.5)", low=0.0)
        dafa_warmup: float = option(0.64, "share of the run with the base loss alone", low=0.0, high=1.0)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        classes = self.num_classes
        self.probabilities = self._state("probabilities", (classes, classes))
        self.seen = self._state("seen", (classes,))
        self.class_scale = self._state("class_scale", (classes,), initial=1.0)

    @property
    def _last_of_warmup(self) -> int:
        return max(0, self.epoch_at(self.options.dafa_warmup) - 1)

    def epsilon_for(self, labels: tf.Tensor) -> Any:
        """Returns W_y * epsilon, [B]."""
        return self.attack.epsilon * self.of_class(self.class_scale, labels)

    def term_weights(self, examples: Examples, logits: tf.Tensor, terms: Terms) -> tuple[Any, Any]:
        """Returns W_y for the cross-entropy, [M], and 1 for the divergence."""
        return self.of_class(self.class_scale, examples.truth), 1.0

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Adds up the adversarial probabilities of each class in the last epoch of the warm-up."""
        now = tf.cast(tf.equal(self.epoch, self._last_of_warmup), self.seen.dtype)
        size = tf.shape(batch.labels)[0]
        probabilities = tf.nn.softmax(tf.cast(logits[:size], self.seen.dtype))
        sums = class_sums(probabilities, batch.truth, self.num_classes)
        counts = class_sums(tf.ones([size], self.seen.dtype), batch.truth, self.num_classes)
        sums, counts = over_replicas([now * sums, now * counts])
        self.probabilities.assign(self.probabilities + sums)
        self.seen.assign(self.seen + counts)

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Sets the class weights when the warm-up ends."""
        super().on_epoch_end(epoch, train, validation)
        if epoch != self._last_of_warmup:
            return
        sums, seen = (keras.ops.convert_to_numpy(v) for v in (self.probabilities, self.seen))
        similarity = sums / np.maximum(seen, 1.0)[:, None]
        self.class_scale.assign(weights(similarity, self.options.dafa_lambda))
