"""Images and networks on which `compare_with_official.py` compares, made once and kept in --work."""

import argparse
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import attacks, rng

# Networks of the agreement stages: radius at which 30 to 70 % survive, by norm.
NETWORKS = {
    "plain": {"linf": 1 / 255, "l2": 0.1},
    "adversarially trained": {"linf": 2 / 255, "l2": 0.2},
    "gradient-masked": {"linf": 1 / 255, "l2": 0.1},
}
SIZE = 16


def tf_cnn(weights: dict[str, Any], dtype: str = "float32") -> Any:
    """Returns logits_fn of the small network: two strided convolutions and a linear layer."""

    w = {name: tf.constant(value, dtype) for name, value in weights.items()}

    def logits_fn(images: Any) -> Any:
        h = images - 0.5
        for i in (1, 2) if "conv2" in w else (1,):
            h = tf.pad(h, [[0, 0], [1, 1], [1, 1], [0, 0]])
            h = tf.nn.relu(tf.nn.conv2d(h, w[f"conv{i}"], 2, "VALID") + w[f"bias{i}"])
        return (tf.reshape(h, [-1, w["linear"].shape[0]]) @ w["linear"] + w["bias3"]) * w["scale"]

    return logits_fn


def coarse_cnn(weights: dict[str, Any]) -> Any:
    """Returns logits_fn of the small network in bfloat16, image and logits included, for the search."""
    network = tf_cnn(weights, "bfloat16")
    return lambda images: tf.cast(network(tf.cast(images, tf.bfloat16)), tf.float32)


def data(flags: argparse.Namespace, size: int = SIZE) -> dict[str, np.ndarray]:
    """Returns 6,000 training and 1,000 test images of CIFAR-10, float32 [N, size, size, 3] in [0, 1]."""
    kept = flags.work / "images.npz"
    if not kept.exists():
        import tensorflow_datasets as tfds

        arrays = {}
        for split in ("train[:6000]", "test[:1000]"):
            loaded = tfds.load("cifar10", split=split, data_dir=flags.data_dir, download=False, batch_size=-1)
            arrays[split[:4] + "_x"] = loaded["image"].numpy().astype(np.float32) / 255
            arrays[split[:4] + "_y"] = loaded["label"].numpy().astype(np.int32)
        np.savez(kept, **arrays)
    arrays = dict(np.load(kept))
    factor = 32 // size
    for name in ("trai_x", "test_x"):
        shape = (-1, size, factor, size, factor, 3)
        arrays[name] = arrays[name].reshape(shape).mean((2, 4)).astype(np.float32)
    return {
        "train_x": arrays["trai_x"],
        "train_y": arrays["trai_y"],
        "test_x": arrays["test_x"],
        "test_y": arrays["test_y"],
    }


def train(
    network: Any, variables: list, images: np.ndarray, labels: np.ndarray, epsilon: float, steps: int
) -> None:
    """Trains with Adam, on PGD-5 examples where epsilon is not 0."""

    optimizer = keras.optimizers.Adam(2e-3)
    optimizer.build(variables)
    attack = attacks.get("pgd")(epsilon=epsilon, step_size=epsilon / 3, steps=5) if epsilon else None

    @tf.function(autograph=False)
    def step(x: Any, y: Any, seed: Any) -> Any:
        x = attack(lambda z: network(z, False), x, y, seed) if attack else x
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, network(x, True)))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    chosen = np.random.default_rng(0)
    for i in range(steps):
        rows = chosen.integers(len(images), size=64)
        step(images[rows], labels[rows], rng.key(0, "agreement", i))


def cnn_weights(flags: argparse.Namespace, name: str) -> dict[str, np.ndarray]:
    """Returns the weights of one of `NETWORKS`, trained at the first call."""
    kept = flags.work / f"{name.replace(' ', '_')}.weights.npz"
    if kept.exists():
        return dict(np.load(kept))

    random, images = np.random.default_rng(1), data(flags)
    shapes = {"conv1": (3, 3, 3, 8), "conv2": (3, 3, 8, 16), "linear": (SIZE * SIZE, 10)}
    weights = {k: random.normal(size=s) * math.sqrt(2 / np.prod(s[:-1])) for k, s in shapes.items()}
    weights |= {"bias1": np.zeros(8), "bias2": np.zeros(16), "bias3": np.zeros(10)}
    hard = name == "adversarially trained"
    if hard:
        weights = cnn_weights(flags, "plain")
    scale = np.float32(200.0 if name == "gradient-masked" else weights.pop("scale", 1.0))
    variables = {k: tf.Variable(v, dtype=tf.float32) for k, v in weights.items()}

    def network(x: Any, _: bool) -> Any:
        return _with_variables(x, variables)

    train(network, list(variables.values()), images["train_x"], images["train_y"], hard * 4 / 255, 800)
    trained = {k: v.numpy() for k, v in variables.items()}
    trained["scale"] = scale
    np.savez(kept, **trained)
    return trained


def _with_variables(x: Any, w: dict[str, Any]) -> Any:

    h = x - 0.5
    for i in (1, 2):
        h = tf.nn.conv2d(tf.pad(h, [[0, 0], [1, 1], [1, 1], [0, 0]]), w[f"conv{i}"], 2, "VALID")
        h = tf.nn.relu(h + w[f"bias{i}"])
    return tf.reshape(h, [-1, w["linear"].shape[0]]) @ w["linear"] + w["bias3"]
