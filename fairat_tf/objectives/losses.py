"""Losses of one example each, from logits.

cross_entropy(logits, labels)        # [B]
margin(logits, labels)               # [B], positive where the example is misclassified
targeted_dlr(logits, labels, targets)    # [B], the same towards one chosen class
kl_divergence(target, logits)        # [B], KL(softmax(target) || softmax(logits))
"""

import tensorflow as tf


def at_least_float32(logits: tf.Tensor) -> tf.Tensor:
    """Returns logits in float32, or in float64 where they are: sums of exponentials need the bits."""
    return logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy in nats, [B].

    Args:
      logits: [B, K].
      labels: int [B], or class probabilities [B, K] (soft labels).
    """
    logits = at_least_float32(logits)
    if labels.dtype.is_floating:
        return tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, logits.dtype), logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def label_entropy(labels: tf.Tensor) -> tf.Tensor:
    """Returns the entropy of label distributions [B, K] in nats, [B]: the least cross-entropy they allow."""
    return -tf.reduce_sum(tf.math.xlogy(labels, labels), axis=-1)


def label_probability(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns p_y, [B], for labels int32 [B]; its mean for label distributions [B, K]."""
    if labels.dtype.is_floating:
        probabilities = tf.nn.softmax(at_least_float32(logits))
        return tf.reduce_sum(tf.cast(labels, probabilities.dtype) * probabilities, axis=-1)
    return tf.exp(-cross_entropy(logits, labels))


def excess_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy [B] above the least that the labels allow: the entropy of soft ones."""
    found = cross_entropy(logits, labels)
    return found - (tf.cast(label_entropy(labels), found.dtype) if labels.dtype.is_floating else 0.0)


def true_and_best_other(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the logit of the label and the largest of the others, [B] each.

    With label distributions [B, K] every class that has a share is a label: the largest logit of these,
    and of the others.
    """
    labels = tf.convert_to_tensor(labels)
    if labels.dtype.is_floating:
        hot = labels > 0
    else:
        hot = tf.one_hot(labels, tf.shape(logits)[-1], on_value=True, off_value=False, dtype=tf.bool)
    lowest = tf.fill(tf.shape(logits), logits.dtype.min)
    true = tf.reduce_max(tf.where(hot, logits, lowest), axis=-1)
    other = tf.reduce_max(tf.where(hot, lowest, logits), axis=-1)
    return true, other


def margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns max over j != y of z_j - z_y, [B] (Carlini & Wagner 2017, without the cap kappa)."""
    true, other = true_and_best_other(at_least_float32(logits), labels)
    return other - true


def probability_margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns max over j != y of p_j - p_y, [B], in [-1, 1], from logits [B, K] and labels int32 [B]."""
    true, other = true_and_best_other(tf.nn.softmax(at_least_float32(logits)), labels)
    return other - true


def dlr(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the difference of logits ratio, [B] (Croce & Hein 2020, equation 6).

    -(z_y - max over j != y of z_j) / (z_1st - z_3rd + 1e-12), with logits in descending order.
    With fewer than three classes there is no third logit: the denominator is then 1.
    """
    logits = at_least_float32(logits)
    true, other = true_and_best_other(logits, labels)
    if logits.shape[-1] < 3:
        return other - true
    ranked = tf.math.top_k(logits, k=3).values
    return (other - true) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def chosen(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Returns the logit of one class of each example, [B], from logits [B, K] and classes int32 [B]."""
    hot = tf.one_hot(classes, tf.shape(logits)[-1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.reduce_sum(tf.where(hot, logits, tf.zeros_like(logits)), axis=-1)


def targeted_margin(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns z_t - z_y, [B], for target classes t int32 [B] (Gowal et al. 2019, equation 4)."""
    logits = at_least_float32(logits)
    return chosen(logits, targets) - chosen(logits, labels)


def targeted_dlr(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the targeted difference of logits ratio, [B] (Croce & Hein 2020, equation 7).

    -(z_y - z_t) / (z_1st - (z_3rd + z_4th) / 2 + 1e-12), with logits in descending order. The denominator
    only has to be independent of shifts and proportional to scale: with three classes it is z_1st - z_3rd
    (there is no fourth), and with two, where every such difference is |z_y - z_t| itself, it is 1.
    """
    logits = at_least_float32(logits)
    difference = targeted_margin(logits, labels, targets)
    if logits.shape[-1] < 3:
        return difference
    ranked = tf.math.top_k(logits, k=min(4, logits.shape[-1])).values
    return difference / (ranked[:, 0] - tf.reduce_mean(ranked[:, 2:], axis=-1) + 1e-12)


def kl_divergence(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns KL(softmax(target) || softmax(logits)) in nats, [B]; from log-softmax, so never NaN at 0."""
    log_target = tf.nn.log_softmax(at_least_float32(target))
    log_other = tf.nn.log_softmax(at_least_float32(logits))
    return tf.reduce_sum(tf.exp(log_target) * (log_target - log_other), axis=-1)


def entropy(logits: tf.Tensor) -> tf.Tensor:
    """Returns the entropy of softmax(logits) in nats, [B]."""
    log_probability = tf.nn.log_softmax(at_least_float32(logits))
    return -tf.reduce_sum(tf.exp(log_probability) * log_probability, axis=-1)


def top_two_gap(logits: tf.Tensor) -> tf.Tensor:
    """Returns second highest minus highest logit, [B]: 0 where the two tie, falling with confidence."""
    highest = tf.math.top_k(at_least_float32(logits), k=2).values
    return highest[:, 1] - highest[:, 0]
