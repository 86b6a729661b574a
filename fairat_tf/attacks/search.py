"""Attacks that are made of rounds (targets, restarts, runs of queries), each skipped by what has fallen.

    class MyAttack(Search):
        def rounds(self, num_classes): return 3
        def round(self, logits_fn, ball, labels, seed, number, points): ...

On one batch, `Search.__call__` runs the rounds in one graph and keeps the first success of every example.
Over a whole data set `cascade` runs the same rounds and drops decided examples from the batches in between.
"""

from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import threat
from fairat_tf.attacks.pgd import LogitsFn, misclassified


class Search:
    """Base of the attacks that work in rounds; a subclass is a frozen dataclass with these attributes.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      norm: "linf" or "l2".
      continues: whether a round goes on from the points of the one before.
    """

    epsilon: float
    norm: str
    continues = False

    def rounds(self, num_classes: int) -> int:
        """Returns the number of rounds against a network with `num_classes` outputs."""
        raise NotImplementedError

    def passes(self, num_classes: int) -> float:
        """Returns what a round costs at most, in forward passes by example (a gradient counts as two)."""
        raise NotImplementedError

    def round(
        self,
        logits_fn: LogitsFn,
        ball: threat.Ball,
        labels: tf.Tensor,
        seed: rng.Seed,
        number: tf.Tensor,
        points: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the strongest points that round `number` (int32 scalar) finds, inside the ball.

        Args:
          logits_fn: images [B, H, W, C] -> logits [B, K].
          ball: the natural examples and their radius.
          labels: int32 [B].
          seed: one seed for all rounds of this attack.
          number: which round, counted from 0.
          points: what the previous round returned for these examples (in round 0 the images).
        """
        raise NotImplementedError

    def __call__(
        self, logits_fn: LogitsFn, images: tf.Tensor, labels: tf.Tensor, seed: rng.Seed, epsilon: Any = None
    ) -> tf.Tensor:
        """Returns adversarial images, same shape and dtype, inside the ball and [0, 1].

        An example that is misclassified as it is comes back untouched; one that withstands every round
        comes back as the last round's strongest point.

        Args:
          logits_fn: images [B, H, W, C] -> logits [B, K].
          images: natural examples in [0, 1].
          labels: int32 [B].
          seed: int32 [2] from `rng`.
          epsilon: radius for this call, a float or [B]; None means the attack's own.
        """
        ball = threat.get(self.norm)(images, self.epsilon if epsilon is None else epsilon)
        logits = logits_fn(images)
        count = self.rounds(logits.shape[-1])
        if count < 1:
            raise ValueError(f"{type(self).__name__} has no round against {logits.shape[-1]} classes")

        def attack(number: Any, points: tf.Tensor, result: tf.Tensor, stands: tf.Tensor) -> tuple:
            found = self.round(logits_fn, ball, labels, seed, number, points)
            points = tf.where(threat.wide(stands, found), found, points)
            wrong = misclassified(logits_fn(points), labels)
            return number + 1, points, tf.where(threat.wide(stands, points), points, result), stands & ~wrong

        state = (tf.constant(0), images, images, ~misclassified(logits, labels))
        if count == 1:
            return attack(*state)[2]
        return tf.while_loop(
            lambda number, points, result, stands: (number < count) & tf.reduce_any(stands),
            attack,
            state,
            parallel_iterations=1,
            maximum_iterations=count,
        )[2]


def ranked_class(logits: tf.Tensor, rank: Any) -> tf.Tensor:
    """Returns the class at `rank` (0 is the predicted one; may be a tensor) of each example, int32 [B]."""
    order = tf.math.top_k(logits, k=logits.shape[-1]).indices
    return tf.gather(order, rank, axis=1)
