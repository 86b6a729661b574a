"""FAB: the nearest point on the other side of the decision boundary, by repeated linearisation.

    attack = fab_t(epsilon=8 / 255)
    adversarial = attack(logits_fn, images, labels, seed)
    points, distance = attack.nearest(logits_fn, images, labels, seed, number=0)

Source: Croce & Hein, "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack",
ICML 2020, algorithm 1, with the constants of the authors' AutoAttack. FAB minimises the distance; epsilon
only decides whether a point counts, and the size of the random starts.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import hyperplane, threat
from fairat_tf.attacks.pgd import LogitsFn, loss_and_gradient, misclassified, repeat
from fairat_tf.attacks.search import Search, ranked_class
from fairat_tf.objectives import losses

_SMALLEST = 1e-8


@dataclasses.dataclass(frozen=True)
class FAB(Search):
    """Fast adaptive boundary attack, towards one class after the other or to the nearest of all.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      norm: "linf" or "l2".
      steps: linearisations of each run.
      restarts: runs (for each target); the first starts at the image, others at half of epsilon from it.
      targets: how many of the classes that rank highest after the predicted one are targets (at most
        K - 1); 0 means none: each step goes to the nearest of all K - 1 boundaries, at K - 1 gradients.
      bias: most weight of the image's own projection (alpha_max in the paper).
      overshoot: factor of the steps (eta).
      backward: how far the search goes back towards the image after a success (beta).
    """

    epsilon: float = 8 / 255
    norm: str = "linf"
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    bias: float = 0.1
    overshoot: float = 1.05
    backward: float = 0.9

    def __post_init__(self) -> None:
        threat.get(self.norm)
        for name, lowest in (("steps", 1), ("restarts", 1), ("targets", 0), ("epsilon", 0)):
            if not getattr(self, name) >= lowest:
                raise ValueError(f"{name} must be at least {lowest}; received {getattr(self, name)!r}")

    def rounds(self, num_classes: int) -> int:
        """Returns restarts, times the number of targets where there are any."""
        return self.restarts * (min(self.targets, num_classes - 1) if self.targets else 1)

    def passes(self, num_classes: int) -> float:
        """Returns three passes a step (a gradient and a check), or two for each other class and a check."""
        return self.steps * (3.0 if self.targets else 2.0 * num_classes - 1.0)

    def round(
        self,
        logits_fn: LogitsFn,
        ball: threat.Ball,
        labels: tf.Tensor,
        seed: rng.Seed,
        number: tf.Tensor,
        points: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the nearest adversarial points of one run where they are in the ball, else the images."""
        found, distance = self._run(logits_fn, ball, labels, seed, number)
        near = distance <= tf.reshape(ball.epsilon, [-1])
        return tf.where(threat.wide(near, found), found, ball.images)

    def nearest(
        self, logits_fn: LogitsFn, images: tf.Tensor, labels: tf.Tensor, seed: rng.Seed, number: Any = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the nearest misclassified points of run `number` at any distance, and the distances [B].

        Where none was found the point is the image and the distance is infinite.
        """
        return self._run(logits_fn, threat.get(self.norm)(images, self.epsilon), labels, seed, number)

    def _run(
        self, logits_fn: LogitsFn, ball: threat.Ball, labels: tf.Tensor, seed: rng.Seed, number: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        linearise = self._linearisation(logits_fn, ball.images, labels, number)

        def advance(points: tf.Tensor, best: tf.Tensor, distance: tf.Tensor) -> tuple:
            moved = self._step(ball, points, *linearise(points))
            wrong = misclassified(logits_fn(moved), labels)
            length = ball.distance(moved)
            closer = wrong & (length < distance)
            back = ball.images + (moved - ball.images) * self.backward
            return (
                tf.where(threat.wide(wrong, moved), back, moved),
                tf.where(threat.wide(closer, moved), moved, best),
                tf.where(closer, length, distance),
            )

        none = tf.fill(tf.shape(labels), tf.constant(float("inf"), ball.images.dtype))
        start = self._start(ball, seed, number)
        return repeat(self.steps, advance, (start, ball.images, none))[1:]

    def _start(self, ball: threat.Ball, seed: rng.Seed, number: Any) -> tf.Tensor:
        if self.restarts == 1:
            return ball.images
        start = ball.boundary_start(rng.fold(seed, number), fraction=0.5)
        return tf.where(tf.equal(number % self.restarts, 0), ball.images, start)

    def _step(self, ball: threat.Ball, points: tf.Tensor, value: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the next points: the projections of the point and of the image, mixed (equation 9)."""
        axes = list(range(1, points.shape.rank))
        at_image = value + tf.reduce_sum(gradient * (ball.images - points), axes)
        own = hyperplane.step(points, gradient, value, self.norm)
        other = hyperplane.step(ball.images, gradient, at_image, self.norm)
        sizes = [tf.maximum(ball.length(change), _SMALLEST) for change in (own, other)]
        share = threat.wide(tf.minimum(sizes[0] / (sizes[0] + sizes[1]), self.bias), points)
        mixed = (points + self.overshoot * own) * (1.0 - share)
        mixed += (ball.images + self.overshoot * other) * share
        return tf.clip_by_value(mixed, 0.0, 1.0)

    def _linearisation(self, logits_fn: LogitsFn, images: tf.Tensor, labels: tf.Tensor, number: Any) -> Any:
        """Returns points -> (value [B], gradient [B, H, W, C]) of z_t - z_y, which is 0 on the boundary."""
        if not self.targets:
            return lambda points: nearest_boundary(logits_fn, points, labels, self.norm)
        target = ranked_class(logits_fn(images), 1 + number // self.restarts)

        def towards_target(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return loss_and_gradient(
                logits_fn, lambda z, y: losses.targeted_margin(z, y, target), points, labels
            )[:2]

        return towards_target


def nearest_boundary(
    logits_fn: LogitsFn, points: tf.Tensor, labels: tf.Tensor, norm: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (z_c - z_y [B], its gradient) for the class c whose linearised boundary is nearest.

    One class after the other in a loop, so that memory does not grow with the number of classes.
    """
    num_classes = logits_fn(points).shape[-1]
    axes = list(range(1, points.shape.rank))

    def consider(offset: tf.Tensor, value: tf.Tensor, gradient: tf.Tensor, least: tf.Tensor) -> tuple:
        other = (labels + offset) % num_classes
        this_value, this_gradient, _ = loss_and_gradient(
            logits_fn, lambda z, y: losses.targeted_margin(z, y, other), points, labels
        )
        # The distance to a hyperplane in one norm divides by the gradient's length in the dual norm.
        dual = (
            tf.reduce_sum(tf.abs(this_gradient), axes)
            if norm == "linf"
            else tf.reshape(threat.l2_norm(this_gradient), [-1])
        )
        distance = tf.abs(this_value) / (dual + 1e-12)
        nearer = distance < least
        return (
            offset + 1,
            tf.where(nearer, this_value, value),
            tf.where(threat.wide(nearer, gradient), this_gradient, gradient),
            tf.where(nearer, distance, least),
        )

    infinite = tf.fill(tf.shape(labels), tf.constant(float("inf"), points.dtype))
    state = (tf.constant(1), tf.zeros_like(infinite), tf.zeros_like(points), infinite)
    return repeat(num_classes - 1, consider, state)[1:3]


def fab(epsilon: float = 8 / 255, **options: Any) -> FAB:
    """Returns FAB to the nearest boundary of all, with five starts, as AutoAttack "plus" runs it."""
    return FAB(epsilon, **{"targets": 0, "restarts": 5, **options})


def fab_t(epsilon: float = 8 / 255, **options: Any) -> FAB:
    """Returns FAB-T: towards the nine classes that rank next, one start each."""
    return FAB(epsilon, **options)
