"""FairAT on four grey images of known brightness, with an attack and an augmentation to follow by hand."""

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.methods.base import Batch
from tests import support


class Counting:
    """An attack that adds 0.125 to every pixel and notes how many examples each call got."""

    steps = 1

    def __init__(self):
        self.calls = []

    def __call__(self, logits_fn, images, labels, seed, epsilon=None):
        self.calls.append(int(images.shape[0]))
        return images + 0.125

    def start(self, images, seed, epsilon=None):
        return images + 0.0625


class Halve:
    """An augmentation that halves every pixel."""

    def draw(self, seed, batch_size, image_shape):
        return {}

    def apply(self, images, parameters):
        return images * 0.5

    def __call__(self, images, seed):
        return images * 0.5


def brightness_network():
    """Returns logits (brightness, 0): cross-entropy of label 1 rises, of label 0 falls with brightness."""
    image = keras.Input((2, 2, 1))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    dense = keras.layers.Dense(
        2, use_bias=False, kernel_initializer=keras.initializers.Constant([[4.0, 0.0]])
    )
    return keras.Model(image, dense(mean))


def fairat(**options):
    attack = Counting()
    method = support.make_method("fairat", brightness_network(), attack=attack, **options)
    method.augmentation = Halve()
    return method, attack


LEVELS = np.array([0.1, 0.4, 0.2, 0.3], np.float32)  # with label 1, the hardest are rows 1 and 3


def batch(labels=(1, 1, 1, 1)):
    images = np.broadcast_to(LEVELS[:, None, None, None], (4, 2, 2, 1))
    size = tf.ones(4)
    return Batch(tf.constant(images), tf.constant(labels, tf.int32), tf.range(4), size)


def level(images):
    return np.asarray(images)[:, 0, 0, 0]


SEED = rng.key(0, "test")
