"""SGD against a transcription of PyTorch's rule, schedules against hand-made tables, and the moving average.

Where PyTorch is installed, it is asked itself.
"""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import optimization

_SHAPES = ((3, 4), (4,), (2, 2, 1, 3))
_STEPS = 20


def _rate(step: int) -> float:
    return (0.1, 0.01, 0.001)[(step >= 8) + (step >= 15)]


def _problem(dtype: str = "float32") -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    draw = np.random.default_rng(7)
    weights = [draw.normal(size=s).astype(dtype) for s in _SHAPES]
    gradients = [[draw.normal(size=s).astype(dtype) for s in _SHAPES] for _ in range(_STEPS)]
    return weights, gradients


def _pytorch_rule(weights, gradients, momentum, weight_decay, nesterov):
    """torch.optim.SGD's documented algorithm in float64, one array after the other."""
    result = []
    for i, start in enumerate(weights):
        w, buf = start.astype(np.float64), None
        for step in range(_STEPS):
            g = gradients[step][i].astype(np.float64) + weight_decay * w
            if momentum:
                buf = g if buf is None else momentum * buf + g
                g = g + momentum * buf if nesterov else buf
            w = w - _rate(step) * g
        result.append(w)
    return result


def _run(optimizer, weights, gradients, jit=None):
    variables = [keras.Variable(w, dtype=w.dtype.name, name=f"w{i}") for i, w in enumerate(weights)]
    optimizer.build(variables)

    def apply(*g):
        optimizer.apply(list(g), variables)

    step = apply if jit is None else tf.function(apply, jit_compile=jit)
    for g in gradients:
        step(*[tf.constant(a) for a in g])
    return [v.numpy() for v in variables]


def _piecewise():
    return optimization.PiecewiseConstant([8, 15], [0.1, 0.01, 0.001])


def _distance(a, b) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


_RULES = [(0.9, 5e-2, False), (0.9, 5e-2, True), (0.0, 5e-2, False), (0.5, None, False)]


@pytest.mark.parametrize("momentum, weight_decay, nesterov", _RULES)
@pytest.mark.parametrize("jit", [None, False, True])
def test_twenty_steps_equal_pytorchs_rule(momentum, weight_decay, nesterov, jit):
    weights, gradients = _problem()
    sgd = optimization.SGD(_piecewise(), momentum, weight_decay, nesterov)
    expected = _pytorch_rule(weights, gradients, momentum, weight_decay or 0.0, nesterov)
    assert _distance(_run(sgd, weights, gradients, jit), expected) < 2e-6


@pytest.mark.parametrize("weight_decay", [0.0, 5e-2])
def test_keras_own_rule_is_another_one(weight_decay):
    """So that the test above can fail: without decay the drop differs, with it the decay does as well."""
    weights, gradients = _problem()
    expected = _pytorch_rule(weights, gradients, 0.9, weight_decay, False)
    keras_sgd = keras.optimizers.SGD(_piecewise(), 0.9, weight_decay=weight_decay or None)
    assert _distance(_run(keras_sgd, weights, gradients), expected) > 0.05


def test_first_step_and_the_step_after_a_drop_by_hand():
    """w = 1, g = 1, decay 0.5, momentum 0.5, rates 0.1 then 0.01.

    Step 1: g = 1.5, buf = 1.5, w = 0.85. Step 2: g = 1.425, buf = 0.75 + 1.425 = 2.175, w = 0.82825.
    """
    w = keras.Variable([1.0])
    sgd = optimization.SGD(optimization.PiecewiseConstant([1], [0.1, 0.01]), 0.5, 0.5)
    for expected in (0.85, 0.82825):
        sgd.apply([tf.constant([1.0])], [w])
        np.testing.assert_allclose(w.numpy(), [expected], rtol=1e-6)


def test_float64_variables_keep_float64():
    weights, gradients = _problem("float64")
    got = _run(optimization.SGD(_piecewise(), 0.9, 5e-2), weights, gradients)
    assert got[0].dtype == np.float64
    assert _distance(got, _pytorch_rule(weights, gradients, 0.9, 5e-2, False)) < 1e-6


@pytest.mark.parametrize("momentum, weight_decay, nesterov", _RULES)
def test_equal_to_torch(momentum, weight_decay, nesterov):
    torch = pytest.importorskip("torch")
    weights, gradients = _problem()
    tensors = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    theirs = torch.optim.SGD(tensors, 0.1, momentum, weight_decay=weight_decay or 0.0, nesterov=nesterov)
    for step, g in enumerate(gradients):
        theirs.param_groups[0]["lr"] = _rate(step)
        for tensor, a in zip(tensors, g, strict=True):
            tensor.grad = torch.tensor(a)
        theirs.step()
    got = _run(optimization.SGD(_piecewise(), momentum, weight_decay, nesterov), weights, gradients)
    assert _distance(got, [t.detach().numpy() for t in tensors]) < 2e-6


