"""Confusional spectral regularisation: errors weigh by their part in the norm of the confusion matrix.

    network = ...                                # a robust one, for example by TRADES (--init_from)
    model = Spectral(network, attack=attack, num_classes=10, epochs=2)

Jin, Wu, Liu, Huang, Mu, "Enhancing Robust Fairness via Confusional Spectral Regularization", ICLR 2025
(arXiv 2501.13273). Their bound on the robust error of the worst class holds the spectral norm of the
robust confusion matrix C (row: predicted, column: true class, no diagonal). With u, v its first
singular vectors, u v' is the gradient of the norm by C (the first factor of their equation 11); the
second, of C by the weights, is replaced by that of a cross-entropy:

    G = u v';  w = 2 (G - min G) / (max G - min G) + 0.01
    minimise the mean of (1 - alpha) * error + alpha * w[prediction at x', y] * CE(x', y) + beta * boundary

error and boundary: CE(x) and KL(p(x) || p(x')) of TRADES, or those of another loss. alpha = 0 is that
loss. What was read is the authors' code (github.com/Alexkael/CONFUSIONAL-SPECTRAL-REGULARIZATION), not
the paper's text.

Defaults of that code on CIFAR-10: alpha 0.3, beta 6, two epochs with learning rate 0.001 from a TRADES
network, weight decay 5e-4.

Differences from it: there C is counted before each epoch in a pass of its own over the training set,
with PGD on the cross-entropy and BatchNorm in inference mode; here it is counted during the epoch on
what is trained on, and serves the next. So the first epoch has w = 1, and a run needs two or more. The
code lowers the true logit by a tenth of itself before it counts (a margin, `spectral_margin=0.1`); the
default here is the plain confusion matrix, which is also reported.
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
from fairat_tf.objectives import losses
from fairat_tf.objectives.classwise import class_sums, over_replicas
from fairat_tf.objectives.robust import Terms


def weights(confusion: np.ndarray) -> np.ndarray:
    """Returns w, float32 [K, K] in [0.01, 2.01], from counts [K, K]: row = predicted, column = true class.

    Without an error, or where all entries have the same gradient, every weight is 1.
    """
    errors = confusion * (1.0 - np.eye(len(confusion)))
    left, values, right = np.linalg.svd(errors)
    if not values[0]:
        return np.ones(confusion.shape, np.float32)
    gradient = np.outer(left[:, 0], right[0])
    low, high = gradient.min(), gradient.max()
    if high - low < 1e-6 * np.abs(gradient).max():  # all alike: only rounding tells them apart
        return np.ones(confusion.shape, np.float32)
    return (2.0 * (gradient - low) / (high - low) + 0.01).astype(np.float32)


class Spectral(Method):
    """Confusional spectral regularisation; see the module."""

    not_with_mix = "method=spectral"  # confusion is counted for one class

    fine_tunes = True

    @dataclasses.dataclass(frozen=True)
    class Options(WithLoss):
        """The base loss, the strength, and what counts as confused."""

        loss: str = loss_option("trades")
        spectral_strength: float = option(
            0.3, "alpha: share of the error term that is weighed by the confusion matrix", low=0.0, high=1.0
        )
        spectral_margin: float = option(
            0.0, "share of itself by which the true logit is lowered before confusions are counted", low=0.0
        )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        shape = (self.num_classes, self.num_classes)
        self.confusions = self._state("confusions", shape)
        self.confusion_weights = self._state("confusion_weights", shape, initial=1.0)

    def term_weights(self, examples: Examples, logits: tf.Tensor, terms: Terms) -> tuple[Any, Any]:
        """Returns 1 - alpha for the error, 1 for the boundary term."""
        return 1.0 - self.options.spectral_strength, 1.0

    def per_example_loss(self, examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the base loss with alpha of its error replaced by the weighed one, and the logits."""
        loss, logits = super().per_example_loss(examples)
        if not self.options.spectral_strength:
            return loss, logits
        labels, predicted = examples.labels, tf.argmax(logits, -1, tf.int32)
        weight = tf.gather_nd(tf.convert_to_tensor(self.confusion_weights), tf.stack([predicted, labels], -1))
        if self.class_weights:
            weight *= self.of_class(self.class_weight, labels)
        weighed = weight * losses.cross_entropy(logits, self.targets(examples))
        return loss + self.options.spectral_strength * weighed, logits

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Counts (predicted, true class) under attack."""
        hot = tf.one_hot(examples.labels, self.num_classes, dtype=logits.dtype)
        lowered = logits - self.options.spectral_margin * hot * logits
        predicted = tf.one_hot(tf.argmax(lowered, -1), self.num_classes) * examples.present[:, None]
        by_label = over_replicas(class_sums(predicted, examples.labels, self.num_classes))
        known = tf.convert_to_tensor(self.confusions)
        self.confusions.assign(known + tf.cast(tf.transpose(by_label), known.dtype))

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Sets the weights of the next epoch from the confusions of this one."""
        super().on_epoch_end(epoch, train, validation)
        self.confusion_weights.assign(weights(keras.ops.convert_to_numpy(self.confusions)))
        self.confusions.assign(np.zeros(self.confusions.shape, np.float32))
