"""Small things that tests share: a tiny network, a tiny data set, a method made of both."""

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import attacks, methods
from fairat_tf.data.dataset import Dataset, Split
from fairat_tf.methods.distillation import Distilled
from fairat_tf.optimization import SGD

CLASSES = 4
SHAPE = (8, 8, 3)


def tiny_network(seed=0, batch_norm=False, synchronized=False, classes=CLASSES, shape=SHAPE):
    """Returns a convolution and a dense layer, smooth enough for exact comparisons.

    As in the networks of the package, a convolution in front of BatchNorm has no bias: its gradient is 0.
    """
    init = keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    image = keras.Input(shape, name="image")
    x = keras.layers.Conv2D(6, 3, strides=2, use_bias=not batch_norm, kernel_initializer=init)(image)
    if batch_norm:
        x = keras.layers.BatchNormalization(synchronized=synchronized, momentum=0.9, epsilon=1e-5)(x)
    x = keras.layers.Activation("tanh")(x)
    logits = keras.layers.Dense(classes, kernel_initializer=init)(keras.layers.Flatten()(x))
    return keras.Model(image, logits)


def tiny_split(size=64, seed=0, classes=CLASSES, shape=SHAPE):
    """Returns images whose brightness in one corner tells the class, with noise."""
    generator = np.random.default_rng(seed)
    labels = np.arange(size, dtype=np.int32) % classes
    images = generator.integers(60, 200, (size, *shape)).astype(np.uint8)
    images[:, :4, :4] = (40 + 50 * labels)[:, None, None, None]
    return Split(images, labels)


def tiny_dataset(size=96):
    """Returns a data set of `tiny_split`."""
    return Dataset("tiny", tuple("abcd"), tiny_split(size), tiny_split(40, seed=1))


def teacher(classes=CLASSES, shape=SHAPE):
    """Returns the logits function of another network, as a teacher for methods that learn from one."""
    network = tiny_network(seed=7, classes=classes, shape=shape)
    return lambda images: network(images, training=False)


def make_method(name, network=None, steps=2, learning_rate=0.05, attack=None, **options):
    """Returns a compiled method around a tiny network."""
    network = network or tiny_network()
    if issubclass(methods.get(name), Distilled) and "teacher_logits" not in options:
        options["teacher_logits"] = teacher(network.output_shape[-1], network.input_shape[1:])
    attack = attack or attacks.get("pgd")(epsilon=0.1, step_size=0.05, steps=steps)
    method = methods.get(name)(network, attack=attack, num_classes=network.output_shape[-1], **options)
    method.compile(optimizer=SGD(learning_rate, momentum=0.9, weight_decay=1e-3))
    method.optimizer.build(method.training_network.trainable_variables)
    return method


def batch_of(split, size=16, start=0):
    """Returns a batch dictionary as the pipeline makes it."""
    rows = np.arange(start, start + size, dtype=np.int32)
    return {
        "image": tf.constant(split.images[rows] / np.float32(255)),
        "label": tf.constant(split.labels[rows]),
        "index": tf.constant(rows),
    }
