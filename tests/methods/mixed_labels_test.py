"""Mixed images: attack, loss and class-wise values follow the label distribution, whatever the method."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import assembly, attacks, augment, errors, methods, rng, train_lib
from fairat_tf.config import Attack, Config, Data, Network, Optimization
from fairat_tf.data import pipeline
from fairat_tf.methods.batches import unpack
from fairat_tf.objectives import losses, robust
from fairat_tf.objectives.classwise import class_sums, class_values
from fairat_tf.training_loop import Loop, Position
from tests import support
from tests.methods import oracle

SOFT = np.array(
    [[0.7, 0.3, 0], [0, 1, 0], [0.4, 0, 0.6], [0.2, 0.5, 0.3], [1, 0, 0], [0.5, 0.5, 0]], np.float32
)
HARD = [0, 1, 2, 1, 0, 0]  # the largest share, ties to the lower class
METHODS = [name for name in methods.names() if not methods.get(name).not_with_mix or name == "fairat"]
COUPLED = {"faal", "fat_var"}  # the loss of an example depends on the labels of the others


def batch():
    return oracle.batch() | {"soft_label": tf.constant(SOFT)}


# ---- what comes in ----------------------------------------------------------------------------------------


def test_the_class_that_counts_is_the_one_with_the_largest_share():
    unpacked = unpack(batch())
    assert unpacked.labels.numpy().tolist() == HARD and unpacked.labels.dtype == tf.int32
    np.testing.assert_array_equal(unpacked.truth, SOFT)
    plain = unpack(oracle.batch())
    assert plain.soft is None and plain.truth is plain.labels


def mixing(spec="mixup", probability=1.0, classes=4):
    return augment.get_mixing(spec, classes, probability)


@pytest.mark.parametrize("spec", ["mixup", "cutmix:0.5"])
def test_the_pipeline_mixes_the_global_batch_by_the_step(spec):
    split = support.tiny_split(48)
    options = {"batch_size": 16, "seed": 3, "epoch": 1, "mix": mixing(spec)}
    batches = list(pipeline.training_batches(split, **options))
    plain = list(pipeline.training_batches(split, **options | {"mix": None}))
    assert "soft_label" not in plain[0]
    for step, (mixed, own) in enumerate(zip(batches, plain, strict=True)):
        seed = rng.key(3, "mix", 3 + step)  # the second epoch of three steps
        images, soft = augment.get_mix(spec)(own["image"], tf.one_hot(own["label"], 4), seed)
        np.testing.assert_allclose(mixed["image"], images, atol=1e-6)
        np.testing.assert_allclose(mixed["soft_label"], soft, atol=1e-6)
        np.testing.assert_array_equal(mixed["index"], own["index"])
    (last,) = pipeline.training_batches(split, **options, first_step=2)
    np.testing.assert_array_equal(last["image"], batches[2]["image"])


def test_mixing_takes_its_share_of_the_examples_and_leaves_the_rest_bit_for_bit():
    images = tf.constant(np.random.default_rng(0).random((400, 4, 4, 3), np.float32))
    labels = tf.constant(np.arange(400) % 4, tf.int32)
    mixed, soft = mixing("mixup", 0.3)(images, labels, rng.key(0, "test"))
    kept = soft.numpy().max(1) == 1.0
    assert abs(np.mean(~kept) - 0.3 * 0.75) < 0.07  # a partner of the same class leaves the label as it is
    same = (mixed.numpy() == images.numpy()).all((1, 2, 3))
    assert abs(np.mean(~same) - 0.3) < 0.07 and (soft.numpy()[same] == np.eye(4)[labels.numpy()[same]]).all()


@pytest.mark.parametrize("probability", [0.0, 1.5])
def test_an_impossible_chance_is_refused(probability):
    with pytest.raises(ValueError, match="mix_probability"):
        mixing(probability=probability)
    assert augment.get_mixing("", 4) is None


# ---- what belongs to a class ------------------------------------------------------------------------------


def test_values_and_sums_of_classes_under_distributions():
    values, rows = np.array([1.0, 10.0, 100.0], np.float32), np.arange(12, dtype=np.float32).reshape(6, 2)
    expected = [sum(share * v for share, v in zip(row, values, strict=True)) for row in SOFT]
    np.testing.assert_allclose(class_values(tf.constant(values), tf.constant(SOFT)), expected, rtol=1e-6)
    sums = [[sum(SOFT[i, k] * rows[i, j] for i in range(6)) for j in range(2)] for k in range(3)]
    np.testing.assert_allclose(class_sums(tf.constant(rows), tf.constant(SOFT), 3), sums, rtol=1e-6)
    one_hot, labels = tf.one_hot(HARD, 3), tf.constant(HARD)
    np.testing.assert_allclose(class_values(tf.constant(values), one_hot), values[HARD], rtol=1e-6)
    np.testing.assert_allclose(
        class_sums(tf.constant(rows), one_hot, 3), class_sums(tf.constant(rows), labels, 3), rtol=1e-6
    )


@pytest.mark.parametrize("name", robust.names())
def test_one_hot_distributions_give_the_losses_of_labels(name):
    generator = np.random.default_rng(5)
    logits, natural = (tf.constant(generator.normal(size=(6, 3)), tf.float32) for _ in range(2))
    labels, one_hot = tf.constant(HARD), tf.one_hot(HARD, 3)
    objective = robust.get(name)()
    for a, b in zip(
        objective.terms(logits, natural, labels, labels),
        objective.terms(logits, natural, one_hot, one_hot),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses.margin(logits, one_hot), losses.margin(logits, labels))


def test_mart_under_distributions_by_hand():
    generator = np.random.default_rng(6)
    z, natural = generator.normal(size=(2, 6, 3))
    q, p = oracle.softmax(z), oracle.softmax(natural)
    error, boundary = [], []
    for i, share in enumerate(SOFT.astype(np.float64)):
        rival = max((q[i, k] for k in range(3) if share[k] == 0), default=0.0)
        error.append(-sum(s * np.log(v) for s, v in zip(share, q[i], strict=True)) - np.log(1.0001 - rival))
        divergence = sum(p[i] * np.log(p[i] / q[i]))
        boundary.append(divergence * (1.0000001 - sum(share * p[i])))
    terms = robust.Mart().terms(*(tf.constant(v, tf.float32) for v in (z, natural, SOFT, SOFT)))
    np.testing.assert_allclose(terms.error, error, rtol=1e-4)
    np.testing.assert_allclose(terms.boundary, boundary, rtol=1e-4, atol=1e-7)


# ---- steps by closed form ---------------------------------------------------------------------------------


def step_with(method, rows):
    before = oracle.kernel(method).astype(np.float64)
    expected = oracle.after_step(before, oracle.gradient(rows))
    method.train_step(batch())
    np.testing.assert_allclose(oracle.kernel(method), expected, rtol=1e-5, atol=1e-6)


def soft_mean(by_class):
    return SOFT @ np.asarray(by_class, np.float64)


def test_pgd_at_step_with_smoothing_and_class_weights():
    method = oracle.linear_method("pgd_at", label_smoothing=0.3, class_weights="0.5,1,2")
    targets, weights = 0.7 * SOFT + 0.1, soft_mean([0.5, 1, 2])
    step_with(method, oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), targets, weights))


def test_class_label_smoothing_is_the_mean_under_the_label():
    method = oracle.linear_method("pgd_at", class_label_smoothing=0.5)
    method.on_epoch_end(0, {"robust": np.array([0.8, 0.4, 0.0])}, {})
    s = 0.5 * soft_mean([0.8, 0.4, 0.0])[:, None]
    step_with(method, oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), (1 - s) * SOFT + s / 3))


def test_trades_step():
    method = oracle.linear_method("trades", beta=2.0)
    step_with(method, oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, oracle.shifted(), SOFT, 2.0))


def test_dafa_step_and_its_probabilities():
    scale = np.array([1.2, 0.9, 1.0])
    method = oracle.linear_method("dafa", beta=2.0, dafa_warmup=0.0)
    method.class_scale.assign(scale)
    weights = soft_mean(scale)
    adversarial = oracle.shifted(0.1 * weights)
    rows = oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, adversarial, SOFT, 2.0, weights)
    step_with(method, rows)
    q = oracle.softmax(oracle.flat(adversarial) @ oracle.KERNEL)
    np.testing.assert_allclose(oracle.value(method.probabilities), SOFT.T @ q, rtol=1e-4)
    np.testing.assert_allclose(oracle.value(method.seen), SOFT.sum(0), rtol=1e-6)


def test_cfa_step():
    method = oracle.linear_method("cfa", beta=2.0, epochs=4, cfa_begin=0.0, cfa_average=False)
    method.on_epoch_end(0, {"robust": np.array([0.9, 0.5, 0.1])}, {})
    method.on_epoch_begin(1)
    t = soft_mean([0.9, 0.5, 0.1])
    adversarial, beta = oracle.shifted(0.1 * (0.3 + t)), 2.0 * (0.5 + t)
    rows = oracle.trades_rows(
        oracle.KERNEL, oracle.IMAGES, adversarial, SOFT, 1.0, 1 / (1 + beta), beta / (1 + beta)
    )
    step_with(method, rows)


def test_wat_step():
    method = oracle.linear_method("wat", beta=2.0)
    method.weights_by_class.assign([0.5, 1.0, 1.5, 0.8])
    weights = soft_mean([0.5, 1.0, 1.5]) + 0.8
    step_with(
        method,
        oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, oracle.shifted(), SOFT, 2.0, weights, weights),
    )


def test_frl_step():
    method = oracle.linear_method("frl", beta=1.5)
    natural, boundary, margin = [0.2, 0.0, 0.1], [0.0, 0.3, 0.0], np.array([0.3, -0.4, 0.1])
    method.natural_multipliers.assign(natural)
    method.boundary_multipliers.assign(boundary)
    method.margin_multipliers.assign(margin)

    def relative(multipliers):
        weights = soft_mean(1 / 3 + np.array(multipliers) - np.mean(multipliers))
        return weights / weights.mean()

    radius = 0.1 * soft_mean(np.clip(np.exp(2 * margin), 0.98, 3.0))
    rows = oracle.trades_rows(
        oracle.KERNEL, oracle.IMAGES, oracle.shifted(radius), SOFT, 1.5, relative(natural), relative(boundary)
    )
    step_with(method, rows)


def test_fairat_scores_by_the_cross_entropy_above_the_labels_own_entropy():
    method = oracle.linear_method("fairat", hard_score="natural", hard_fraction=0.34)
    examples = method.training_batch(unpack(batch()), rng.key(0, "test"))
    z = oracle.flat(oracle.IMAGES) @ oracle.KERNEL
    p = oracle.softmax(z)
    pairs = [zip(shares, ps, strict=True) for shares, ps in zip(SOFT, p, strict=True)]
    excess = [sum(t * np.log(t / q) for t, q in pair if t) for pair in pairs]
    np.testing.assert_allclose(examples.scores, excess, rtol=1e-4, atol=1e-6)
    assert np.flatnonzero(examples.hard).tolist() == sorted(np.argsort(excess)[-2:])
    cross_entropy = -(SOFT * np.log(p)).sum(1)
    assert sorted(np.argsort(cross_entropy)[-2:]) != sorted(np.argsort(excess)[-2:]), "or this tells nothing"
    np.testing.assert_array_equal(examples.truth, SOFT)


def test_appended_views_keep_their_labels():
    method = oracle.linear_method("fairat", hard_combine="append", augmentation="flip")
    examples = method.training_batch(unpack(batch()), rng.key(0, "test"))
    rows = np.flatnonzero(examples.hard)
    np.testing.assert_array_equal(examples.truth[:6], SOFT)
    np.testing.assert_array_equal(np.sort(examples.truth[6:], 0), np.sort(SOFT[rows], 0))


# ---- every method -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_attacks_and_trains_towards_the_distribution(name):
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Recording(oracle.Shift):
        def __call__(self, logits_fn, images, labels, seed, epsilon=None, loss=None):
            seen.append(labels)
            return super().__call__(logits_fn, images, labels, seed, epsilon, loss)

    guide = {"teacher_logits": oracle.teacher} if name == "rslad" else {}
    method = support.make_method(name, oracle.linear_network(), attack=Recording(), num_examples=6, **guide)
    examples = method.training_batch(unpack(batch()), rng.key(0, "test"))
    assert seen or not method.adversarial
    assert all(labels.dtype.is_floating and labels.shape[1:] == (oracle.CLASSES,) for labels in seen)
    assert examples.soft is not None and examples.labels.dtype == tf.int32
    if name == "rslad":  # learns from its teacher alone, mixed or not
        return
    soft, _ = method.per_example_loss(examples)
    hard, _ = method.per_example_loss(examples._replace(soft=None))
    mixed = examples.truth.numpy().max(1) < 1
    assert (np.abs(soft - hard)[mixed] > 1e-4).all()
    if name not in COUPLED:
        np.testing.assert_allclose(soft[~mixed], hard[~mixed], rtol=1e-4)
    logs = method.train_step(batch())
    assert np.isfinite(float(logs["loss"]))
    assert method.train_confusion.matrix().sum(1).tolist() == np.bincount(HARD, minlength=3).tolist()


def trained(name, strategy=None, **options):
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        network = support.tiny_network(batch_norm=True, synchronized=strategy.num_replicas_in_sync > 1)
        method = support.make_method(name, network)
    data = pipeline.training_batches(
        support.tiny_split(16), batch_size=16, seed=0, epoch=0, mix=mixing("cutmix", 0.8)
    )
    Loop(method, strategy, **options).run(Position(), 1, lambda position: data, 1)
    return method


SOME = [name if name == "dafa" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]


@pytest.mark.parametrize("name", SOME)
def test_two_devices_equal_one(name, mirrored):
    one, two = trained(name), trained(name, mirrored)
    for a, b in zip(one.network.get_weights(), two.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(one.train_metrics, two.train_metrics, strict=True):
        np.testing.assert_allclose(a.per_class(), b.per_class(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SOME)
def test_xla_equals_graph(name):
    graph, compiled = trained(name), trained(name, jit_compile=True)
    for a, b in zip(graph.network.get_weights(), compiled.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


# ---- the flags --------------------------------------------------------------------------------------------


def config(**options):
    data = Data(batch_size=16, weak_augmentation="none", mix="cutmix", mix_probability=0.5)
    return Config(
        data=data,
        network=Network(network="small_cnn", width=4),
        attack=Attack(steps=1),
        optimization=Optimization(epochs=1, learning_rate=0.1, schedule="constant"),
        options=options,
    )


def test_the_flags_reach_the_batches():
    parts = assembly.assemble(config(), support.tiny_dataset())
    assert parts.mix == augment.get_mixing("cutmix", 4, 0.5)
    (first, *_) = parts.training(Position())
    soft = first["soft_label"].numpy()
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
    assert 0.1 < np.mean(soft.max(1) < 1) < 0.7


def test_what_remembers_examples_does_not_go_with_mixing(monkeypatch):
    monkeypatch.setattr(assembly, "load", lambda wanted: support.tiny_dataset())
    with pytest.raises(errors.UsageError, match="mix=cutmix does not go with hard_score=memory"):
        train_lib.train(config(hard_score="memory"), dry_run=True)


def test_the_attack_that_training_uses_takes_distributions():
    attack = attacks.get("pgd")(epsilon=0.1, step_size=0.1, steps=1, random_start=False)
    got = attack(oracle.linear_network(), tf.constant(oracle.IMAGES), tf.constant(SOFT), rng.key(0, "test"))
    x = oracle.flat(oracle.IMAGES)
    gradient = (oracle.softmax(x @ oracle.KERNEL) - SOFT) @ oracle.KERNEL.T
    np.testing.assert_allclose(oracle.flat(got), np.clip(x + 0.1 * np.sign(gradient), 0, 1), atol=1e-6)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
