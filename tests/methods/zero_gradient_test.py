"""The share of examples whose input gradient is exactly 0, by class, counted without a further pass."""

import dataclasses
import logging
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, devices, methods, networks, rng
from fairat_tf.callbacks.classwise_history import ClasswiseHistory
from fairat_tf.callbacks.zero_gradients import ZeroGradients
from fairat_tf.methods import batches
from fairat_tf.methods.measuring import Measured
from tests import support
from tests.methods import oracle

CLASSES = oracle.CLASSES
PREDICTED = (oracle.flat(oracle.IMAGES) @ oracle.KERNEL).argmax(1).astype(np.int32)
LABELS = np.where(np.arange(oracle.SIZE) % 2, PREDICTED, (PREDICTED + 1) % CLASSES).astype(np.int32)
BATCH = oracle.batch() | {"label": tf.constant(LABELS)}


def saturated(scale=1e5):
    """A linear network so confident that the softmax of most examples is 0 or 1 to the last bit."""
    network = oracle.linear_network()
    network.set_weights([oracle.KERNEL * scale])
    return network


def expected(images, labels):
    """Returns where the gradient of the cross-entropy by the pixels is 0 in float32, by NumPy's softmax."""
    logits = (images.reshape(len(images), -1) @ (oracle.KERNEL * np.float32(1e5))).astype(np.float32)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    residual = shifted / shifted.sum(1, keepdims=True) - np.eye(CLASSES, dtype=np.float32)[labels]
    return (residual == 0).all(1)


@pytest.fixture
def attack():
    return attacks.get("pgd")(epsilon=1e-3, step_size=5e-4, steps=2)


def test_training_and_validation_count_what_numpy_finds(attack):
    method = support.make_method("pgd_at", saturated(), attack=attack)
    seed = rng.fold(rng.key(0, "train_step", 0), "attack")
    start = attack.start(tf.constant(oracle.IMAGES), seed).numpy()
    stuck = expected(start, LABELS)
    assert 0 < stuck.sum() < len(stuck)
    logs = method.train_step(BATCH)
    by_class = [stuck[k == LABELS].mean() if k in LABELS else np.nan for k in range(CLASSES)]
    np.testing.assert_allclose(method.train_zero_gradient.per_class(), by_class, atol=1e-6)
    assert float(logs["zero_gradient"]) == pytest.approx(stuck.mean())
    method.network.set_weights([oracle.KERNEL * 1e5])
    seen = attack.start(tf.constant(oracle.IMAGES), rng.fold(rng.key(0, "validation"), 0)).numpy()
    logs = method.test_step(BATCH | {"mask": tf.constant([1.0] * 5 + [0.0])})
    share = expected(seen, LABELS)[:5].mean()
    assert float(logs["zero_gradient"]) == pytest.approx(share)


@pytest.mark.parametrize("other", [{"restarts": 2}, {"keep_best": True}])
def test_an_attack_that_may_return_its_start_tells_nothing(attack, other):
    best, seed, images = dataclasses.replace(attack, **other), rng.key(0, "x"), tf.constant(oracle.IMAGES)
    adversarial = best(saturated(), images, tf.constant(LABELS), seed)
    assert expected(attack.start(images, seed).numpy(), LABELS).any()
    np.testing.assert_array_equal(best.stuck(images, adversarial, seed), np.zeros(6))


def test_a_network_with_gradients_has_none_and_radius_0_is_no_alarm(attack):
    method = support.make_method("fairat", saturated(1.0), attack=attack, num_examples=6, augmentation="flip")
    assert float(method.train_step(BATCH)["zero_gradient"]) == 0.0
    still = dataclasses.replace(attack, epsilon=0.0)
    images = tf.constant(oracle.IMAGES)
    seed = rng.key(0, "x")
    adversarial = still(method.inference, images, tf.constant(LABELS), seed)
    np.testing.assert_array_equal(still.stuck(images, adversarial, seed), np.zeros(6))
    mixed = attack.stuck(
        images, attack.start(images, seed, [0.1] * 3 + [0.0] * 3), seed, [0.1] * 3 + [0.0] * 3
    )
    np.testing.assert_array_equal(mixed, [1, 1, 1, 0, 0, 0])


def test_natural_training_has_no_attack_to_watch():
    method = support.make_method("standard")
    assert method.train_zero_gradient not in method.train_metrics


def test_a_person_is_told_once_for_each_split_with_the_class(caplog):
    history = ClasswiseHistory(("cat", "dog"))
    callback = ZeroGradients(history)
    history.train = {"zero_gradient": np.array([0.0, 0.009])}
    history.validation = {"zero_gradient": np.array([np.nan, 0.5])}
    with caplog.at_level(logging.WARNING):
        callback.on_epoch_end(0)
        callback.on_epoch_end(1)
    assert [r.getMessage().split(";")[0] for r in caplog.records] == [
        "epoch 1: the attack has no gradient at 50.0 % of the validation examples of class dog, so it leaves "
        "them at random noise"
    ]


def test_a_bfloat16_network_is_attacked_in_float32():
    with devices.precision("bfloat16"):
        network = networks.get("small_cnn")(num_classes=4, image_shape=(8, 8, 3), width=4)
    assert network.layers[-1].compute_dtype == "float32"
    assert any(layer.compute_dtype == "bfloat16" for layer in network.layers)
    assert all(keras.backend.standardize_dtype(v.dtype) == "float32" for v in network.variables)
    attack = attacks.get("pgd")(epsilon=0.1, step_size=0.013, steps=1)
    method = methods.get("pgd_at")(network, attack=attack, num_classes=4)
    batch = support.batch_of(support.tiny_split())
    seed = rng.key(0, "test")
    adversarial = method.attacked(batch["image"], batch["label"], seed)
    assert adversarial.dtype == tf.float32
    start = attack.start(batch["image"], seed)
    inside = (np.abs(adversarial - batch["image"]) < 0.0999) & (adversarial > 0) & (adversarial < 1)
    moved = np.abs(adversarial - start)[inside]  # bfloat16 between 0.5 and 1 has steps of 0.004
    np.testing.assert_allclose(moved[moved > 0], 0.013, atol=1e-6)
    assert np.mean(moved > 0) > 0.5
    np.testing.assert_array_equal(attack.stuck(batch["image"], adversarial, seed), np.zeros(16))


def test_batches_of_validation_have_draws_of_their_own():
    run = types.SimpleNamespace(seed=0)
    numbered = [batches.unpack({**BATCH, "number": tf.fill([oracle.SIZE], n)}) for n in (0, 1)]
    one, other, untold = (
        Measured.validation_seed(run, batch, "validation") for batch in (*numbered, batches.unpack(BATCH))
    )
    assert one.numpy().tolist() == untold.numpy().tolist() != other.numpy().tolist()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
