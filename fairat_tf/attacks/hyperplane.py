"""The smallest step onto a hyperplane that stays among images: the inner problem of FAB.

    step = hyperplane.step(points, gradient, value, norm="linf")     # points + step is in [0, 1]

Source: Croce & Hein, "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack",
ICML 2020, section 2.2. The authors' code sorts the coordinates and bisects; here the same piecewise linear
equation in one unknown is solved by Newton's method, which needs no sorting and ends at the exact root:
from the left, on a concave function, it never overshoots.
"""

import tensorflow as tf

_MOST_ITERATIONS = 60


def step(points: tf.Tensor, normal: tf.Tensor, value: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns the change d of least norm with value + normal . d = 0 and points + d in [0, 1].

    Where no image reaches the hyperplane, the change that comes nearest to it.

    Args:
      points: [B, ...] in [0, 1].
      normal: [B, ...], the gradient of the linear function.
      value: [B], what the linear function is at the points.
      norm: "linf" or "l2": the norm of d that is smallest.
    """
    shape = tf.shape(points)
    flat = tf.reshape(points, [shape[0], -1])
    normal = tf.reshape(normal, [shape[0], -1])
    downhill = -tf.sign(normal) * tf.where(value >= 0, tf.ones_like(value), -tf.ones_like(value))[:, None]
    room = tf.where(downhill < 0, flat, 1.0 - flat)
    weight = tf.abs(normal)
    speed = tf.ones_like(weight) if norm == "linf" else weight
    time = _time(weight, speed, room, tf.abs(value))
    return tf.reshape(downhill * tf.minimum(time[:, None] * speed, room), shape)


def _time(weight: tf.Tensor, speed: tf.Tensor, room: tf.Tensor, distance: tf.Tensor) -> tf.Tensor:
    """Returns t [B] with sum(weight * min(t * speed, room)) = distance, or a huge t where none is enough."""
    huge = tf.constant(1e30, weight.dtype)

    def improve(time: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        free = time[:, None] * speed < room
        covered = tf.reduce_sum(tf.where(free, tf.zeros_like(room), weight * room), -1)
        rate = tf.reduce_sum(tf.where(free, weight * speed, tf.zeros_like(room)), -1)
        root = tf.where(rate > 0, tf.math.divide_no_nan(distance - covered, rate), huge)
        return tf.maximum(time, root), tf.reduce_any(root > time)

    start = tf.zeros_like(distance)
    return tf.while_loop(
        lambda _, moving: moving,
        improve,
        (start, tf.constant(True)),
        maximum_iterations=_MOST_ITERATIONS,
        parallel_iterations=1,
    )[0]
