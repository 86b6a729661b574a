"""MI-FGSM: the iterated fast gradient method whose direction is an accumulated gradient.

    attack = MomentumFGSM(epsilon=8 / 255, steps=10)
    adversarial = attack(logits_fn, images, labels, seed)

Source: Dong et al., "Boosting Adversarial Attacks with Momentum", CVPR 2018, equations 6 and 7 (L2: 8).
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf import objectives, rng
from fairat_tf.attacks import threat
from fairat_tf.attacks.pgd import LogitsFn, loss_and_gradient, repeat


@dataclasses.dataclass(frozen=True)
class MomentumFGSM:
    """Momentum iterative fast gradient sign method, from the image itself.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      step_size: length of a step; None means epsilon / steps, as in the paper.
      steps: gradient steps.
      norm: "linf" or "l2".
      decay: what remains of the accumulated gradient in each step (mu).
      objective: name of the loss that is maximised.
    """

    epsilon: float = 8 / 255
    step_size: float | None = None
    steps: int = 10
    norm: str = "linf"
    decay: float = 1.0
    objective: str = "cross_entropy"

    def __post_init__(self) -> None:
        threat.get(self.norm), objectives.get(self.objective)
        for name, lowest in (("epsilon", 0), ("steps", 1), ("decay", 0)):
            if not getattr(self, name) >= lowest:
                raise ValueError(f"{name} must be at least {lowest}; received {getattr(self, name)!r}")

    def __call__(
        self, logits_fn: LogitsFn, images: tf.Tensor, labels: tf.Tensor, seed: rng.Seed, epsilon: Any = None
    ) -> tf.Tensor:
        """Returns adversarial images, same shape and dtype, inside the ball and [0, 1].

        Args:
          logits_fn: images [B, H, W, C] -> logits [B, K].
          images: natural examples in [0, 1].
          labels: int32 [B].
          seed: not used; the attack draws nothing.
          epsilon: radius for this call, a float or [B]; None means the attack's own. Without a step size of
            its own the attack steps by this radius / steps.
        """
        ball = threat.get(self.norm)(images, self.epsilon if epsilon is None else epsilon)
        loss = objectives.get(self.objective)
        step_size = tf.reshape(ball.epsilon, [-1]) / self.steps if self.step_size is None else self.step_size
        axes = list(range(1, images.shape.rank))

        def ascend(points: tf.Tensor, momentum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            _, gradient, _ = loss_and_gradient(logits_fn, loss, points, labels)
            size = tf.reduce_sum(tf.abs(gradient), axes, keepdims=True)
            momentum = self.decay * momentum + tf.math.divide_no_nan(gradient, size)
            return ball.ascend(points, momentum, step_size), momentum

        return repeat(self.steps, ascend, (images, tf.zeros_like(images)))[0]
