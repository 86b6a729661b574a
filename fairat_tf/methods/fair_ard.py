"""Fair-ARD: distillation that weighs classes by how long they survive the attack.

    model = FairARD(student, attack=attack, num_classes=10, teacher_logits=load_logits("runs/teacher"))

Yue, Mou, Wang, Zhao, "Revisiting Adversarial Robustness Distillation from the Perspective of Robust
Fairness", NeurIPS 2023. kappa of an example is the number of its K attack points, the start included,
that the student classifies rightly; kappa_c its mean over class c in an epoch. For the next epoch (in
the first all are 1)

    w_c = C * kappa_c^-p / sum over c of kappa_c^-p, cut to [5/6, 5/2]

multiplies the loss of the examples of class c (C classes), which is

    fair_base=ard     a t^2 KL(T_t(x) || S_t(x')) + (1 - a) CE(S(x), y)     x' against the cross-entropy
                      (ARD: Goldblum et al., AAAI 2020); T_t, S_t: probabilities at temperature t
    fair_base=rslad   5/6 KL(T(x) || S(x')) + 1/6 KL(T(x) || S(x))          x' against the divergence

p = 0 weighs all classes alike and is ARD or RSLAD.

Defaults of the authors' code on CIFAR-10: p = 2, a = 1, t = 30; 200 epochs, drop at 100 (300 with 215,
260, 285 for RSLAD), weight decay 2e-4, Nesterov momentum.

Differences from the authors' code: kappa_c is the mean over the examples that the class has (theirs
divides by examples / classes, the same for balanced classes); the attack runs with BatchNorm in
inference mode (theirs of ARD: training mode); divergences are sums over classes (theirs: means). a = 1
needs no natural pass and takes none. The attack must offer `start` and `walk`, as PGD does; the steps
count at no further cost.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.config import option
from fairat_tf.methods import class_weights
from fairat_tf.methods.batches import Batch, Examples, plain_examples
from fairat_tf.methods.distillation import Distilled, WithTeacher, divergence, shares
from fairat_tf.metrics.classwise import ClassMean
from fairat_tf.objectives import Objective, losses

_OF_RSLAD = 5 / 6


class FairARD(Distilled):
    """Fair adversarial robustness distillation; see the module."""

    not_with_mix = "method=fair_ard"  # survival is counted for one class

    @dataclasses.dataclass(frozen=True)
    class Options(WithTeacher):
        """What is distilled, and how strongly hard classes count."""

        fair_base: str = option("ard", "the distillation whose classes are weighed", choices=("ard", "rslad"))
        fair_power: float = option(2.0, "p: power of a class's survival in its weight", low=0.0)
        ard_temperature: float = option(
            30.0, "t: temperature of teacher and student in ard", low=0.0, open_low=True
        )
        ard_share: float = option(
            1.0, "a: weight of the teacher in ard; the labels have the rest", low=0.0, high=1.0
        )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fair_weight = self._state("fair_weight", (self.num_classes,), initial=1.0)

    @property
    def _ard(self) -> bool:
        return self.options.fair_base == "ard"

    @property
    def trains_on_natural(self) -> bool:
        """Whether there is a natural term: RSLAD's, or the labels' in ARD."""
        return not self._ard or self.options.ard_share < 1.0

    def attack_loss(self, guide: tf.Tensor, labels: tf.Tensor) -> Objective | None:
        """Returns the attack's own cross-entropy for ARD, the divergence for RSLAD."""
        return None if self._ard else super().attack_loss(guide, labels)

    def training_batch(self, batch: Batch, seed: rng.Seed) -> Examples:
        """Returns every example attacked; `scores` are the points on the way that were still right."""
        guide, attack = self.guide_of(batch.images), self.attack
        images, labels = batch.images, batch.labels
        attack_seed = rng.fold(seed, "attack")
        start = attack.start(images, attack_seed)
        loss = self.attack_loss(guide, labels)
        points, survived = attack.walk(self.inference, start, images, labels, attack.steps, loss=loss)
        self.count_stuck(images, points, labels, attack_seed)
        examples = plain_examples(batch, tf.stop_gradient(points))
        return examples._replace(guide=guide, scores=survived)

    def student_loss(self, examples: Examples, natural: Any, logits: tf.Tensor) -> tf.Tensor:
        """Returns the weighed loss of the chosen base, [M]."""
        base = self._of_ard if self._ard else self._of_rslad
        weight = self.of_class(self.fair_weight, examples.labels)
        return weight * base(examples, natural, losses.at_least_float32(logits))

    def _of_ard(self, examples: Examples, natural: Any, logits: tf.Tensor) -> tf.Tensor:
        t, share = self.options.ard_temperature, self.options.ard_share
        soft = t * t * divergence(examples.guide / t, logits / t)
        return (
            soft if natural is None else shares(share, soft, losses.cross_entropy(natural, examples.labels))
        )

    def _of_rslad(self, examples: Examples, natural: Any, logits: tf.Tensor) -> tf.Tensor:
        guide = examples.guide
        return shares(_OF_RSLAD, divergence(guide, logits), divergence(guide, natural))

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Adds up how long each class survives the attack."""
        self.survived.update_state(batch.labels, examples.scores)

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Sets the class weights of the next epoch; a class without an example has the mean survival."""
        super().on_epoch_end(epoch, train, validation)
        survived = class_weights.unknown_as_mean(train[self.survived.name])
        self.fair_weight.assign(class_weights.inverse(survived, self.options.fair_power))

    def _add_metrics(self) -> None:
        super()._add_metrics()
        self.survived = ClassMean("survived_steps", self.num_classes)

    @property
    def train_metrics(self) -> list[Any]:
        """Adds the number of attack points that were still right, by class."""
        return [*super().train_metrics, self.survived]
