"""The class weights that make a weighted sum largest, not too far from equal ones.

p = worst_weights(gains, radius=0.5)      # [K], sums to 1

The problem: maximise the sum of p_k * a_k over probabilities p with KL(u || p) <= r, u_k = 1 / K. With a
multiplier for the constraint and one for the sum, the derivative by p_k vanishes where

    p_k = lambda * u_k / (nu - a_k),   nu > max a,   lambda from the sum

and KL(u || p) = sum u_k log(nu - a_k) + log(sum of u_k / (nu - a_k)) falls from infinity to 0 as nu
grows from max a to infinity (for gains that are not all equal). So nu is found by bisection on a
logarithmic scale, in a fixed number of steps: static shapes, nothing on the host, no solver.
"""

import tensorflow as tf

_STEPS = 50
_LOWEST, _HIGHEST = -80.0, 30.0  # of log(nu - max a) relative to the range of the gains; in reach of float32


def worst_weights(gains: tf.Tensor, radius: float) -> tf.Tensor:
    """Returns the maximiser p, [K] in the dtype of the gains.

    Args:
      gains: a, [K]; equal gains give equal weights, of which each is as good as any other.
      radius: r in nats, 0 or more. For K = 10 weights below 1e-34 begin at about r = 70: from there on the
        radius is met only as far as float32 reaches, which is all weight on the largest gain.
    """
    if not radius:
        return tf.ones_like(gains) / gains.shape[0]
    spread = tf.reduce_max(gains) - tf.reduce_min(gains)
    below = tf.math.divide_no_nan(tf.reduce_max(gains) - gains, spread)  # in [0, 1]

    def shares(height: tf.Tensor) -> tf.Tensor:
        inverse = 1.0 / (tf.exp(height) + below)
        return inverse / tf.reduce_sum(inverse)

    def halve(step: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        middle = 0.5 * (low + high)
        too_far = divergence_from_equal(shares(middle)) > radius
        return step + 1, tf.where(too_far, middle, low), tf.where(too_far, high, middle)

    start = (tf.constant(0), tf.constant(_LOWEST, gains.dtype), tf.constant(_HIGHEST, gains.dtype))
    _, _, height = tf.while_loop(lambda step, *_: step < _STEPS, halve, start, maximum_iterations=_STEPS)
    return shares(height)


def divergence_from_equal(weights: tf.Tensor) -> tf.Tensor:
    """Returns KL(u || p) in nats, u the equal weights, from p [K] above 0."""
    return -tf.reduce_mean(tf.math.log(weights.shape[0] * weights))
