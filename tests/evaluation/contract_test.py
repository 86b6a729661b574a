"""Holds: each way in which a model can fail to fit is met by its own message."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import errors, rng
from fairat_tf.evaluation import contract, planted


def _check(small, logits_fn, labels=None, names=None, shape=None):
    contract.check(
        logits_fn, small.images, small.labels if labels is None else labels, names or small.names, shape
    )


def test_a_sound_model_passes(small):
    _check(small, small.logits_fn, shape=(12, 12, 3))
    _check(small, small.logits_fn, shape=(None, None, 3))


def _randomly(small):
    state = tf.Variable(0)

    def logits_fn(images):
        return small.logits_fn(images) + rng.normal(
            rng.key(0, "x", state.assign_add(1)), [tf.shape(images)[0], 4]
        )

    return logits_fn


def _signed(small):
    """Takes images in [-1, 1]; what is brighter than that range's middle becomes class 0."""

    def logits_fn(images):
        bright = tf.nn.relu(tf.reduce_mean(images, [1, 2, 3]) - 0.35)
        return small.logits_fn((images + 1.0) / 2.0) + 1e3 * bright[:, None] * tf.one_hot(0, 4)

    return logits_fn


def _batch_normalised(small):
    return lambda images: small.logits_fn(images) - tf.reduce_mean(small.logits_fn(images), axis=0)


CASES = {
    "softmax": (lambda s: lambda x: tf.nn.softmax(s.logits_fn(x)), errors.UsageError, "--outputs=softmax"),
    "range 255": (lambda s: lambda x: s.logits_fn(x / 255.0), errors.UsageError, "--input_range=0,255"),
    "range -1": (_signed, errors.UsageError, "--input_range=-1,1"),
    "order": (
        lambda s: lambda x: tf.roll(s.logits_fn(x), 1, axis=1),
        errors.UsageError,
        "another order.*bars->cross",
    ),
    "classes": (lambda s: lambda x: s.logits_fn(x)[:, :3], errors.UsageError, "has 4 classes"),
    "NaN": (lambda s: lambda x: s.logits_fn(x) * float("nan"), errors.UsageError, "NaN"),
    "random": (_randomly, errors.Unreliable, "deterministic"),
    "batch": (_batch_normalised, errors.UsageError, "BatchNorm runs in training mode"),
    "no gradient": (lambda s: planted.quantised_input(s.logits_fn), errors.Unreliable, "no input gradient"),
    "zero gradient": (lambda s: planted.quantised_smoothly(s.logits_fn), errors.Unreliable, "exactly zero"),
}


@pytest.mark.parametrize("name", CASES)
def test_failures_have_their_own_message(small, name):
    make, kind, message = CASES[name]
    with pytest.raises(kind, match=message):
        _check(small, make(small))


@pytest.mark.parametrize(
    "classes, examples, accuracy",
    [(200, 256, 0.25), (1000, 256, 0.3), (10, 10, 0.4), (10, 256, 0.3), (4, 8, 0.3)],
)
def test_few_examples_a_class_are_no_sign_of_another_order(classes, examples, accuracy):
    names = [str(c) for c in range(classes)]
    for seed in range(20):
        generator = np.random.default_rng(seed)
        labels = np.arange(examples) % classes
        predicted = np.where(
            generator.random(examples) < accuracy, labels, generator.integers(classes, size=examples)
        )
        contract._check_order(np.eye(classes)[predicted], labels, names)


@pytest.mark.parametrize("classes", [10, 40])
def test_another_order_is_seen_in_a_weak_model(classes):
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.arange(256) % classes)
    right = generator.random(256) < 0.8
    predicted = np.where(right, (labels + 1) % classes, generator.integers(classes, size=256))
    with pytest.raises(errors.UsageError, match="0->1, 1->2"):
        contract._check_order(np.eye(classes)[predicted], labels, [str(c) for c in range(classes)])


def test_softmax_of_a_model_that_returns_logits_is_refused(small):
    def logarithms(of):
        return lambda x: tf.math.log(tf.maximum(of(x), 1e-30))

    known = (small.images, small.labels, small.names, None)
    contract.check(logarithms(lambda x: tf.nn.softmax(small.logits_fn(x))), *known, True)
    with pytest.raises(errors.UsageError, match="--outputs=softmax, but the model does not return prob"):
        contract.check(logarithms(small.logits_fn), *known, True)


def test_image_size_is_compared(small):
    with pytest.raises(errors.UsageError, match="--image_size=32"):
        _check(small, small.logits_fn, shape=(32, 32, 3))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