def test_two_replicas_sum_the_gradients(mirrored):
    weights, gradients = _problem()
    with mirrored.scope():
        variables = [keras.Variable(w, name=f"w{i}") for i, w in enumerate(weights)]
        sgd = optimization.SGD(_piecewise(), 0.9, 5e-2)
        sgd.build(variables)

    @tf.function
    def step(*g):
        def replica(*g):
            share = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
            sgd.apply([a * (0.25 + 0.5 * share) for a in g], variables)

        mirrored.run(replica, g)

    for g in gradients:
        step(*[tf.constant(a) for a in g])
    got = [[x.numpy() for x in mirrored.experimental_local_results(v.value)] for v in variables]
    expected = _pytorch_rule(weights, gradients, 0.9, 5e-2, False)
    assert _distance([pair[0] for pair in got], expected) < 2e-6
    assert _distance([pair[0] for pair in got], [pair[1] for pair in got]) == 0


def test_batchnorm_and_biases_decay_too():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs)))
    before = [v.numpy() + 1.0 for v in model.trainable_variables]
    for v, w in zip(model.trainable_variables, before, strict=True):
        v.assign(w)
    sgd = optimization.SGD(0.5, 0.9, 0.1)
    sgd.apply([tf.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    assert len(before) == 4
    for v, w in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(v.numpy(), 0.95 * w, rtol=1e-6)


def test_mixed_precision_keeps_float32_weights_and_the_rule():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, dtype="mixed_bfloat16")(inputs))
    (kernel,) = model.trainable_variables
    start = kernel.numpy()
    optimization.SGD(0.5, 0.0, 0.1).apply([tf.ones([4, 1], tf.bfloat16)], [kernel])
    np.testing.assert_allclose(kernel.numpy(), start - 0.5 * (1 + 0.1 * start), rtol=1e-6)


def test_resumes_bitwise_after_saving(tmp_path):
    images = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")

    def make():
        inputs = keras.Input((4,))
        init = keras.initializers.GlorotUniform(seed=1)
        model = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer=init)(inputs))
        rate = optimization.schedule("piecewise:0.5", learning_rate=0.1, steps_per_epoch=1, epochs=4)
        model.compile(optimization.SGD(rate, 0.9, 1e-2, nesterov=True), "mse")
        return model

    def train(model, steps):
        for _ in range(steps):
            model.train_on_batch(images, images[:, :2])
        return model

    whole = train(make(), 4)
    train(make(), 2).save(tmp_path / "half.keras")
    resumed = keras.saving.load_model(tmp_path / "half.keras")
    assert resumed.optimizer.get_config() == whole.optimizer.get_config()
    train(resumed, 2)
    for a, b in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov"),
    ],
)
def test_sgd_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        optimization.SGD(0.1, **options)


# Rates at chosen steps, from the definitions, for learning rate 0.1.
_TABLES = [
    ("piecewise", 390, 110, {0: 0.1, 38999: 0.1, 39000: 0.01, 40949: 0.01, 40950: 0.001, 50000: 0.001}),
    ("piecewise", 10, 11, {99: 0.1, 100: 0.01, 104: 0.01, 105: 0.001}),
    ("piecewise:0.5,0.75", 5, 8, {19: 0.1, 20: 0.01, 29: 0.01, 30: 0.001}),
    ("cosine", 4, 10, {0: 0.1, 10: 0.05 * (1 + math.sqrt(0.5)), 20: 0.05, 40: 0.0, 41: 0.0}),
    ("one_cycle", 4, 5, {0: 0.0125, 3: 0.05, 7: 0.1, 8: 0.1 * 11 / 12, 13: 0.05, 19: 0.0, 25: 0.0}),
    ("one_cycle:0.5", 4, 5, {0: 0.01, 9: 0.1, 10: 0.09, 14: 0.05, 19: 0.0}),
    ("constant", 3, 2, {0: 0.1, 5: 0.1, 600: 0.1}),
]


@pytest.mark.parametrize("kind, steps_per_epoch, epochs, table", _TABLES)
@pytest.mark.parametrize("jit", [None, False, True])
def test_schedule_values(kind, steps_per_epoch, epochs, table, jit):
    made = optimization.schedule(kind, learning_rate=0.1, steps_per_epoch=steps_per_epoch, epochs=epochs)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(made))
    for rate in (made, again):
        rate = rate if jit is None else tf.function(rate, jit_compile=jit)
        for step, value in table.items():
            got = rate(tf.constant(step, tf.int64))
            assert got.dtype == tf.float32
            np.testing.assert_allclose(got, value, rtol=1e-6, atol=1e-8)


def test_every_kind_has_a_table():
    assert {kind.partition(":")[0] for kind, *_ in _TABLES} == set(optimization.schedule_names())


@pytest.mark.parametrize(
    "kind, epochs, words",
    [
        ("step", 3, "piecewise, cosine, one_cycle, constant"),
        ("piecewise:1.5", 3, "fractions"),
        ("piecewise:0.75,0.5", 3, "ascending"),
        ("piecewise:half", 3, "half"),
        ("one_cycle:1", 3, "one_cycle"),
        ("cosine:0.5", 3, "cosine"),
        ("cosine", 0, "one step"),
    ],
)
def test_schedule_refuses(kind, epochs, words):
    with pytest.raises(ValueError, match=words):
        optimization.schedule(kind, learning_rate=0.1, steps_per_epoch=2, epochs=epochs)


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
