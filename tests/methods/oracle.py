"""Closed forms for a linear softmax classifier, in NumPy float64, and an attack that can be followed by hand.

method = linear_method("trades", beta=2.0)
before = kernel(method)
method.train_step(batch())
expected = after_step(before, gradient(before, *trades(before, natural, adversarial, labels, beta=2.0)))
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import methods, rng
from fairat_tf.methods.batches import unpack
from fairat_tf.methods.distillation import Distilled
from tests import support

CLASSES, SHAPE, SIZE = 3, (2, 2, 1), 6
LEARNING_RATE, WEIGHT_DECAY = 0.05, 1e-3  # of tests.support
PATTERN = np.array([[1.0, -0.5], [0.25, 0.75]])[:, :, None]
KERNEL = np.random.default_rng(0).normal(size=(4, CLASSES)).astype(np.float32)
TEACHER = np.random.default_rng(2).normal(size=(4, CLASSES)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(0.2, 0.8, (SIZE, *SHAPE)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1, 0, 1], np.int32)


@dataclasses.dataclass(frozen=True)
class Shift:
    """An attack that adds epsilon times a pattern, and notes the loss that it was given."""

    epsilon: float = 0.1
    scale_step: bool = False
    given: list = dataclasses.field(default_factory=list)
    steps = 10

    def __call__(self, logits_fn, images, labels, seed, epsilon=None, loss=None):
        self.given.append(loss)
        radius = tf.reshape(tf.cast(self.epsilon if epsilon is None else epsilon, tf.float32), [-1, 1, 1, 1])
        return images + radius * tf.constant(PATTERN, tf.float32)

    def start(self, images, seed, epsilon=None):
        return images

    def walk(self, logits_fn, points, images, labels, steps, epsilon=None, loss=None):
        """Adds a tenth of the pattern each step, and counts the points that are right before it."""
        right = tf.zeros(labels.shape)
        for _ in range(steps):
            right += tf.cast(tf.argmax(logits_fn(points), -1, tf.int32) == labels, tf.float32)
            points += self.epsilon / self.steps * tf.constant(PATTERN, tf.float32)
        return points, right


def linear_network():
    """Returns flattened pixels times KERNEL."""
    image = keras.Input(SHAPE)
    dense = keras.layers.Dense(CLASSES, use_bias=False)
    network = keras.Model(image, dense(keras.layers.Flatten()(image)))
    network.set_weights([KERNEL])
    return network


def teacher(images):
    """Returns the logits of the linear teacher."""
    return tf.reshape(images, [-1, 4]) @ tf.constant(TEACHER)


def linear_method(name, **options):
    """Returns a compiled method around the linear network, attacked by `Shift`."""
    options = {"num_examples": SIZE, **options}
    if issubclass(methods.get(name), Distilled):
        options = {"teacher_logits": teacher, **options}
    return support.make_method(name, linear_network(), attack=Shift(), **options)


def batch():
    """Returns the batch of this file."""
    return {"image": tf.constant(IMAGES), "label": tf.constant(LABELS), "index": tf.range(SIZE)}


def examples_of(method):
    """Returns what the method's next training step trains on."""
    return method.training_batch(
        unpack(batch()), rng.key(method.seed, "train_step", method.optimizer.iterations)
    )


def value(variable):
    """Returns a variable as NumPy."""
    return np.array(keras.ops.convert_to_numpy(variable))


def kernel(method):
    """Returns the weights of the linear network."""
    return value(method.network.trainable_variables[0])


def flat(images):
    """Returns images as float64 rows."""
    return np.asarray(images, np.float64).reshape(len(images), -1)


def shifted(epsilons=0.1):
    """Returns what `Shift` makes of the batch, by example."""
    return IMAGES + np.reshape(np.broadcast_to(epsilons, SIZE), (-1, 1, 1, 1)) * PATTERN


def softmax(z):
    """Returns softmax by rows."""
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def one_hot(labels):
    """Returns the labels as rows of the identity."""
    return np.eye(CLASSES)[labels]


def divergence(p, q):
    """Returns KL(p || q), by example."""
    return (p * np.log(p / q)).sum(1)


def divergence_by_first_logits(p, q):
    """Returns the gradient of KL(p || q) by the logits of p: p * (log p/q - KL)."""
    return p * (np.log(p / q) - divergence(p, q)[:, None])


def cross_entropy_rows(weights, images, targets, by_example=1.0):
    """Returns (images, gradient by their logits) of the cross-entropy with targets [M, K]."""
    x = flat(images)
    scale = np.reshape(np.broadcast_to(by_example, len(x)), (-1, 1))
    return [(x, scale * (softmax(x @ weights) - targets))]


def trades_rows(weights, natural, adversarial, targets, beta, on_error=1.0, on_boundary=1.0):
    """Returns [(images, gradient by their logits)] of a * CE(x) + b * beta * KL(p(x) || p(x'))."""
    x, y = flat(natural), flat(adversarial)
    p, q = softmax(x @ weights), softmax(y @ weights)
    a, b = (np.reshape(np.broadcast_to(v, len(x)), (-1, 1)) for v in (on_error, on_boundary))
    return [(x, a * (p - targets) + b * beta * divergence_by_first_logits(p, q)), (y, b * beta * (q - p))]


def mart_rows(weights, natural, adversarial, labels, beta):
    """Returns the same of -log q_y - log(1.0001 - max q_j) + beta * KL(p || q) * (1.0000001 - p_y)."""
    x, y = flat(natural), flat(adversarial)
    p, q = softmax(x @ weights), softmax(y @ weights)
    hot = one_hot(labels)
    rival = np.argmax(np.where(hot > 0, -1.0, q), 1)
    q_rival = q[np.arange(len(q)), rival][:, None]
    doubt = 1.0000001 - (p * hot).sum(1, keepdims=True)
    by_q = q - hot + q_rival * (one_hot(rival) - q) / (1.0001 - q_rival) + beta * doubt * (q - p)
    p_label = (p * hot).sum(1, keepdims=True)
    by_doubt = -divergence(p, q)[:, None] * p_label * (hot - p)
    return [(x, beta * (doubt * divergence_by_first_logits(p, q) + by_doubt)), (y, by_q)]


GUIDE = softmax(flat(IMAGES) @ TEACHER.astype(np.float64))  # of the linear teacher on the natural images


def rslad_rows(share):
    """Returns the same of share * KL(T(x) || S(x')) + (1 - share) * KL(T(x) || S(x))."""
    adversarial = cross_entropy_rows(KERNEL, shifted(), GUIDE, share)
    return adversarial + cross_entropy_rows(KERNEL, IMAGES, GUIDE, 1 - share)


def gradient(rows, count=SIZE):
    """Returns the gradient of the mean loss by the kernel from [(images, gradient by logits)]."""
    return sum(x.T @ g for x, g in rows) / count


def after_step(weights, gradient_by_weights):
    """Returns the weights after one step of SGD with coupled weight decay."""
    return weights - LEARNING_RATE * (gradient_by_weights + WEIGHT_DECAY * weights)


def check_step(method, rows, count=SIZE):
    """Runs the real training step and compares the weights with the closed form."""
    before = kernel(method).astype(np.float64)
    expected = after_step(before, gradient(rows, count))
    method.train_step(batch())
    moved = kernel(method)
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(moved - before).max() > 1e-3
