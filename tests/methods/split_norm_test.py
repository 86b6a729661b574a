"""Split BatchNorm: each kind of row has its own statistics, and the main path stays plain Keras."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, exporting, methods, rng
from fairat_tf.checkpointing import Checkpoints
from fairat_tf.methods.batches import unpack
from fairat_tf.methods.split_norm import SplitNetwork
from fairat_tf.training_loop import Loop, Position
from tests import support

IMAGES = np.random.default_rng(0).uniform(size=(6, *support.SHAPE)).astype(np.float32)
VIEWS = np.array([True, False, False, True, False, True])
PRESENT = np.array([1, 1, 1, 1, 1, 0], np.float32)  # the last view only fills the shape


def norm_of(network):
    (norm,) = (layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization))
    return norm


def split_of(network):
    """Returns the network split, with different numbers in the two sets."""
    split = SplitNetwork(network)
    for seed, norm in enumerate((*split.originals, *split.norms)):
        generator = np.random.default_rng(seed)
        norm.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in norm.get_weights()])
    return split


def before_norm(network, images):
    return keras.Model(network.input, norm_of(network).input)(images).numpy().astype(np.float64)


def after_norm(network, x):
    """Returns the logits that follow from the normalised features."""
    dense = network.layers[-1]
    kernel, bias = (w.astype(np.float64) for w in dense.get_weights())
    return np.tanh(x).reshape(len(x), -1) @ kernel + bias


def normalised(x, mean, variance, norm):
    gamma, beta = (w.astype(np.float64) for w in norm.get_weights()[:2])
    return (x - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta


def test_each_row_is_normalised_by_the_statistics_of_its_kind_and_moves_those_alone():
    network = support.tiny_network(batch_norm=True)
    x = before_norm(network, IMAGES)
    split = split_of(network)
    kinds = {False: split.originals[0], True: split.norms[0]}
    moving = {kind: [w.astype(np.float64) for w in norm.get_weights()[2:]] for kind, norm in kinds.items()}
    expected = np.zeros((6, support.CLASSES))
    logits = split(IMAGES, VIEWS, PRESENT, training=True).numpy()
    for kind, norm in kinds.items():
        counted = x[(kind == VIEWS) & (PRESENT > 0)]
        mean, variance = counted.mean((0, 1, 2)), counted.var((0, 1, 2))
        rows = kind == VIEWS
        expected[rows] = after_norm(network, normalised(x[rows], mean, variance, norm))
        for old, now, new in zip(moving[kind], (mean, variance), norm.get_weights()[2:], strict=True):
            np.testing.assert_allclose(new, 0.9 * old + 0.1 * now, rtol=1e-5)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_inference_uses_the_moving_statistics_of_each_kind_and_moves_nothing():
    network = support.tiny_network(batch_norm=True)
    x, split = before_norm(network, IMAGES), split_of(network)
    before = [w.copy() for w in split.network.get_weights()]
    logits = split(IMAGES, VIEWS, PRESENT).numpy()
    for rows, norm in ((~VIEWS, split.originals[0]), (VIEWS, split.norms[0])):
        mean, variance = norm.get_weights()[2:]
        np.testing.assert_allclose(
            logits[rows], after_norm(network, normalised(x[rows], mean, variance, norm)), rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(network(IMAGES, training=False)[~VIEWS], logits[~VIEWS], atol=1e-5)
    np.testing.assert_allclose(split.views(IMAGES, training=False)[VIEWS], logits[VIEWS], atol=1e-5)
    for a, b in zip(before, split.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [False, True])
def test_a_kind_that_is_absent_moves_nothing_and_the_other_is_plain_keras(kind):
    network = support.tiny_network(batch_norm=True)
    split = split_of(network)
    present, absent = (split.norms, split.originals) if kind else (split.originals, split.norms)
    still = absent[0].get_weights()
    alone = support.tiny_network(batch_norm=True)
    norm_of(alone).set_weights(present[0].get_weights())
    logits = split(IMAGES, np.full(6, kind), np.ones(6, np.float32), training=True)
    np.testing.assert_allclose(logits, alone(IMAGES, training=True), rtol=1e-4, atol=1e-5)
    for a, b in zip(present[0].get_weights(), norm_of(alone).get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for a, b in zip(still, absent[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_are_those_of_two_separate_passes():
    """Loss on the logits of each kind alone = loss on those rows passed alone through a plain network."""
    network = support.tiny_network(batch_norm=True)
    split = split_of(network)
    everyone = np.ones(6, np.float32)
    for kind, norm in ((False, split.originals[0]), (True, split.norms[0])):
        alone = support.tiny_network(batch_norm=True)
        norm_of(alone).set_weights(norm.get_weights())
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(split(IMAGES, VIEWS, everyone, training=True)[kind == VIEWS] ** 2)
        kernel, gamma = network.trainable_variables[0], norm.gamma
        got = tape.gradient(loss, [kernel.value, gamma.value])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(alone(IMAGES[kind == VIEWS], training=True) ** 2)
        want = tape.gradient(loss, [alone.trainable_variables[0].value, norm_of(alone).gamma.value])
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


def test_everything_but_batch_norm_is_shared_and_the_network_is_left_alone():
    network = support.tiny_network(batch_norm=True)
    described, count = network.to_json(), len(network.variables)
    split = SplitNetwork(network)
    assert network.to_json() == described and len(network.variables) == count
    assert len(split.network.variables) == count + 4 == count + len(split.own_variables)
    shared = {id(v) for v in split.network.variables} & {id(v) for v in network.variables}
    assert len(shared) == count
    assert {id(v) for v in split.own_variables}.isdisjoint({id(v) for v in network.variables})
    logits = network(IMAGES, training=False)
    np.testing.assert_allclose(split(IMAGES, VIEWS, PRESENT), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["preact_resnet18", "wrn_10_1", "resnet18", "small_cnn"])
def test_every_network_of_the_package_can_be_split(name):
    from fairat_tf import networks

    network = networks.get(name)(num_classes=3, image_shape=(16, 16, 3), width=4)
    split = SplitNetwork(network)
    images = np.random.default_rng(1).uniform(size=(4, 16, 16, 3)).astype(np.float32)
    views = np.array([True, False, True, False])
    np.testing.assert_allclose(split(images, views, np.ones(4, np.float32)), network(images), atol=1e-5)
    assert len(split.norms) == sum("BatchNormalization" in type(layer).__name__ for layer in network.layers)


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="BatchNormalization layers; .* has none"):
        SplitNetwork(support.tiny_network())
    inner = support.tiny_network(batch_norm=True)
    image = keras.Input(support.SHAPE)
    with pytest.raises(ValueError, match="without models inside"):
        SplitNetwork(keras.Model(image, inner(image)))
    with pytest.raises(ValueError, match="functional"):
        SplitNetwork(keras.Sequential([keras.Input(support.SHAPE), keras.layers.BatchNormalization()]))


# ---- in FairAT ------------------------------------------------------------------------------------------

READINGS = [
    {"hard_score": "start", "loss": "trades", "hard_select": "mean", "easy_fraction": 0.25},
    pytest.param({}, marks=pytest.mark.slow),
    pytest.param({"hard_reattack": False}, marks=pytest.mark.slow),
]
EVERYTHING = {
    "split_bn": True,
    "hard_combine": "append",
    "awp_gamma": 0.01,
    "ema_decay": 0.5,
    "augmentation": "cutout:4",
}


def fairat(strategy=None, steps=2, **options):
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        network = support.tiny_network(batch_norm=True, synchronized=strategy.num_replicas_in_sync > 1)
        return support.make_method("fairat", network, steps=steps, **EVERYTHING | options)


def trained(method, strategy=None, steps=2, **options):
    data = support.batch_of(support.tiny_split(), 16 * steps)
    batches = tf.data.Dataset.from_tensor_slices(data).batch(16, drop_remainder=True)
    loop = Loop(method, strategy or tf.distribute.get_strategy(), **options)
    loop.run(Position(), 1, lambda position: batches, steps)
    return method


def values(variables):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def test_the_statistics_of_a_step_are_those_of_the_plain_rows_and_of_the_views():
    method = fairat(awp_gamma=0.0)
    batch = support.batch_of(support.tiny_split())
    examples = method.training_batch(unpack(batch), step_seed(method))
    assert examples.views.numpy().tolist() == [False] * 16 + [True] * 8
    x = before_norm(method.network, examples.images)
    method.train_step(batch)
    for rows, norm in (
        (~examples.views.numpy(), method.split.originals[0]),
        (examples.views.numpy(), method.split.norms[0]),
    ):
        mean, variance = norm.get_weights()[2:]
        np.testing.assert_allclose(mean, 0.1 * x[rows].mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(variance, 0.9 + 0.1 * x[rows].var((0, 1, 2)), rtol=1e-4)


def step_seed(method):
    return rng.key(method.seed, "train_step", method.optimizer.iterations)


@pytest.mark.parametrize("loss", ["cross_entropy", "trades"])
def test_views_are_attacked_through_their_own_path_and_scored_through_the_main_one(loss):
    seen = []

    class Recording:
        steps = 1
        epsilon = 0.1

        def __call__(self, logits_fn, images, labels, seed, epsilon=None, loss=None):
            seen.append((logits_fn, np.array(images), loss))
            return images

    network = support.tiny_network(batch_norm=True)
    options = {"split_bn": True, "hard_combine": "append", "hard_score": "natural", "loss": loss}
    method = support.make_method("fairat", network, attack=Recording(), **options)
    split = method.split
    split.norms[0].set_weights([w + 0.3 for w in split.norms[0].get_weights()])
    data = support.batch_of(support.tiny_split())
    examples = method.training_batch(unpack(data), step_seed(method))
    (main_fn, images, _), (view_fn, views, divergence) = seen[-2:]
    np.testing.assert_array_equal(images, data["image"])
    np.testing.assert_array_equal(views, examples.natural[16:])
    assert np.abs(network(views) - split.views(views)).max() > 0.01
    np.testing.assert_allclose(main_fn(images), network(images), atol=1e-5)
    np.testing.assert_allclose(view_fn(views), split.views(views), atol=1e-5)
    if loss == "trades":  # the attack leads away from what the views' own path predicts
        np.testing.assert_allclose(divergence(split.views(views), None), np.zeros(8), atol=1e-5)
    z = network(data["image"]).numpy().astype(np.float64)
    cross_entropy = np.log(np.exp(z).sum(1)) - z[np.arange(16), data["label"]]
    np.testing.assert_allclose(examples.scores, cross_entropy, rtol=1e-4)


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_two_devices_equal_one(options, mirrored):
    one, two = trained(fairat(**options), steps=1), trained(fairat(mirrored, **options), mirrored, steps=1)
    for a, b in zip(values(one.state), values(two.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_xla_equals_graph(options):
    graph, compiled = trained(fairat(**options)), trained(fairat(**options), jit_compile=True)
    for a, b in zip(values(graph.variables), values(compiled.variables), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_checkpoints_average_decay_and_weight_perturbation_cover_the_views_own_variables(tmp_path):
    method = trained(fairat())
    own = {id(variable) for variable in method.split.own_variables}
    assert own <= {id(variable) for variable in method.state}
    assert {id(v) for v in method.split_average.own_variables} <= {id(v) for v in method.state}
    assert len({id(v) for v in method.variables}) == len(method.variables)
    Checkpoints(tmp_path, method.state).save({}, 2)
    again = fairat()
    Checkpoints(tmp_path, again.state).restore()
    for a, b in zip(values(method.state), values(again.state), strict=True):
        np.testing.assert_array_equal(a, b)
    trained(method, steps=1), trained(again, steps=1)
    for a, b in zip(values(method.state), values(again.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_moving_average_of_the_views_is_taken_by_the_same_rule():
    method = fairat(awp_gamma=0.0)
    before = values(method.split_average.own_variables)
    method.train_step(support.batch_of(support.tiny_split()))
    now, average = values(method.split.own_variables), values(method.split_average.own_variables)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(before, now, strict=True))
    decay = 2 / 11  # of the second update on: min(0.5, (1 + 1) / (10 + 1))
    for old, new, got in zip(before, now, average, strict=True):
        np.testing.assert_allclose(got, decay * old + (1 - decay) * new, rtol=1e-5, atol=1e-6)


def test_weight_decay_moves_the_views_own_scale_and_perturbation_leaves_statistics_alone():
    plain, perturbed = fairat(awp_gamma=0.0, ema_decay=0.0), fairat(awp_gamma=1e-9, ema_decay=0.0)
    for method in (plain, perturbed):
        method.train_step(support.batch_of(support.tiny_split()))
    for a, b in zip(values(plain.split.own_variables), values(perturbed.split.own_variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    names = [v.path for v in plain.optimizer.buffers]
    assert sum("_views" in name for name in names) == 2, names


def test_until_there_are_views_their_batch_norm_follows_the_main_one():
    method = fairat(hard_warmup_epochs=1, easy_fraction=0.5)
    method.train_step(support.batch_of(support.tiny_split()))
    own, main = method.split.norms[0], method.split.originals[0]
    assert np.abs(own.get_weights()[2] - main.get_weights()[2]).max() > 1e-4
    train = {"robust": np.ones(4), "hard_share": np.zeros(4)}
    method.on_epoch_end(0, train, {})
    for a, b in zip(own.get_weights(), main.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    method.on_epoch_begin(1)
    method.train_step(support.batch_of(support.tiny_split()))
    moved = own.get_weights()
    method.on_epoch_end(1, train | {"hard_share": np.array([0.5, np.nan, 0.5, 0.5])}, {})
    for a, b in zip(own.get_weights(), moved, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(own.get_weights()[2] - main.get_weights()[2]).max() > 1e-4


def test_what_is_saved_and_exported_is_plain_keras_with_the_main_statistics(tmp_path):
    method = trained(fairat(ema_decay=0.0))
    network = method.evaluated_network
    assert network is method.network
    network.save(tmp_path / "model.keras")
    exporting.export(network, tmp_path / "export")
    np.save(tmp_path / "images.npy", IMAGES)
    code = (
        "import keras, numpy as np, tensorflow as tf, sys\n"
        "x = np.load('images.npy')\n"
        "model = keras.models.load_model('model.keras')\n"
        "assert not any('split' in w.path or 'views' in w.path for w in model.weights)\n"
        "export = tf.saved_model.load('export')\n"
        "served = export.serve(tf.constant(x))\n"
        "np.testing.assert_allclose(served, model(x), atol=1e-5)\n"
        "assert not any(name.startswith('fairat_tf') for name in sys.modules)\n"
        "np.save('logits.npy', model(x))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), network(IMAGES, training=False), atol=1e-5)


def test_split_bn_where_views_replace_the_hard_examples_is_refused():
    with pytest.raises(ValueError, match="split_bn needs hard_combine=append"):
        fairat(hard_combine="replace")


def test_a_network_without_batch_norm_is_refused():
    options = {"num_classes": 4, "split_bn": True, "hard_combine": "append"}
    with pytest.raises(ValueError, match="split_bn needs a network with BatchNormalization"):
        methods.get("fairat")(support.tiny_network(), attack=attacks.get("pgd")(), **options)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
