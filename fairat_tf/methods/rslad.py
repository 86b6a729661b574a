"""RSLAD: distillation with the robust teacher's soft labels in every term.

    model = RSLAD(student, attack=attack, num_classes=10, teacher_logits=load_logits("runs/teacher"))

Zi, Zhao, Ma, Jiang, "Revisiting Adversarial Robustness Distillation: Robust Soft Labels Make Student
Better", ICCV 2021. With T the teacher's and S the student's probabilities, x natural, x' adversarial:

    x' = argmax in the ball of KL(T(x) || S(x'))
    minimise the mean of a * KL(T(x) || S(x')) + (1 - a) * KL(T(x) || S(x))

Defaults of the authors' code on CIFAR-10: a = 5/6; 300 epochs, drops at 215, 260 and 285, weight decay
2e-4, Nesterov momentum; a WideResNet as the teacher (by TRADES on CIFAR-10).

Differences from the authors' code: divergences are sums over classes (theirs: means); the attack starts
at a uniform point of the ball (theirs: x + 0.001 * N(0, 1)).
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf.methods.batches import Examples
from fairat_tf.methods.distillation import Distilled, WithTeacher, divergence, share_option, shares


class RSLAD(Distilled):
    """Robust soft label adversarial distillation; see the module."""

    @dataclasses.dataclass(frozen=True)
    class Options(WithTeacher):
        """The teacher and the weight of the two terms."""

        distill_adversarial: float = share_option()

    def student_loss(self, examples: Examples, natural: Any, logits: tf.Tensor) -> tf.Tensor:
        """Returns a KL(T(x) || S(x')) + (1 - a) KL(T(x) || S(x)), [M]."""
        guide = examples.guide
        return shares(
            self.options.distill_adversarial,
            divergence(guide, logits),
            divergence(guide, natural),
        )
