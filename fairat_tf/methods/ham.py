"""HAM: hard adversarial example mining, which leaves out the easy examples.

    model = HAM(network, attack=attack, num_classes=10, epochs=120)

Lin et al., "Hard Adversarial Example Mining for Improving Robust Fairness", IEEE TIFS 2024 (arXiv
2308.01823). PGD-AT to a given epoch; from then on

    x'_3 <- PGD with 3 steps                          the quick attack of the paper
    hard: the examples that are misclassified at x'_3; the others are easy and left out
    x'   <- the remaining steps; loss <- mean cross-entropy of the hard ones

FairAT's counterpart: it makes the hard examples more diverse, HAM trains on nothing else.

Defaults of the authors' code: begin with epoch 50 of 120 (CIFAR-100: 60); classify after 3 steps of 10
(SVHN: 5); keep none of the easy (CIFAR-100: a share of 0.3); 120 epochs with a tenth of the learning rate
after one half and a hundredth after three quarters, weight decay 2e-4, epsilon 0.031.

Differences from the authors' code: shapes are static here, so the easy examples are attacked to the end
and pass the network with weight 0. So there is no time saved (theirs takes about
3 + (K - 3) * share of hard examples gradients by the pixels), BatchNorm's statistics are those of all
examples, and the robust accuracy in training is that of all examples. Which of the easy examples are
kept is drawn at random; theirs keeps by confidence, by a rule in a file that is not published. A step
without a hard example has no loss. The paper's weights of hard examples are 1, as in their scripts.
The attack must offer `start` and `walk`, as PGD does.
"""

import dataclasses
import logging
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Batch, Examples, plain_examples
from fairat_tf.methods.options import Plain
from fairat_tf.metrics.classwise import ClassMean


class HAM(Method):
    """Hard adversarial example mining; see the module."""

    not_with_mix = "method=ham"  # an image of two classes is neither easy nor hard

    @dataclasses.dataclass(frozen=True)
    class Options(Plain):
        """When mining begins, and what is easy."""

        ham_begin: float = option(
            0.41, "share of the run before mining begins (CIFAR-100: 0.5)", low=0.0, high=1.0
        )
        ham_classify_step: int = option(
            3, "attack steps after which an example that is still right is easy (SVHN: 5)", low=0
        )
        ham_keep: float = option(
            0.0, "share of the easy examples that are kept, at random (CIFAR-100: 0.3)", low=0.0, high=1.0
        )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        wanted, last = self.options.ham_classify_step, self.attack.steps - 1
        if wanted > last:
            logging.warning("ham: an attack of %d steps classifies after %d, not %d", last + 1, last, wanted)
        self._classified_after = min(wanted, last)

    def training_batch(self, batch: Batch, seed: rng.Seed) -> Examples:
        """Returns all examples attacked; those to leave out are not `present`."""
        images, labels, attack = batch.images, batch.labels, self.attack
        first, logits_fn = self._classified_after, self.inference

        def walk(points: tf.Tensor, steps: int) -> tuple[tf.Tensor, tf.Tensor]:
            return attack.walk(logits_fn, points, images, labels, steps)

        attack_seed = rng.fold(seed, "attack")
        points, _ = walk(attack.start(images, attack_seed), first)
        points, right = walk(points, 1)
        points, _ = walk(points, attack.steps - first - 1)
        self.count_stuck(images, points, labels, attack_seed)
        started = self.epoch >= self.epoch_at(self.options.ham_begin)
        kept = rng.uniform(rng.fold(seed, "keep the easy"), [tf.shape(labels)[0]]) < self.options.ham_keep
        hard = right < 0.5
        present = tf.cast(hard | kept | ~started, tf.float32)
        examples = plain_examples(batch, tf.stop_gradient(points))
        return examples._replace(present=present, hard=hard & started)

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Counts who was trained on."""
        self.trained_share.update_state(batch.labels, examples.present)

    def _add_metrics(self) -> None:
        super()._add_metrics()
        self.trained_share = ClassMean("trained_share", self.num_classes)

    @property
    def train_metrics(self) -> list[Any]:
        """Adds the share of examples that are trained on, by class."""
        return [*super().train_metrics, self.trained_share]
