"""A small fixed network and images for the tests of attacks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def _make_network(num_classes: int = 10, dtype: str = "float32", scale: float = 1.0) -> Callable[[Any], Any]:
    """A fixed random network on 8x8x3 images: convolution of stride 2, ReLU, linear layer."""
    import tensorflow as tf

    random = np.random.default_rng(5)
    kernel = tf.constant(random.normal(size=(3, 3, 3, 8)) * 0.4, dtype)
    linear = tf.constant(random.normal(size=(128, num_classes)) * 0.3 * scale, dtype)

    def network(images: Any) -> Any:
        hidden = tf.nn.relu(tf.nn.conv2d(images - 0.5, kernel, 2, "SAME"))
        return tf.reshape(hidden, [-1, 128]) @ linear

    return network


@pytest.fixture
def network() -> Callable[[Any], Any]:
    return _make_network()


@pytest.fixture(scope="session")
def networks() -> Callable[..., Callable[[Any], Any]]:
    return _make_network


@pytest.fixture
def images() -> np.ndarray:
    """24 images, float32 [24, 8, 8, 3]; a tenth of the values are 0 and a tenth are 1."""
    return np.clip(np.random.default_rng(1).uniform(-0.125, 1.125, (24, 8, 8, 3)), 0, 1).astype(np.float32)


@pytest.fixture
def labelled() -> Callable[[Callable[[Any], Any], np.ndarray], np.ndarray]:
    """Labels that the network predicts, but for every sixth example, which is wrong from the start."""

    def labels(network: Callable[[Any], Any], images: np.ndarray) -> np.ndarray:
        logits = network(images).numpy()
        right, wrong = logits.argmax(1), logits.argmin(1)
        return np.where(np.arange(len(images)) % 6 == 0, wrong, right).astype(np.int32)

    return labels


class Official:
    """What the authors' suite got in float64; made by `tools/compare_with_official.py --stages=freeze`."""

    def __init__(self) -> None:
        self.frozen = json.loads((Path(__file__).parent / "data" / "official.json").read_text())

    def case(self, kind: str, **keys: str) -> dict[str, Any]:
        return next(case for case in self.frozen[kind] if keys.items() <= case.items())

    def problem(self, norm: str) -> tuple[Any, ...]:
        """Returns (network, images, labels, starts, epsilon), as the tool makes them from the seed."""
        import tensorflow as tf

        given = self.frozen["network"]
        random, epsilon = np.random.default_rng(given["seed"]), given["epsilon"][norm]
        kernel, linear = random.normal(size=(3, 3, 3, 6)) * 0.4, random.normal(size=(96, 5)) * 0.5
        images = random.uniform(size=(8, 8, 8, 3))
        noise = random.uniform(-1, 1, images.shape)
        size = np.abs(noise).max((1, 2, 3)) if norm == "linf" else np.sqrt((noise**2).sum((1, 2, 3)))
        start = np.clip(images + epsilon * noise / size[:, None, None, None], 0, 1)

        def network(points: Any) -> Any:
            padded = tf.pad(points - 0.5, [[0, 0], [1, 1], [1, 1], [0, 0]])
            return tf.reshape(tf.nn.relu(tf.nn.conv2d(padded, kernel, 2, "VALID")), [-1, 96]) @ linear

        return network, images, tf.argmax(network(tf.constant(images)), -1, tf.int32), start, epsilon


@pytest.fixture
def official() -> Official:
    return Official()
