"""Robust distillation: what methods with a teacher share.

    model = RSLAD(student, attack=attack, num_classes=10, teacher_logits=load_logits("runs/teacher"))

The teacher is a function from images to logits and nothing else: it is never trained, and its weights
are in no checkpoint. On the command line `--teacher=PATH` names it. It sees the natural examples once a
step; its logits travel in `Examples.guide`.

    attack  -> `attack_loss`       what the attack in training maximises
    loss    -> `student_loss`      from the student's logits of natural and adversarial examples

A divergence of an example is the sum over classes here, as in the papers; the codes of RSLAD, Fair-ARD
and ABSLD take the mean over the K classes, a loss smaller by that factor with the same learning rate.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Batch, Examples, plain_examples
from fairat_tf.methods.options import Plain
from fairat_tf.objectives import Objective, losses


@dataclasses.dataclass(frozen=True)
class WithTeacher(Plain):
    """Options of every method with a teacher."""

    teacher: str = option(
        "", "the robust network to learn from: run directory, .keras file or SavedModel with the same classes"
    )


class Distilled(Method):
    """A method whose student learns from a teacher.

    Args:
      *args, **kwargs: as for `Method`.
      teacher_logits: images float32 [B, H, W, C] in [0, 1] -> logits [B, K], in inference mode.

    Raises:
      ValueError: no teacher, or label smoothing, which has no label to act on.
    """

    Options = WithTeacher
    gives_loss = True

    def __init__(self, *args: Any, teacher_logits: Callable[..., Any] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if teacher_logits is None:
            raise ValueError(
                f"{self.name} learns from a teacher: give --teacher=PATH, a run directory, .keras file or "
                "SavedModel (in Python: teacher_logits)"
            )
        if self.label_smoothing or self.class_label_smoothing:
            raise ValueError(f"{self.name} trains on the teacher's labels: label_smoothing must be 0")
        # behind a function, so that Keras does not take a model for a part of this one
        self.guide_of = lambda images: tf.stop_gradient(losses.at_least_float32(teacher_logits(images)))

    @property
    def trains_on_natural(self) -> bool:
        """Whether the loss needs the student's logits of the natural examples."""
        return True

    def attack_loss(self, guide: tf.Tensor, labels: tf.Tensor) -> Objective | None:
        """Returns what the attack maximises, (logits, labels) -> [B]; here: KL(teacher || student)."""
        return lambda logits, labels: divergence(guide, logits)

    def student_loss(self, examples: Examples, natural: Any, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each example, [M], before the weights of `class_weights`.

        Args:
          examples: with the teacher's logits of the natural examples as `guide`.
          natural: the student's logits [M, K] of the natural examples; None without `trains_on_natural`.
          logits: those of the adversarial examples.
        """
        raise NotImplementedError

    def training_batch(self, batch: Batch, seed: rng.Seed) -> Examples:
        """Returns every example attacked, with the teacher's logits."""
        guide = self.guide_of(batch.images)
        loss, seed = self.attack_loss(guide, batch.truth), rng.fold(seed, "attack")
        adversarial = self.attack(self.inference, batch.images, batch.truth, seed, loss=loss)
        self.count_stuck(batch.images, adversarial, batch.truth, seed)
        return plain_examples(batch, tf.stop_gradient(adversarial))._replace(guide=guide)

    def per_example_loss(self, examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (loss [M], logits: [M, K] of the adversarial examples, then those of the natural ones)."""
        natural = self.forward(examples.natural, examples) if self.trains_on_natural else None
        logits = self.forward(examples.images, examples)
        loss = self.student_loss(examples, natural, logits)
        if self.class_weights:
            loss *= self.of_class(self.class_weight, examples.truth)
        return loss, logits if natural is None else tf.concat([logits, natural], 0)

    @property
    def training_passes(self) -> float:
        """The student's passes, and the teacher's forward pass as if it were as large as the student."""
        return 1.5 * (1 + self.trains_on_natural) * (2 if self.awp_gamma else 1) + 0.5


def divergence(guide: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns KL(teacher || student), [M], from the logits [M, K] of both."""
    logits = losses.at_least_float32(logits)
    return losses.kl_divergence(tf.cast(guide, logits.dtype), logits)


def shares(adversarial: float, on_adversarial: tf.Tensor, on_natural: tf.Tensor) -> tf.Tensor:
    """Returns a * the loss under attack + (1 - a) * the natural loss, [M]."""
    return adversarial * on_adversarial + (1.0 - adversarial) * on_natural


def share_option() -> Any:
    """Returns the option for a of `shares`."""
    return option(5 / 6, "weight of the loss under attack; the natural one has the rest", low=0.0, high=1.0)
