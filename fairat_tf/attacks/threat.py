"""Threat models: the set of images an adversary may choose from, one ball for each example.

    ball = threat.get("linf")(images, epsilon=8 / 255)
    points = ball.project(ball.ascend(ball.random_start(seed), gradient, 2 / 255))

A ball is the intersection of {x' : ||x' - x|| <= epsilon} with [0, 1]. `epsilon` and step sizes
are in pixels of the [0, 1] range, a float or a tensor [B]. Epsilon 0 gives the input back bit for bit.
"""

from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.lookup import Table

TABLE = Table(
    "norm",
    {"linf": "fairat_tf.attacks.threat:LinfBall", "l2": "fairat_tf.attacks.threat:L2Ball"},
)


def get(norm: str) -> type["Ball"]:
    """Returns the ball class for `norm`: "linf" or "l2"."""
    return TABLE.get(norm)


def per_example(value: Any, images: tf.Tensor) -> tf.Tensor:
    """Returns a scalar or [B] value as a tensor that broadcasts over images [B, H, W, C]."""
    # tf.cast would take a Python number through float32.
    value = tf.cast(value, images.dtype) if tf.is_tensor(value) else tf.constant(value, images.dtype)
    if value.shape.rank == 0:
        return value
    return tf.reshape(value, [-1] + [1] * (images.shape.rank - 1))


def wide(values: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Returns values [B] of any dtype, shaped to broadcast over images [B, H, W, C]."""
    return tf.reshape(values, [-1] + [1] * (images.shape.rank - 1))


def l2_norm(values: tf.Tensor) -> tf.Tensor:
    """Returns the Euclidean norm of each example, shaped to broadcast ([B, 1, 1, 1])."""
    axes = list(range(1, values.shape.rank))
    return tf.sqrt(tf.reduce_sum(tf.square(values), axes, keepdims=True))


def _shape(images: tf.Tensor) -> Any:
    return images.shape if images.shape.is_fully_defined() else tf.shape(images)


class Ball:
    """Images [B, H, W, C] in [0, 1] and how far each may be changed.

    Args:
      images: the natural examples, the centres.
      epsilon: radius, a float or [B].
    """

    def __init__(self, images: tf.Tensor, epsilon: Any):
        self.images = images
        self.epsilon = per_example(epsilon, images)

    def random_start(self, seed: rng.Seed) -> tf.Tensor:
        """Returns a random point of each ball."""
        raise NotImplementedError

    def boundary_start(self, seed: rng.Seed, fraction: float = 1.0) -> tf.Tensor:
        """Returns a random point, fraction * epsilon away from the image before it is clipped to [0, 1]."""
        change = self.epsilon * fraction * self._unit_noise(seed)
        return tf.clip_by_value(self.images + change, 0.0, 1.0)

    def _unit_noise(self, seed: rng.Seed) -> tf.Tensor:
        raise NotImplementedError

    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the steepest ascent direction of unit size in this norm (0 for a gradient of 0)."""
        raise NotImplementedError

    def project(self, points: tf.Tensor) -> tf.Tensor:
        """Returns the points moved into the ball and into [0, 1]."""
        raise NotImplementedError

    def length(self, change: tf.Tensor) -> tf.Tensor:
        """Returns the size of each change [B, H, W, C] in this norm, [B]."""
        raise NotImplementedError

    def distance(self, points: tf.Tensor) -> tf.Tensor:
        """Returns how far each of the points is from its image in this norm, [B]."""
        return self.length(points - self.images)

    def ascend(self, points: tf.Tensor, gradient: tf.Tensor, step_size: Any) -> tf.Tensor:
        """Returns the points after one projected step along the gradient."""
        step = per_example(step_size, points) * self.direction(gradient)
        return self.project(points + step)


class LinfBall(Ball):
    """Every pixel value may change by at most epsilon; uniform random start (Madry et al. 2018)."""

    def __init__(self, images: tf.Tensor, epsilon: Any):
        super().__init__(images, epsilon)
        self.lower = tf.maximum(images - self.epsilon, 0.0)
        self.upper = tf.minimum(images + self.epsilon, 1.0)

    def random_start(self, seed: rng.Seed) -> tf.Tensor:
        """Returns images + U(-epsilon, epsilon), clipped to [0, 1]."""
        shape = _shape(self.images)
        noise = rng.uniform(seed, shape, -1.0, 1.0, self.images.dtype)
        return self.project(self.images + self.epsilon * noise)

    def _unit_noise(self, seed: rng.Seed) -> tf.Tensor:
        noise = rng.uniform(seed, _shape(self.images), -1.0, 1.0, self.images.dtype)
        largest = tf.reduce_max(tf.abs(noise), list(range(1, noise.shape.rank)), keepdims=True)
        return tf.math.divide_no_nan(noise, largest)

    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the sign of the gradient."""
        return tf.sign(gradient)

    def project(self, points: tf.Tensor) -> tf.Tensor:
        """Returns the points clipped to the box that is both ball and [0, 1]."""
        return tf.clip_by_value(points, self.lower, self.upper)

    def length(self, change: tf.Tensor) -> tf.Tensor:
        """Returns the largest change of a pixel value, [B]."""
        return tf.reduce_max(tf.abs(change), list(range(1, change.shape.rank)))


class L2Ball(Ball):
    """The Euclidean length of the perturbation is at most epsilon; start uniform in the ball."""

    def random_start(self, seed: rng.Seed) -> tf.Tensor:
        """Returns a point uniform in the ball: normal direction, radius epsilon * u**(1/d), then clipped."""
        shape = _shape(self.images)
        dtype = self.images.dtype
        noise = rng.normal(rng.fold(seed, "direction"), shape, dtype)
        size = tf.cast(tf.reduce_prod(tf.shape(self.images)[1:]), dtype)
        radius = rng.uniform(rng.fold(seed, "radius"), [shape[0], 1], 0.0, 1.0, dtype)[:, 0] ** (1.0 / size)
        return self.project(self.images + self.epsilon * per_example(radius, noise) * self.direction(noise))

    def _unit_noise(self, seed: rng.Seed) -> tf.Tensor:
        return self.direction(rng.normal(seed, _shape(self.images), self.images.dtype))

    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient divided by its length (whose squares may be too small for float32)."""
        largest = tf.reduce_max(tf.abs(gradient), list(range(1, gradient.shape.rank)), keepdims=True)
        scaled = tf.math.divide_no_nan(gradient, largest)
        return tf.math.divide_no_nan(scaled, l2_norm(scaled))

    def project(self, points: tf.Tensor) -> tf.Tensor:
        """Returns the points scaled back onto the sphere where outside, then clipped to [0, 1].

        Clipping moves every pixel towards its (valid) centre, so the ball is not left again.
        """
        change = points - self.images
        length = l2_norm(change)
        factor = tf.minimum(tf.math.divide_no_nan(self.epsilon, length), 1.0)
        return tf.clip_by_value(self.images + change * factor, 0.0, 1.0)

    def length(self, change: tf.Tensor) -> tf.Tensor:
        """Returns the Euclidean length of the change, [B]."""
        return tf.reshape(l2_norm(change), [-1])
