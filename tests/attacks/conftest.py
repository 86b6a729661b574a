"""A small fixed network and images for the tests of attacks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def make_network(num_classes: int = 10, dtype: str = "float32", scale: float = 1.0) -> Callable[[Any], Any]:
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
    return make_network()


@pytest.fixture
def networks() -> Callable[..., Callable[[Any], Any]]:
    return make_network


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
