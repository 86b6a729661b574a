"""The configuration reaches the live parts: every value here is one that no default has."""

import dataclasses

import numpy as np
import pytest

from fairat_tf import assembly, train_lib
from fairat_tf.config import Attack, Config, Data, Network, Optimization, Run
from fairat_tf.training_loop import Position
from tests import support

THREAT = Attack(norm="l2", epsilon=0.7, steps=3, step_size=0.11, validation_steps=6)
MOVES = Optimization(
    epochs=5,
    learning_rate=0.3,
    schedule="piecewise:0.4,0.8",
    momentum=0.8,
    nesterov=True,
    weight_decay=0.02,
    ema_decay=0.75,
)
CONFIG = Config(
    data=Data(
        dataset="own",  # not among the known ones: its pixels are measured
        batch_size=12,
        validation_fraction=0.25,
        weak_augmentation="none",
    ),
    network=Network(network="small_cnn", width=3),
    attack=THREAT,
    optimization=MOVES,
    run=Run(seed=1, precision="bfloat16", jit_compile=True),
    method="trades",
    options={"beta": 2.5},
)
DATASET = support.tiny_dataset()


def assembled(config=CONFIG, **run):
    return assembly.assemble(dataclasses.replace(config, run=dataclasses.replace(config.run, **run)), DATASET)


def rows(parts, epoch=0):
    return np.concatenate([batch["index"] for batch in parts.training(Position(epoch, 0))])


@pytest.fixture(scope="module")
def parts():
    return assembled()


def test_the_optimizer_has_momentum_decay_and_the_rate_of_each_step():
    optimizer = assembled().method.optimizer
    assert (optimizer.momentum, optimizer.nesterov, optimizer.coupled_weight_decay) == (0.8, True, 0.02)
    steps = (96 - 24) // 12 * 5  # a quarter of 96 is kept for validation
    for step, rate in ((0, 0.3), (0.4 * steps - 1, 0.3), (0.4 * steps, 0.03), (0.8 * steps, 0.003)):
        optimizer.iterations.assign(round(step))
        np.testing.assert_allclose(float(optimizer.learning_rate), rate, rtol=1e-6, err_msg=str(step))


def test_both_attacks_have_the_threat_model_and_each_its_steps(parts):
    for attack, steps in ((parts.method.attack, 3), (parts.method.validation_attack, 6)):
        assert (attack.norm, attack.epsilon, attack.step_size, attack.steps) == ("l2", 0.7, 0.11, steps)


def test_the_step_is_a_quarter_of_the_radius_where_it_is_not_given():
    config = dataclasses.replace(CONFIG, attack=dataclasses.replace(THREAT, step_size=None))
    method = assembled(config).method
    assert (method.attack.step_size, method.validation_attack.step_size) == (0.7 / 4, 0.7 / 4)


def test_the_method_has_its_options_its_seed_and_the_size_of_the_data(parts):
    method = parts.method
    assert (type(method).__name__, method.options.beta, method.seed) == ("TRADES", 2.5, 1)
    assert (method.num_classes, method.num_examples, method.epochs) == (4, 72, 5)
    assert method.ema_decay == 0.75 and method.evaluated_network is method.ema_network
    assert method.jit_compile and not assembled(jit_compile=False).method.jit_compile


def test_batches_have_the_size_asked_for_and_validation_its_share_of_each_class(parts):
    assert parts.steps == len(list(parts.training(Position()))) == 6
    assert next(iter(parts.training(Position())))["image"].shape == (12, *support.SHAPE)
    assert [batch["image"].shape[0] for batch in parts.validation()] == [12, 12]
    np.testing.assert_array_equal(parts.validation_split.counts(4), [6, 6, 6, 6])
    assert len(list(parts.training(Position(0, 4)))) == 2


def test_the_network_normalises_with_mean_and_deviation_of_the_training_pixels(parts):
    pixels = DATASET.train.images / 255.0
    layer = parts.method.network.get_layer("normalise")
    np.testing.assert_allclose(np.ravel(layer.mean), pixels.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(np.ravel(layer.variance), pixels.var((0, 1, 2)), rtol=1e-5)
    assert np.ptp(np.ravel(layer.mean)) > 0  # so that the order of the channels matters


def test_the_width_and_precision_of_the_network(parts):
    for precision, dtype in (("bfloat16", "bfloat16"), ("float32", "float32")):
        network = (parts if precision == "bfloat16" else assembled(precision=precision)).method.network
        layers = {layer.name: layer for layer in network.layers}
        assert {layers[name].compute_dtype for name in ("conv1", "bn1", "relu4")} == {dtype}
        assert {layers[name].compute_dtype for name in ("normalise", "pool", "logits")} == {"float32"}
        assert {w.dtype for w in network.trainable_variables} == {"float32"}
    assert layers["conv1"].filters == 3 and layers["logits"].units == 4


def test_the_seed_decides_initial_weights_validation_split_and_the_order_of_batches(parts):
    again, other = assembled(), assembled(seed=0)
    first, same, different = (p.method.network.get_weights() for p in (parts, again, other))
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = zip(first, different, parts.method.network.weights, strict=True)
    kernels = [(a, b) for a, b, weight in pairs if "kernel" in weight.path]
    assert len(kernels) == 5 and all((a != b).any() for a, b in kernels)
    np.testing.assert_array_equal(rows(parts), rows(again))
    assert (rows(parts) != rows(other)).any() and (rows(parts) != rows(parts, epoch=1)).any()
    assert parts.validation_split.fingerprint() == again.validation_split.fingerprint()
    assert parts.validation_split.fingerprint() != other.validation_split.fingerprint()


def batch_with(**data):
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, **data))
    parts = assembled(config)
    batch = next(iter(parts.training(Position())))
    return batch, parts.train.images[batch["index"].numpy()] / np.float32(255)


def test_training_images_are_augmented_and_mixed_as_asked_for():
    batch, plain = batch_with()
    np.testing.assert_array_equal(batch["image"], plain)
    batch, plain = batch_with(weak_augmentation="flip", mix="mixup", mix_probability=0.5)
    views = list(zip(batch["image"].numpy(), plain, strict=True))
    kept, turned = ([(view == image[:, ::s]).all() for view, image in views] for s in (1, -1))
    single = np.logical_or(kept, turned)
    assert any(kept) and any(turned) and not single.all()
    assert (batch["soft_label"].numpy().max(1)[single] == 1).all() and batch["soft_label"].numpy().max(
        1
    ).min() < 1


class Seen(Exception):
    """Ends a run where its loop would begin."""


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({}, ("stop", 600.0, False)),
        ({"on_divergence": "rollback"}, ("rollback", 600.0, False)),
        ({"checkpoint_minutes": 7.0}, ("stop", 420.0, False)),
        ({"jit_compile": True}, ("stop", 600.0, True)),
    ],
    ids=["default", "on_divergence", "checkpoint_minutes", "jit_compile"],
)
def test_the_loop_is_told_of_divergence_checkpoints_and_xla(run, expected, tmp_path, monkeypatch):
    def loop(method, strategy, **arguments):
        told = [arguments[name] for name in ("on_divergence", "checkpoint_seconds", "jit_compile")]
        raise Seen(*told)

    monkeypatch.setattr(train_lib, "Loop", loop)
    monkeypatch.setattr(assembly, "load", lambda config: DATASET)
    settings = Run(run_dir=str(tmp_path / "run"), tensorboard=False, **run)
    with pytest.raises(Seen) as seen:
        train_lib.train(dataclasses.replace(CONFIG, run=settings))
    assert seen.value.args == expected


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
