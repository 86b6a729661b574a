"""Networks and comparisons for the tests of the faster passes."""

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import devices, networks
from fairat_tf.objectives import losses

SHAPE = (8, 8, 3)


def lively(network, seed=0):
    """Gives BatchNorm affine values and statistics that are not those of the start."""
    generator = np.random.default_rng(seed)
    for variable in network.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(generator.normal(0.0, 0.2, variable.shape))
    return network


def tiny(name, precision="float32", width=4, **options):
    """Returns a narrow network of the table, `lively`."""
    with devices.precision(precision):
        made = networks.get(name)(
            num_classes=4,
            image_shape=SHAPE,
            width=width,
            mean=(0.5, 0.4, 0.3),
            std=(0.2, 0.3, 0.4),
            **options,
        )
    return lively(made)


def examples(size=6):
    """Returns images float32 [size, 8, 8, 3] and labels int32 [size]."""
    generator = np.random.default_rng(1)
    images = generator.random((size, *SHAPE), np.float32)
    return tf.constant(images), tf.constant(np.arange(size, dtype=np.int32) % 4)


def image_gradient(logits_fn, size=6):
    """Returns (logits [B, K], gradient of the cross-entropy by the images), NumPy."""
    images, labels = examples(size)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = logits_fn(images)
        loss = losses.cross_entropy(logits, labels)
    return logits.numpy(), tape.gradient(loss, images).numpy()


def weight_gradients(network, forward):
    """Returns (logits, gradients of the mean cross-entropy by the weights), NumPy."""
    images, labels = examples()
    with tf.GradientTape() as tape:
        logits = forward(images)
        loss = tf.reduce_mean(losses.cross_entropy(logits, labels))
    gradients = tape.gradient(loss, network.trainable_variables)
    return logits.numpy(), [keras.ops.convert_to_numpy(g) for g in gradients]


def apart(value, reference):
    """Returns the size of the difference relative to the reference."""
    return np.linalg.norm(value - reference) / max(np.linalg.norm(reference), 1e-30)


def typically_apart(values, references):
    """Returns the median over the examples: where a ReLU flips by rounding, one is far off by chance."""
    return np.median([apart(value, reference) for value, reference in zip(values, references, strict=True)])
