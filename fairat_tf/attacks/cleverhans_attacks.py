"""CleverHans' attacks behind this package's interface: a second opinion on FGSM and PGD.

    attack = cleverhans_pgd(epsilon=8 / 255, step_size=2 / 255, steps=20)
    adversarial = attack(logits_fn, images, labels, seed)

Needs the package cleverhans 4.0.0. Its random starts come from a stateful generator, so none is used here:
PGD begins at the image. Its Carlini-Wagner and SPSA attacks do not run on Keras 3.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import threat
from fairat_tf.attacks.pgd import LogitsFn

_ORDERS = {"linf": np.inf, "l2": 2}


@dataclasses.dataclass(frozen=True)
class CleverHansPGD:
    """CleverHans' `projected_gradient_descent`; with one step of length epsilon, its fast gradient method.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      step_size: length of a step, at most epsilon; None means epsilon / 4, or epsilon for a single step.
      steps: gradient steps.
      norm: "linf" or "l2".
    """

    epsilon: float = 8 / 255
    step_size: float | None = None
    steps: int = 20
    norm: str = "linf"

    def __post_init__(self) -> None:
        threat.get(self.norm)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1; received {self.steps!r}")

    def __call__(
        self, logits_fn: LogitsFn, images: tf.Tensor, labels: tf.Tensor, seed: rng.Seed, epsilon: Any = None
    ) -> tf.Tensor:
        """Returns adversarial images, same shape and dtype, inside the ball and [0, 1].

        Args:
          logits_fn: images [B, H, W, C] -> logits [B, K]. Pass the same function each time: CleverHans
            traces a new graph for every function object.
          images: natural examples in [0, 1].
          labels: int32 [B].
          seed: not used; nothing is drawn.
          epsilon: radius for this call, one number; None means the attack's own.

        Raises:
          ValueError: epsilon is a tensor of the graph or differs between examples, which CleverHans
            cannot take; "pgd" can.
        """
        from cleverhans.tf2.attacks import projected_gradient_descent as library

        radius = _number(self.epsilon if epsilon is None else epsilon)
        if radius == 0.0:
            return tf.identity(images)
        step_size = min(self._step_size(radius), radius)
        adversarial = library.projected_gradient_descent(
            logits_fn,
            images,
            radius,
            step_size,
            self.steps,
            _ORDERS[self.norm],
            y=labels,
            clip_min=0.0,
            clip_max=1.0,
        )
        return threat.get(self.norm)(images, radius).project(adversarial)

    def _step_size(self, radius: float) -> float:
        if self.step_size is not None:
            return self.step_size
        return radius if self.steps == 1 else radius / 4


def _number(epsilon: Any) -> float:
    known = tf.get_static_value(epsilon) if tf.is_tensor(epsilon) else epsilon
    if known is None or np.size(known) != 1 and np.ptp(known) > 0:
        raise ValueError(
            "epsilon for a CleverHans attack must be one number known outside the graph; "
            f"received {epsilon!r}. Use the attack 'pgd' for a radius per example."
        )
    return float(np.ravel(known)[0])


def cleverhans_pgd(epsilon: float = 8 / 255, **options: Any) -> CleverHansPGD:
    """Returns CleverHans' projected gradient descent (Madry et al. 2018) from the image itself."""
    return CleverHansPGD(epsilon, **options)


def cleverhans_fgsm(epsilon: float = 8 / 255, norm: str = "linf") -> CleverHansPGD:
    """Returns CleverHans' fast gradient method (Goodfellow et al. 2015): one step of length epsilon."""
    return CleverHansPGD(epsilon, steps=1, norm=norm)
