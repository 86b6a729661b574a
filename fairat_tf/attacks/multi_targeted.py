"""MT-PGD: projected gradient descent towards one class after the other.

    attack = MultiTargetedPGD(epsilon=8 / 255, steps=20)
    adversarial = attack(logits_fn, images, labels, seed)

Source: Gowal et al., "An Alternative Surrogate Loss for PGD-based Adversarial Testing", 2019, algorithm 1
(MultiTargeted). Difference: steps go along the sign (or the direction) of the gradient, not through Adam.
"""

import dataclasses

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import threat
from fairat_tf.attacks.pgd import PGD, LogitsFn
from fairat_tf.attacks.search import Search, ranked_class
from fairat_tf.objectives import losses


@dataclasses.dataclass(frozen=True)
class MultiTargetedPGD(Search):
    """PGD on z_t - z_y for every target class t, with the strongest point of each run kept.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      norm: "linf" or "l2".
      steps: gradient steps towards each target.
      step_size: length of a step; None means a quarter of the radius.
      targets: number of target classes, those that rank highest on the image after the predicted one;
        None means all others.
      restarts: random starts for each target.
    """

    epsilon: float = 8 / 255
    norm: str = "linf"
    steps: int = 20
    step_size: float | None = None
    targets: int | None = None
    restarts: int = 1

    def __post_init__(self) -> None:
        self._search()
        if self.targets is not None and self.targets < 1:
            raise ValueError(f"targets must be at least 1, or None for all; received {self.targets!r}")
        if self.restarts < 1:
            raise ValueError(f"restarts must be at least 1; received {self.restarts!r}")

    def _search(self) -> PGD:
        return PGD(self.epsilon, self.step_size, self.steps, self.norm, objective="margin", keep_best=True)

    def rounds(self, num_classes: int) -> int:
        """Returns restarts times targets."""
        return self.restarts * min(self.targets or num_classes, num_classes - 1)

    def passes(self, num_classes: int) -> float:
        """Returns two passes a step, one that ranks the targets and one that judges the last point."""
        return 2.0 * self.steps + 2.0

    def round(
        self,
        logits_fn: LogitsFn,
        ball: threat.Ball,
        labels: tf.Tensor,
        seed: rng.Seed,
        number: tf.Tensor,
        points: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the strongest points of one run towards one target; see `Search.round`."""
        target = ranked_class(logits_fn(ball.images), 1 + number // self.restarts)
        return self._search()(
            logits_fn,
            ball.images,
            labels,
            rng.fold(seed, number),
            tf.reshape(ball.epsilon, [-1]) if ball.epsilon.shape.rank else ball.epsilon,
            lambda logits, true: losses.targeted_margin(logits, true, target),
        )
