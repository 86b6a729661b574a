"""Random noise: the floor under every attack.

    attack = Noise(epsilon=8 / 255, draws=10)
    noisy = attack(logits_fn, images, labels, seed)

A network that loses more under noise than under an attack was not attacked properly
(Carlini et al., "On Evaluating Adversarial Robustness", 2019, section 4).
"""

import dataclasses

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import threat
from fairat_tf.attacks.pgd import LogitsFn
from fairat_tf.attacks.search import Search


@dataclasses.dataclass(frozen=True)
class Noise(Search):
    """Uniform noise in the ball, drawn again until the example falls or the draws are used up.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      norm: "linf" or "l2".
      draws: independent draws for each example.
    """

    epsilon: float = 8 / 255
    norm: str = "linf"
    draws: int = 10

    def __post_init__(self) -> None:
        threat.get(self.norm)
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1; received {self.draws!r}")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must be at least 0; received {self.epsilon!r}")

    def rounds(self, num_classes: int) -> int:
        """Returns the number of draws."""
        return self.draws

    def passes(self, num_classes: int) -> float:
        """Returns one pass, which judges the draw."""
        return 1.0

    def round(
        self,
        logits_fn: LogitsFn,
        ball: threat.Ball,
        labels: tf.Tensor,
        seed: rng.Seed,
        number: tf.Tensor,
        points: tf.Tensor,
    ) -> tf.Tensor:
        """Returns one draw for each example; see `Search.round`."""
        return ball.random_start(rng.fold(seed, number))
