"""Auto-PGD: projected gradient ascent with momentum whose step sizes look after themselves.

    attack = apgd_ce(epsilon=8 / 255)
    adversarial = attack(logits_fn, images, labels, seed)

Source: Croce & Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
Parameter-free Attacks", ICML 2020, algorithm 1 and equations 5 to 7, with what the authors' code adds to
the paper: the first comparison of losses is against 0, the momentum restarts from the point before a jump,
and the result is the *latest* misclassified point. Difference from that code: an example that withstands
comes back as its point of highest loss and not as the natural image.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fairat_tf import objectives, rng
from fairat_tf.attacks import threat
from fairat_tf.attacks.pgd import LogitsFn, Loss, loss_and_gradient, misclassified, repeat
from fairat_tf.attacks.search import Search, ranked_class
from fairat_tf.objectives import losses

Evaluate = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]

MOMENTUM = 0.75
RISING = 0.75


def windows(steps: int) -> np.ndarray:
    """Returns int32 [steps]: at a checkpoint the number of steps since the one before, elsewhere 0.

    The first window is 22 % of the steps; each further one is shorter by 3 %, down to 6 %, in whole steps
    (section 3.1 of the paper). For 100 steps: checkpoints after steps 22, 41, 57, 70, 80, 87, 93, 99.
    """
    first, shorter, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    result = np.zeros(steps, np.int32)
    window, place = first, first
    while place <= steps:
        result[place - 1] = window
        window = max(window - shorter, least)
        place += window
    return result


class Climb(NamedTuple):
    """The state of the ascent, by example.

    `previous` is the point before the last step, `loss` that of the last point reached (before any jump),
    `rises` counts the steps since the checkpoint that raised it; `checked` is the best loss at the last
    checkpoint and `halved` whether the step size was halved there.
    """

    count: tf.Tensor
    points: tf.Tensor
    previous: tf.Tensor
    gradient: tf.Tensor
    step_size: tf.Tensor
    loss: tf.Tensor
    rises: tf.Tensor
    checked: tf.Tensor
    halved: tf.Tensor
    best_loss: tf.Tensor
    best_points: tf.Tensor
    best_gradient: tf.Tensor
    adversarial: tf.Tensor
    fooled: tf.Tensor


def climb(evaluate: Evaluate, ball: threat.Ball, labels: tf.Tensor, start: tf.Tensor, steps: int) -> Climb:
    """Returns the state after `steps` steps; `evaluate` gives (loss, gradient, logits) of points."""
    schedule = tf.constant(windows(steps))

    def advance(*state: tf.Tensor) -> tuple:
        now = Climb(*state)
        moved = _step(ball, now)
        now = _record(now, moved, *evaluate(moved), labels=labels)
        return tuple(_check(now, tf.gather(schedule, now.count)))

    return Climb(*repeat(steps, advance, tuple(_begin(evaluate, ball, labels, start))))


def _begin(evaluate: Evaluate, ball: threat.Ball, labels: tf.Tensor, start: tf.Tensor) -> Climb:
    loss, gradient, logits = evaluate(start)
    return Climb(
        count=tf.constant(0),
        points=start,
        previous=start,
        gradient=gradient,
        step_size=2.0 * tf.broadcast_to(tf.reshape(ball.epsilon, [-1]), tf.shape(labels)),
        loss=tf.zeros_like(loss),
        rises=tf.zeros_like(labels, tf.int32),
        checked=loss,
        halved=tf.ones_like(labels, tf.bool),
        best_loss=loss,
        best_points=start,
        best_gradient=gradient,
        adversarial=start,
        fooled=misclassified(logits, labels),
    )


def _step(ball: threat.Ball, now: Climb) -> tf.Tensor:
    """Returns the next points: equation 5, without momentum in the first step."""
    weight = tf.where(now.count > 0, tf.constant(MOMENTUM, now.points.dtype), tf.ones([], now.points.dtype))
    ahead = ball.ascend(now.points, now.gradient, _step_size(ball, now)) - now.points
    return ball.project(now.points + ahead * weight + (now.points - now.previous) * (1.0 - weight))


def _step_size(ball: threat.Ball, now: Climb) -> tf.Tensor:
    """Returns the step sizes; in L2 the authors' code adds 1e-12 to the length that it divides gradients by.

    Where a loss is all but flat the steps are therefore shorter than the step size.
    """
    if not isinstance(ball, threat.L2Ball):
        return now.step_size
    length = ball.length(now.gradient)
    return now.step_size * length / (length + 1e-12)


def _record(
    now: Climb, points: tf.Tensor, loss: tf.Tensor, gradient: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor
) -> Climb:
    """Returns the state at the new points, with the best and the latest misclassified ones kept."""
    wrong, better = misclassified(logits, labels), loss > now.best_loss
    return now._replace(
        points=points,
        previous=now.points,
        gradient=gradient,
        loss=loss,
        rises=now.rises + tf.cast(loss > now.loss, tf.int32),
        best_loss=tf.where(better, loss, now.best_loss),
        best_points=tf.where(threat.wide(better, points), points, now.best_points),
        best_gradient=tf.where(threat.wide(better, points), gradient, now.best_gradient),
        adversarial=tf.where(threat.wide(wrong, points), points, now.adversarial),
        fooled=now.fooled | wrong,
    )


def _check(now: Climb, window: tf.Tensor) -> Climb:
    """Returns the state after the checkpoint (nothing but the count changes where `window` is 0).

    The step size is halved, and the ascent goes on from the best point, where fewer than 75 % of the steps
    raised the loss, or where nothing was halved at the last checkpoint and the best loss stands still.
    """
    at_checkpoint = window > 0
    few = tf.cast(now.rises, tf.float32) <= RISING * tf.cast(window, tf.float32)
    stuck = ~now.halved & (now.checked >= now.best_loss)
    halve = at_checkpoint & (few | stuck)
    jump = threat.wide(halve, now.points)
    return now._replace(
        count=now.count + 1,
        points=tf.where(jump, now.best_points, now.points),
        gradient=tf.where(jump, now.best_gradient, now.gradient),
        step_size=tf.where(halve, now.step_size / 2.0, now.step_size),
        rises=tf.where(at_checkpoint, tf.zeros_like(now.rises), now.rises),
        checked=tf.where(at_checkpoint, now.best_loss, now.checked),
        halved=tf.where(at_checkpoint, halve, now.halved),
    )


def averaged(logits_fn: LogitsFn, loss: Loss, labels: tf.Tensor, draws: int) -> Evaluate:
    """Returns points -> (loss, gradient averaged over `draws` passes, logits); loss and logits of the last.

    For networks that answer at random (Athalye et al. 2018, expectation over transformation).
    """

    def evaluate(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        first = loss_and_gradient(logits_fn, loss, points, labels)
        if draws == 1:
            return first

        def again(_: tf.Tensor, total: tf.Tensor, __: tf.Tensor) -> tuple:
            values, gradient, logits = loss_and_gradient(logits_fn, loss, points, labels)
            return values, total + gradient, logits

        values, total, logits = repeat(draws - 1, again, first)
        return values, total / draws, logits

    return evaluate


@dataclasses.dataclass(frozen=True)
class APGD(Search):
    """Auto-PGD on one objective, or on the targeted DLR loss towards one class after the other.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      norm: "linf" or "l2".
      steps: gradient steps of each run.
      restarts: independent random starts (for each target).
      objective: "cross_entropy", "dlr", "margin", or "targeted_dlr".
      targets: with "targeted_dlr", how many of the classes that rank highest on the natural image, without
        the predicted one, are targets; at most K - 1 are used.
      gradient_draws: passes whose gradients are averaged, for networks that answer at random.
    """

    epsilon: float = 8 / 255
    norm: str = "linf"
    steps: int = 100
    restarts: int = 1
    objective: str = "cross_entropy"
    targets: int = 9
    gradient_draws: int = 1

    def __post_init__(self) -> None:
        threat.get(self.norm)
        if self.objective != "targeted_dlr":
            objectives.get(self.objective)
        for name in ("steps", "restarts", "targets", "gradient_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; received {getattr(self, name)!r}")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must be at least 0; received {self.epsilon!r}")

    def rounds(self, num_classes: int) -> int:
        """Returns restarts, times the number of targets where there are any."""
        targeted = self.objective == "targeted_dlr"
        return self.restarts * (min(self.targets, num_classes - 1) if targeted else 1)

    def passes(self, num_classes: int) -> float:
        """Returns two passes for each of the steps + 1 gradients, in each draw."""
        return 2.0 * (self.steps + 1) * self.gradient_draws

    def round(
        self,
        logits_fn: LogitsFn,
        ball: threat.Ball,
        labels: tf.Tensor,
        seed: rng.Seed,
        number: tf.Tensor,
        points: tf.Tensor,
    ) -> tf.Tensor:
        """Returns one run from a random start on the ball's boundary; see `Search.round`."""
        start = ball.boundary_start(rng.fold(seed, number))
        loss = self.loss(logits_fn, ball.images, number)
        end = climb(averaged(logits_fn, loss, labels, self.gradient_draws), ball, labels, start, self.steps)
        return tf.where(threat.wide(end.fooled, start), end.adversarial, end.best_points)

    def loss(self, logits_fn: LogitsFn, images: tf.Tensor, number: Any) -> Loss:
        """Returns the objective of round `number`: (logits, labels) -> [B]."""
        if self.objective != "targeted_dlr":
            return objectives.get(self.objective)
        target = ranked_class(logits_fn(images), 1 + number // self.restarts)
        return lambda logits, labels: losses.targeted_dlr(logits, labels, target)


def apgd_ce(epsilon: float = 8 / 255, **options: Any) -> APGD:
    """Returns Auto-PGD on the cross-entropy."""
    return APGD(epsilon, **{"objective": "cross_entropy", **options})


def apgd_dlr(epsilon: float = 8 / 255, **options: Any) -> APGD:
    """Returns Auto-PGD on the difference of logits ratio."""
    return APGD(epsilon, **{"objective": "dlr", **options})


def apgd_t(epsilon: float = 8 / 255, **options: Any) -> APGD:
    """Returns Auto-PGD on the targeted difference of logits ratio, towards the next nine classes."""
    return APGD(epsilon, **{"objective": "targeted_dlr", **options})
