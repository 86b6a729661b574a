"""Projected gradient descent and its relatives: one loop, any norm, any objective.

    attack = PGD(epsilon=8 / 255, step_size=2 / 255, steps=10)
    adversarial = attack(logits_fn, images, labels, seed)

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
section 2.1; FGSM: Goodfellow et al., ICLR 2015; CW-k is PGD on the margin loss of Carlini & Wagner 2017.

The attack sees `logits_fn` alone: BatchNorm mode and precision are the caller's. Image arithmetic
stays in the dtype of the images (float32) whatever the network computes in.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import objectives, rng
from fairat_tf.attacks import threat

LogitsFn = Callable[[tf.Tensor], tf.Tensor]
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def loss_and_gradient(
    logits_fn: LogitsFn, loss: Loss, points: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns (loss [B], gradient of each example's own loss [B, H, W, C], logits [B, K]).

    Where the network's gradient is NaN or infinite it is 0 here: one such pixel would carry an attack's whole
    image away.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        logits = logits_fn(points)
        values = loss(logits, labels)
    gradient = tape.gradient(values, points)
    finite = tf.cast(tf.math.is_finite(gradient), gradient.dtype)
    return values, tf.math.multiply_no_nan(gradient, finite), logits  # tf.where takes six times as long


def misclassified(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns where argmax differs from the label, bool [B]; soft labels count by their largest entry.

    Logits with NaN or infinity are no answer, so the image counts as misclassified, whatever its class.
    """
    if labels.dtype.is_floating:
        labels = tf.argmax(labels, -1, tf.int32)
    return answers(logits) != tf.cast(labels, tf.int32)


def answers(logits: tf.Tensor) -> tf.Tensor:
    """Returns the class of each example, int32 [B]; -1 where the logits hold NaN or infinity."""
    known = tf.reduce_all(tf.math.is_finite(logits), -1)
    return tf.where(known, tf.argmax(logits, -1, tf.int32), -1)


