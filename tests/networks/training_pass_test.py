"""The faster training pass is the network in training mode: logits, gradients and moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.networks.training_pass import training_pass
from tests.networks import passes
from tests.networks.folding_test import everything

NAMES = ["small_cnn", "resnet18", "preact_resnet18", "wrn_10_1"]


def found_by(network, forward):
    """Returns (logits, gradients, all weights afterwards) of one pass from the same weights."""
    before = network.get_weights()
    logits, gradients = passes.weight_gradients(network, forward)
    after = network.get_weights()
    network.set_weights(before)
    return logits, gradients, after


def both(network):
    return found_by(network, lambda x: network(x, training=True)), found_by(network, training_pass(network))


def largest(values, references):
    scale = max(np.linalg.norm(r) for r in references)
    return max(np.linalg.norm(v - r) / scale for v, r in zip(values, references, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_float32_gives_logits_gradients_and_statistics_of_the_network(name):
    network = passes.tiny(name)
    expected, found = both(network)
    assert passes.apart(found[0], expected[0]) < 1e-5
    assert largest(found[1], expected[1]) < 1e-4
    for after, reference in zip(found[2], expected[2], strict=True):
        np.testing.assert_allclose(after, reference, atol=2e-6)
    moved = [not np.array_equal(a, b) for a, b in zip(found[2], network.get_weights(), strict=True)]
    assert sum(moved) == sum("moving" in v.path for v in network.variables)


@pytest.mark.parametrize("name", ["small_cnn", "preact_resnet18"])
def test_bfloat16_is_as_near_to_float32_as_the_network_itself(name):
    (exact, _), (expected, found) = (
        both(passes.tiny(name, width=16)),
        both(passes.tiny(name, "bfloat16", width=16)),
    )
    assert passes.apart(found[0], exact[0]) < 2.0 * passes.apart(expected[0], exact[0])
    assert largest(found[1], exact[1]) < 2.0 * largest(expected[1], exact[1])
    for after, reference in zip(found[2], exact[2], strict=True):
        np.testing.assert_allclose(after, reference, atol=5e-3)


def test_layers_that_are_not_known_or_not_trained_are_called_as_they_are():
    network = everything()
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    norms[1].trainable = False
    expected, found = both(network)
    assert passes.apart(found[0], expected[0]) < 1e-5
    assert largest(found[1], expected[1]) < 1e-4
    for after, reference in zip(found[2], expected[2], strict=True):
        np.testing.assert_allclose(after, reference, atol=1e-5)


def operations(function):
    images, _ = passes.examples()
    graph = tf.function(function, autograph=False).get_concrete_function(images).graph
    return [op.type for op in graph.get_operations()]


def test_every_batch_norm_is_one_operation_and_nothing_passes_float32():
    network = passes.tiny("preact_resnet18", "bfloat16", width=2)
    found, plain = operations(training_pass(network)), operations(lambda x: network(x, training=True))
    norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    assert found.count("FusedBatchNormV3") == norms and "SquaredDifference" not in found
    assert plain.count("SquaredDifference") == norms
    assert found.count("Cast") + norms <= plain.count("Cast")


def test_statistics_that_replicas_share_are_left_to_keras(mirrored):
    with mirrored.scope():
        shared = passes.tiny("small_cnn", synchronized_bn=True)
    alone = passes.tiny("small_cnn", synchronized_bn=True)
    images, _ = passes.examples()
    step = tf.function(lambda x: mirrored.run(training_pass(shared), (x,)), autograph=False)
    graph = step.get_concrete_function(images).graph
    assert "FusedBatchNormV3" not in {op.type for op in graph.get_operations()}
    assert "FusedBatchNormV3" in operations(training_pass(alone))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
