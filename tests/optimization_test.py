"""SGD against a transcription of PyTorch's rule, and schedules against hand-made tables.

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


def test_excluded_variables_do_not_decay():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    kernel, bias = model.trainable_variables
    before = [variable.numpy() + 1.0 for variable in (kernel, bias)]
    kernel.assign(before[0]), bias.assign(before[1])
    sgd = optimization.SGD(0.5, 0.9, 0.1)
    sgd.exclude_from_weight_decay(var_names=["bias"])
    sgd.apply([tf.zeros(v.shape) for v in (kernel, bias)], [kernel, bias])
    np.testing.assert_allclose(kernel.numpy(), 0.95 * before[0], rtol=1e-6)
    np.testing.assert_array_equal(bias.numpy(), before[1])


def test_the_cosine_ends_at_0_also_for_a_whole_number():
    assert float(optimization.cosine(1, 100)(100)) == pytest.approx(0.0, abs=1e-6)


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
        ({"gradient_accumulation_steps": 4}, "share their draws"),
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


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