@dataclasses.dataclass(frozen=True)
class PGD:
    """Projected gradient descent on the per-example objective, all steps in one graph loop.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      step_size: length of a step; None means a quarter of the radius (2/255 for 8/255).
      steps: gradient steps.
      norm: "linf" or "l2".
      random_start: begin at a random point of the ball (else at the image).
      objective: name of the loss that is maximised.
      restarts: independent random starts; the strongest result of each example is kept.
      keep_best: return the strongest point visited (misclassified before not, then by loss)
        and not the last; costs one more forward pass.
      scale_step: scale the step with an epsilon given at the call (step_size * epsilon' / epsilon).
    """

    epsilon: float = 8 / 255
    step_size: float | None = None
    steps: int = 10
    norm: str = "linf"
    random_start: bool = True
    objective: str = "cross_entropy"
    restarts: int = 1
    keep_best: bool = False
    scale_step: bool = False

    def __post_init__(self) -> None:
        threat.get(self.norm), objectives.get(self.objective)
        for name, lowest in (("epsilon", 0), ("steps", 1), ("restarts", 1), ("step_size", 0)):
            value = getattr(self, name)
            if value is not None and not value >= lowest:
                raise ValueError(f"{name} must be at least {lowest}; received {value!r}")

    def __call__(
        self,
        logits_fn: LogitsFn,
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: rng.Seed,
        epsilon: Any = None,
        loss: Loss | None = None,
    ) -> tf.Tensor:
        """Returns adversarial images, same shape and dtype, inside the ball and [0, 1].

        Args:
          logits_fn: images [B, H, W, C] -> logits [B, K].
          images: natural examples in [0, 1].
          labels: int32 [B] (or soft labels [B, K] where the objective takes them).
          seed: int32 [2] from `rng`, for the random starts.
          epsilon: radius for this call, a float or [B]; None means the attack's own.
          loss: objective for this call, (logits, labels) -> [B]; None means the attack's own.
        """
        ball = threat.get(self.norm)(images, self.epsilon if epsilon is None else epsilon)
        loss = loss or objectives.get(self.objective)
        if self._ends_with_its_last_point:
            return self._last_point(logits_fn, loss, ball, labels, seed)
        best = self._best_point(logits_fn, loss, ball, labels, seed)
        for restart in range(1, self.restarts):
            other = self._best_point(logits_fn, loss, ball, labels, rng.fold(seed, restart))
            best = _stronger(best, other)
        return best[0]

    @property
    def _ends_with_its_last_point(self) -> bool:
        return self.restarts == 1 and not self.keep_best

    def start(self, images: tf.Tensor, seed: rng.Seed, epsilon: Any = None) -> tf.Tensor:
        """Returns the points [B, H, W, C] at which a call with the same seed begins."""
        return self._start(threat.get(self.norm)(images, self.epsilon if epsilon is None else epsilon), seed)

    def walk(
        self,
        logits_fn: LogitsFn,
        points: tf.Tensor,
        images: tf.Tensor,
        labels: tf.Tensor,
        steps: int,
        epsilon: Any = None,
        loss: Loss | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Goes on from given points, for methods that look at the way and not only at its end.

        `start`, then walks whose steps add up to the attack's, end where a call with the same seed ends, if
        that has one restart and keeps the last point.

        Args:
          logits_fn, images, labels, epsilon, loss: as for a call.
          points: where to begin, [B, H, W, C], inside the ball around `images`.
          steps: gradient steps to take.

        Returns:
          (points after the steps, number of the `steps` points passed before that were classified rightly,
          float32 [B]).

        Raises:
          ValueError: the attack has restarts, or keeps its best point.
        """
        if not self._ends_with_its_last_point:
            raise ValueError("a method that looks at the attack's way needs restarts=1 and keep_best=False")
        ball = threat.get(self.norm)(images, self.epsilon if epsilon is None else epsilon)
        step_size, maximised = self._step(ball), loss or objectives.get(self.objective)

        def ascend(points: tf.Tensor, survived: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            _, gradient, logits = loss_and_gradient(logits_fn, maximised, points, labels)
            right = tf.cast(~misclassified(logits, labels), tf.float32)
            return ball.ascend(points, gradient, step_size), survived + right

        nowhere = (points, tf.zeros(tf.shape(points)[:1]))
        return repeat(steps, ascend, nowhere) if steps else nowhere

    def stuck(
        self, images: tf.Tensor, adversarial: tf.Tensor, seed: rng.Seed, epsilon: Any = None
    ) -> tf.Tensor:
        """Returns 1.0 for each example [B] that a call with this seed left at its start: a gradient of 0.

        At a point whose gradient is exactly 0 the attack stays; it then judges the network by noise alone. An
        example with radius 0 has nowhere to go and counts 0, and so does every example where the attack has
        restarts or keeps its best point, which may be its start. Costs a random draw, no pass.
        """
        if not self._ends_with_its_last_point:
            return tf.zeros(tf.shape(images)[:1], images.dtype)
        start = self.start(images, seed, epsilon)
        same = tf.reduce_all(adversarial == start, list(range(1, start.shape.rank)))
        radius = threat.per_example(self.epsilon if epsilon is None else epsilon, images)
        return tf.cast(same, images.dtype) * tf.cast(tf.reshape(radius, [-1]) > 0, images.dtype)

    def _start(self, ball: threat.Ball, seed: rng.Seed) -> tf.Tensor:
        return ball.random_start(seed) if self.random_start else ball.images

    def _step(self, ball: threat.Ball) -> Any:
        if self.step_size is None:
            return ball.epsilon / 4.0
        if not self.scale_step or not self.epsilon:
            return self.step_size
        return self.step_size * ball.epsilon / self.epsilon

    def _last_point(
        self, logits_fn: LogitsFn, loss: Loss, ball: threat.Ball, labels: tf.Tensor, seed: rng.Seed
    ) -> tf.Tensor:
        step_size = self._step(ball)

        def ascend(points: tf.Tensor) -> tuple[tf.Tensor]:
            _, gradient, _ = loss_and_gradient(logits_fn, loss, points, labels)
            return (ball.ascend(points, gradient, step_size),)

        return repeat(self.steps, ascend, (self._start(ball, seed),))[0]

    def _best_point(
        self, logits_fn: LogitsFn, loss: Loss, ball: threat.Ball, labels: tf.Tensor, seed: rng.Seed
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        step_size = self._step(ball)

        def ascend(points: tf.Tensor, *best: tf.Tensor) -> tuple[tf.Tensor, ...]:
            values, gradient, logits = loss_and_gradient(logits_fn, loss, points, labels)
            best = _stronger(best, (points, misclassified(logits, labels), values))
            return (ball.ascend(points, gradient, step_size), *best)

        start = self._start(ball, seed)
        size = tf.shape(start)[:1]
        nothing = (start, tf.zeros(size, tf.bool), tf.fill(size, tf.constant(-np.inf, start.dtype)))
        last, *best = repeat(self.steps, ascend, (start, *nothing))
        logits = logits_fn(last)
        return _stronger(tuple(best), (last, misclassified(logits, labels), loss(logits, labels)))


def repeat(steps: int, body: Callable[..., tuple], state: tuple) -> tuple:
    """Returns the state after `steps` applications of `body`, as one graph loop (unrolled for one step)."""
    if steps == 1:
        return tuple(body(*state))
    count, limit = tf.constant(0), tf.constant(steps)
    out = tf.while_loop(
        lambda i, *_: i < limit,
        lambda i, *values: (i + 1, *body(*values)),
        (count, *state),
        parallel_iterations=1,
        maximum_iterations=steps,
    )
    return tuple(out[1:])


def _stronger(one: tuple, other: tuple) -> tuple:
    """Returns, by example, the (points, wrong, loss) with wrong first and then the higher loss."""
    better = tf.where(one[1] == other[1], other[2] > one[2], other[1])
    wide = tf.reshape(better, [-1] + [1] * (one[0].shape.rank - 1))
    return (
        tf.where(wide, other[0], one[0]),
        tf.where(better, other[1], one[1]),
        tf.where(better, other[2], one[2]),
    )


def fgsm(epsilon: float = 8 / 255, norm: str = "linf", random_start: bool = False, **options: Any) -> PGD:
    """Returns the fast gradient (sign) method: one step of length epsilon from the image itself.

    The step goes with an epsilon given at the call.
    """
    options = {"scale_step": True, **options}
    return PGD(epsilon=epsilon, step_size=epsilon, steps=1, norm=norm, random_start=random_start, **options)


def cw(epsilon: float = 8 / 255, steps: int = 20, **options: Any) -> PGD:
    """Returns CW-k as this literature uses it: PGD on the margin loss (k = `steps`)."""
    return PGD(epsilon=epsilon, steps=steps, objective="margin", **options)
