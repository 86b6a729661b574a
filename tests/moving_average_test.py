"""The moving average of the weights, and the copy of a network in which it lives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import optimization


def adapted_network():
    images = np.random.default_rng(0).normal(3, 2, (64, 4, 4, 1)).astype(np.float32)
    normalize = keras.layers.Normalization()
    normalize.adapt(images)
    image = keras.Input((4, 4, 1))
    frozen = keras.layers.Conv2D(2, 3, trainable=False)
    dense = keras.layers.Dense(2)
    return keras.Model(image, dense(keras.layers.Flatten()(frozen(normalize(image))))), images


def test_a_copy_computes_the_same_also_behind_an_adapted_normalisation():
    network, images = adapted_network()
    np.testing.assert_array_equal(optimization.copy_of(network)(images), network(images))


def test_a_copy_is_as_trainable_as_the_original_where_it_is_saved():
    network, _ = adapted_network()
    copy = optimization.copy_of(network)
    assert not copy.trainable_weights
    with optimization.trainable_like(copy, network):
        assert [w.path for w in copy.trainable_weights] == [w.path for w in network.trainable_weights]
        assert copy.trainable and len(copy.trainable_weights) == 2
    assert not copy.trainable_weights and not copy.trainable


def test_ema_decay_by_hand():
    got = [float(optimization.ema_decay(0.5, t)) for t in (0, 1, 7, 8, 9, 1000)]
    np.testing.assert_allclose(got, [0.1, 2 / 11, 8 / 17, 0.5, 0.5, 0.5], rtol=1e-6)


def _models(synchronized: bool = True) -> list[keras.Model]:
    made = []
    for _ in range(2):
        inputs = keras.Input((3,))
        x = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed=3))(inputs)
        x = keras.layers.BatchNormalization(momentum=0.5, synchronized=synchronized)(x)
        made.append(keras.Model(inputs, keras.layers.Dropout(0.1, seed=5)(x)))
    return made


def _distance(a, b) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


def _ema_numpy(history, start, decay):
    average = [w.astype(np.float64) for w in start]
    for t, weights in enumerate(history):
        d = min(decay, (1 + t) / (10 + t))
        average = [d * a + (1 - d) * w for a, w in zip(average, weights, strict=True)]
    return average


@pytest.mark.parametrize("jit", [None, False, True])
def test_ema_equals_numpy_with_batchnorm_statistics(jit):
    network, average = _models(synchronized=False)
    start = [v.numpy() for v in network.variables]

    def move(updates, images):
        network(images, training=True)
        for v in network.trainable_variables:
            v.assign_add(tf.ones(v.shape))
        optimization.ema_update(average.variables, network.variables, optimization.ema_decay(0.3, updates))

    move = move if jit is None else tf.function(move, jit_compile=jit)
    draw, history = np.random.default_rng(0), []
    for t in range(6):
        move(tf.constant(t, tf.int64), tf.constant(draw.normal(size=(4, 3)), tf.float32))
        history.append([v.numpy() for v in network.variables])
    seeds = [i for i, v in enumerate(network.variables) if not v.dtype.startswith("float")]
    assert len(seeds) == 1 and len(start) == 7
    expected = _ema_numpy(history, start, 0.3)
    for i, v in enumerate(average.variables):
        target = history[-1][i] if i in seeds else expected[i]
        np.testing.assert_allclose(v.numpy(), target, rtol=1e-6, atol=1e-6)


def test_ema_in_replica_context_keeps_the_replicas_equal(mirrored):
    with mirrored.scope():
        network, average = _models()
        sgd = optimization.SGD(0.1, 0.9, 1e-2)
        sgd.build(network.trainable_variables)
    start = [v.numpy() for v in network.variables]

    @tf.function
    def step(images):
        def replica(images):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(network(images, training=True) ** 2) / 8
            decay = optimization.ema_decay(0.3, sgd.iterations)
            sgd.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
            optimization.ema_update(average.variables, network.variables, decay)

        mirrored.run(replica, (images,))

    data = tf.data.Dataset.from_tensor_slices(
        np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    ).batch(8)
    history = []
    for images in mirrored.experimental_distribute_dataset(data):
        step(images)
        history.append([v.numpy() for v in network.variables])
    assert _distance(history[-1][:6], start[:6]) > 1e-2
    expected = _ema_numpy(history, start, 0.3)
    for i, v in enumerate(average.variables):
        first, second = (r.numpy() for r in mirrored.experimental_local_results(v.value))
        np.testing.assert_array_equal(first, second)
        if v.dtype.startswith("float"):
            np.testing.assert_allclose(first, expected[i], rtol=1e-5, atol=1e-6)


def test_ema_refuses_lists_of_different_lengths():
    with pytest.raises(ValueError, match="2 targets and 1 sources"):
        optimization.ema_update([tf.Variable(0.0), tf.Variable(0.0)], [tf.Variable(1.0)], 0.5)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
