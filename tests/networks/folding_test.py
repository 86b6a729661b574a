"""A prepared network is the network in inference mode: same logits, same gradients, nothing repeated."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, networks, rng
from fairat_tf.networks.folding import prepared
from tests.networks import passes

LOGITS, GRADIENT = 2e-6, 2e-5  # largest relative difference in float32


def plain(network):
    return lambda images: network(images, training=False)


def assert_same(network, logits=LOGITS, gradient=GRADIENT):
    expected, found = passes.image_gradient(plain(network)), passes.image_gradient(prepared(network))
    assert found[0].dtype == expected[0].dtype and np.abs(expected[1]).max() > 0
    assert passes.apart(found[0], expected[0]) < logits
    assert passes.apart(found[1], expected[1]) < gradient


@pytest.mark.parametrize("name", networks.names())
def test_float32_gives_the_logits_and_gradients_of_the_network(name):
    assert_same(passes.tiny(name))


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "preact_resnet18"])
def test_bfloat16_is_as_near_to_float32_as_the_network_itself(name):
    exact = passes.image_gradient(plain(passes.tiny(name, width=16)), 32)
    half = passes.tiny(name, "bfloat16", width=16)
    expected, found = [passes.image_gradient(f, 32) for f in (plain(half), prepared(half))]
    assert found[0].dtype == np.float32 and found[1].dtype == np.float32
    for value, reference, own in zip(found, exact, expected, strict=True):
        assert 0 < passes.typically_apart(value, reference) < 1.5 * passes.typically_apart(own, reference)


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_batchnorm_with_variables_of_half_precision_is_called_as_it_is(policy):
    image = keras.Input(passes.SHAPE)
    x = keras.layers.Conv2D(6, 3, activation="relu", dtype=policy)(image)
    x = keras.layers.Conv2D(6, 3, dtype=policy)(keras.layers.BatchNormalization(dtype=policy)(x))
    x = keras.layers.BatchNormalization(dtype=policy)(x)
    network = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    images = tf.constant(np.random.default_rng(0).random((4, *passes.SHAPE), np.float32))
    np.testing.assert_allclose(prepared(network)(images), plain(network)(images), atol=1e-5)


@pytest.mark.parametrize(
    "image", [keras.Input((8, 8)), keras.Input((8, 8, 1), dtype="uint8")], ids=["rank", "type"]
)
def test_what_keras_does_to_its_input_is_not_left_out(image):
    x = keras.layers.Rescaling(1 / 255)(image)
    network = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)), tf.float32)
    np.testing.assert_array_equal(prepared(network)(images), plain(network)(images))


def everything():
    """Returns a network with every case that is folded, and with those that must not be."""
    layers = keras.layers
    image = keras.Input(passes.SHAPE)
    x = layers.Normalization(mean=[0.5, 0.4, 0.3], variance=[0.04, 0.09, 0.16])(image)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(6, 3, strides=2, dilation_rate=1)(x)  # with bias
    x = layers.BatchNormalization(scale=False, epsilon=1e-2)(x)
    shared = layers.Conv2D(6, 3, padding="same", activation="tanh")  # twice in the graph: called as it is
    x = shared(shared(x))
    x = layers.BatchNormalization(center=False)(x)  # behind a layer that is used twice
    y = layers.Conv2D(6, 1, activation="tanh")(x)  # an activation stands between: not folded
    y = layers.BatchNormalization()(y)
    z = layers.Conv2D(6, 3, padding="same", dilation_rate=2)(y)  # two users: not folded
    x = layers.Add()([layers.BatchNormalization()(z), z])
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, 1, groups=2)(x) if tf.config.list_physical_devices("GPU") else x
    x = layers.Dropout(0.5)(layers.LayerNormalization()(x))
    x = layers.BatchNormalization()(layers.Flatten()(x))  # not of feature maps
    return passes.lively(keras.Model(image, layers.Dense(4)(x)))


def test_any_functional_network_gives_its_numbers():
    assert_same(everything())


def test_sequential_and_subclassed_models_give_their_numbers():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    sequential = keras.Sequential([keras.Input(passes.SHAPE), *layers, keras.layers.Dense(4)])
    assert_same(passes.lively(sequential))

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = sequential

        def call(self, images, training=False):
            return 2.0 * self.inner(images, training=training)

    assert_same(Own(), logits=0.0 + 1e-12, gradient=1e-12)


def test_a_convolution_at_the_end_of_a_network_keeps_its_output():
    image = keras.Input(passes.SHAPE)
    x = keras.layers.Conv2D(4, 8, name="last")(image)
    whole = passes.lively(keras.Model(image, keras.layers.BatchNormalization()(x)))
    images, _ = passes.examples()
    for network in (whole, keras.Model(image, x)):
        np.testing.assert_allclose(prepared(network)(images), network(images), rtol=2e-5, atol=2e-6)


def test_the_weights_are_those_of_the_moment():
    network, (images, _) = passes.tiny("small_cnn"), passes.examples()
    before = prepared(network)
    first = before(images).numpy()
    passes.lively(network, seed=5)
    np.testing.assert_array_equal(before(images), first)
    assert passes.apart(prepared(network)(images).numpy(), first) > 1e-2


def test_only_the_images_get_gradients_and_no_variable_moves():
    network, (images, _) = passes.tiny("preact_resnet18"), passes.examples()
    weights = network.get_weights()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(prepared(network)(images)))
    folded = [w for w in network.trainable_variables if not w.path.startswith("logits")]
    assert tape.gradient(loss, folded) == [None] * len(folded)
    for after, before in zip(network.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(after, before)


def body_operations(logits_fn_of):
    """Returns the kinds of operations inside the loop of PGD."""
    attack = attacks.get("pgd")(steps=3)
    images, labels = passes.examples()

    @tf.function(autograph=False)
    def attacked(images, labels):
        return attack(logits_fn_of(), images, labels, rng.key(0, "test"))

    graph = attacked.get_concrete_function(images, labels).graph
    (loop,) = [op for op in graph.get_operations() if op.type in ("While", "StatelessWhile")]
    functions = {f.signature.name: f for f in graph.as_graph_def().library.function}
    return [node.op for node in functions[loop.get_attr("body").name].node_def]


def test_no_step_of_an_attack_reads_or_casts_a_weight():
    network = passes.tiny("preact_resnet18", "bfloat16", width=2)
    found, repeated = body_operations(lambda: prepared(network)), body_operations(lambda: plain(network))
    convolutions = sum(isinstance(layer, keras.layers.Conv2D) for layer in network.layers)
    assert found.count("Conv2D") == convolutions == repeated.count("Conv2D")
    assert (
        found.count("ReadVariableOp") == 2 < repeated.count("ReadVariableOp")
    )  # the head's, which is called
    assert "Rsqrt" in repeated and "Rsqrt" not in found
    assert found.count("Cast") < repeated.count("Cast") / 4


@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_attack_in_a_graph_and_under_xla_finds_what_it_finds_on_the_network(jit_compile):
    network, attack = passes.tiny("small_cnn"), attacks.get("pgd")(steps=3)
    images, labels = passes.examples()

    @tf.function(autograph=False, jit_compile=jit_compile)
    def attacked(images, labels):
        return attack(prepared(network), images, labels, rng.key(0, "test"))

    expected = attack(plain(network), images, labels, rng.key(0, "test"))
    np.testing.assert_allclose(attacked(images, labels), expected, atol=1e-6)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
