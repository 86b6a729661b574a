"""CFOL: class-focused online learning, which draws the classes that fail more often.

    model = CFOL(network, attack=attack, num_classes=10, epochs=200)
    batches = training_batches(split, batch_size=128, seed=0, epoch=0, class_shares=model.class_shares())

Pethick, Chrysos, Cevher, "Revisiting Adversarial Training for the Worst-Performing Class", TMLR 2023
(arXiv 2302.08872): minimise the largest class risk, by a learner against an adversary that plays EXP3
over the K classes:

    p = gamma / K + (1 - gamma) q,   q = softmax(w)       w = 0 at first
    a class is drawn from p, then any of its examples; the network takes its step
    w_y <- w_y + eta * [the example is misclassified under attack] / p_y

Two forms, both in the authors' code. `cfol_draw=sample`, the paper's: the classes of an epoch are drawn
from the training set, with replacement, at the shares p that held when the epoch began (they are in
checkpoints, and a resumed epoch draws the same). `cfol_draw=reweight`: batches are what they are and
example i has the weight K p_(y_i), which is the same in expectation for balanced classes, with p of the
moment; w_y is raised by eta K.

gamma = 1 draws all classes alike (sample) and is the base loss (reweight).

Defaults of the authors' code: gamma 1/2; eta 5e-6 in their script for CIFAR-10 (1e-5 and 1e-7 elsewhere
there). The weights add up over all examples seen, so eta belongs to a length: w moves by about eta *
50000 * error in an epoch of CIFAR-10. A run of a tenth of their 100 to 200 epochs needs about ten times
the rate.

Differences from the authors' code: p changes after each epoch, not after each batch (`sample`); any
base loss. Only the batches of `training_batches` can be drawn so: with batches of your own use
`reweight`, or hand `class_shares()` on as above.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Batch, Examples
from fairat_tf.methods.options import WithLoss
from fairat_tf.objectives.classwise import class_sums, over_replicas
from fairat_tf.objectives.robust import Terms


class CFOL(Method):
    """Class-focused online learning; see the module."""

    @dataclasses.dataclass(frozen=True)
    class Options(WithLoss):
        """How the adversary plays, and how its choice reaches the training."""

        cfol_draw: str = option(
            "sample",
            "draw the classes of an epoch from the training set (sample), or weigh the examples (reweight)",
            choices=("sample", "reweight"),
        )
        cfol_gamma: float = option(
            0.5, "share of the drawing that stays equal for all classes", low=0.0, high=1.0
        )
        cfol_rate: float = option(
            5e-6, "eta: by how much a failure raises its class; about ten times that for 10 epochs", low=0.0
        )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        classes = self.num_classes
        self.log_weights = self._state("log_weights", (classes,))
        self.shares = self._state("shares", (classes,), initial=1.0 / classes)
        self._drawn = False

    @property
    def _samples(self) -> bool:
        return self.options.cfol_draw == "sample"

    def _mixture(self) -> tf.Tensor:
        """Returns p of the moment, [K]."""
        gamma = self.options.cfol_gamma
        return gamma / self.num_classes + (1.0 - gamma) * tf.nn.softmax(
            tf.convert_to_tensor(self.log_weights)
        )

    def class_shares(self) -> np.ndarray | None:
        """Returns p as it was when the epoch began, [K]; None where examples are weighed instead."""
        self._drawn = True
        return keras.ops.convert_to_numpy(self.shares) if self._samples else None

    def term_weights(self, examples: Examples, logits: tf.Tensor, terms: Terms) -> tuple[Any, Any]:
        """Returns K p_y for both terms, [M], where examples are weighed."""
        if self._samples:
            return 1.0, 1.0
        weight = self.num_classes * self.of_class(self._mixture(), examples.truth)
        return weight, weight

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Raises the classes of the examples that are misclassified."""
        shares = tf.convert_to_tensor(self.shares)
        wrong = tf.cast(tf.argmax(logits, -1, tf.int32) != examples.labels, shares.dtype)
        failures = over_replicas(class_sums(wrong, examples.truth, self.num_classes))
        raised = self.options.cfol_rate * tf.math.divide_no_nan(failures, shares)  # p_k = 0: never drawn
        self.log_weights.assign(self.log_weights + raised)

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Sets the shares of the next epoch.

        Raises:
          ValueError: nobody asked for the shares, so the epoch cannot have been drawn by them.
        """
        super().on_epoch_end(epoch, train, validation)
        if not self._samples:
            return
        if not self._drawn:
            raise ValueError(
                "cfol draws the classes of each epoch: give training_batches the class_shares() of the "
                "method, or weigh the examples with cfol_draw=reweight"
            )
        self.shares.assign(self._mixture())
