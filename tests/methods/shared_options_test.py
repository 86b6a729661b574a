"""What every method can do: weight perturbation, label smoothing, class weights, and their checks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.methods import awp, class_weights
from fairat_tf.training_loop import Loop, Position
from tests import support
from tests.methods import oracle
from tests.step_support import loaded

TARGETS = oracle.one_hot(oracle.LABELS)


def rows_of(name, weights):
    if name == "trades":
        return oracle.trades_rows(weights, oracle.IMAGES, oracle.shifted(), TARGETS, 6.0)
    return oracle.cross_entropy_rows(weights, oracle.shifted(), TARGETS)


# ---- AWP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pgd_at", "trades"])
def test_awp_step_is_the_gradient_at_the_perturbed_weights(name):
    method = oracle.linear_method(name, awp_gamma=0.3)
    w = oracle.KERNEL.astype(np.float64)
    g = oracle.gradient(rows_of(name, w))
    v = 0.3 * np.sqrt((w**2).sum()) / np.sqrt((g**2).sum()) * g
    oracle.check_step(method, rows_of(name, w + v))
    assert np.abs(oracle.gradient(rows_of(name, w + v)) - g).max() > 1e-2


def test_perturbation_has_the_norm_of_gamma_times_the_weight():
    w, g = np.random.default_rng(3).normal(size=(2, 3, 3, 2, 5))
    v = awp.perturbation(tf.constant(w), tf.constant(g), 0.01).numpy()
    np.testing.assert_allclose(np.linalg.norm(v), 0.01 * np.linalg.norm(w), rtol=1e-6)
    np.testing.assert_allclose(v / np.linalg.norm(v), g / np.linalg.norm(g), rtol=1e-6)
    assert np.isfinite(awp.perturbation(tf.constant(w), tf.zeros_like(w), 0.01)).all()


def test_awp_moves_matrices_alone_raises_the_loss_and_restores_everything():
    network = support.tiny_network(batch_norm=True)
    batch = support.batch_of(support.tiny_split())

    def loss():
        return tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(
                batch["label"], network(batch["image"], training=True), from_logits=True
            )
        )

    def gradients():
        with tf.GradientTape() as tape:
            value = loss()
        return tape.gradient(value, network.trainable_variables)

    before = network.get_weights()
    plain = float(loss())
    network.set_weights(before)
    with awp.perturbed(network, gradients, 0.1):
        inside = [oracle.value(v) for v in network.trainable_variables]
        statistics = [oracle.value(v) for v in network.non_trainable_variables]
        higher = float(loss())
    assert higher > plain
    originals = dict(zip([v.path for v in network.variables], before, strict=True))
    for variable, perturbed in zip(network.trainable_variables, inside, strict=True):
        same = np.array_equal(perturbed, originals[variable.path])
        assert same == (perturbed.ndim == 1), variable.path
        np.testing.assert_array_equal(oracle.value(variable), originals[variable.path])
    for variable, held in zip(network.non_trainable_variables, statistics, strict=True):
        np.testing.assert_array_equal(held, originals[variable.path])


def weights_after(steps=2, **options):
    method = support.make_method("pgd_at", support.tiny_network(batch_norm=True), epochs=4, **options)
    for step in range(steps):
        method.train_step(support.batch_of(support.tiny_split(), 16, 16 * step))
    return method.network


def test_awp_lets_batch_norm_see_one_pass_a_step():
    plain, perturbed = weights_after(1), weights_after(1, awp_gamma=1e-9)
    for a, b in zip(plain.non_trainable_variables, perturbed.non_trainable_variables, strict=True):
        np.testing.assert_allclose(oracle.value(a), oracle.value(b), atol=1e-6)


def test_awp_waits_for_its_warm_up():
    plain, waiting = weights_after(), weights_after(awp_gamma=0.1, awp_warmup=0.25)
    started = weights_after(awp_gamma=0.1)
    for a, b in zip(plain.get_weights(), waiting.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        np.abs(a - b).max() > 1e-5 for a, b in zip(plain.get_weights(), started.get_weights(), strict=True)
    )


def test_awp_begins_in_the_epoch_of_its_warm_up_share():
    method = oracle.linear_method("pgd_at", awp_gamma=0.3, awp_warmup=0.25, epochs=8)
    assert method.epoch_at(0.25) == 2
    method.on_epoch_begin(2)
    w = oracle.KERNEL.astype(np.float64)
    g = oracle.gradient(rows_of("pgd_at", w))
    oracle.check_step(method, rows_of("pgd_at", w + 0.3 * np.linalg.norm(w) / np.linalg.norm(g) * g))


@pytest.mark.parametrize("name", ["pgd_at", "fairat"])
def test_awp_on_two_devices_equals_one(name, mirrored):
    def trained(strategy):
        with strategy.scope():
            network = support.tiny_network(batch_norm=True, synchronized=strategy.num_replicas_in_sync > 1)
            method = support.make_method(name, network, awp_gamma=0.05)
        data = tf.data.Dataset.from_tensors(support.batch_of(support.tiny_split(), 16))
        Loop(method, strategy).run(Position(), 1, lambda position: data, 1)
        return method.network.get_weights()

    for a, b in zip(trained(tf.distribute.get_strategy()), trained(mirrored), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_awp_under_xla_equals_graph():
    def trained(jit_compile):
        method = support.make_method("trades", support.tiny_network(batch_norm=True), awp_gamma=0.05)
        data = tf.data.Dataset.from_tensors(support.batch_of(support.tiny_split(), 16))
        Loop(method, tf.distribute.get_strategy(), jit_compile=jit_compile).run(
            Position(), 1, lambda p: data, 1
        )
        return method.network.get_weights()

    for a, b in zip(trained(False), trained(True), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


# ---- labels and weights of classes ------------------------------------------------------------------------


def test_label_smoothing_step():
    method = oracle.linear_method("pgd_at", label_smoothing=0.3)
    soft = 0.7 * TARGETS + 0.1
    oracle.check_step(method, oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), soft))


def test_class_label_smoothing_follows_the_robust_accuracy_of_the_last_epoch():
    method = oracle.linear_method("trades", label_smoothing=0.1, class_label_smoothing=0.4)
    accuracy = np.array([0.9, 0.5, np.nan])
    method.on_epoch_end(0, {"robust": accuracy}, {})
    smoothing = 0.1 + 0.4 * np.array([0.9, 0.5, 0.7])[oracle.LABELS][:, None]
    soft = (1 - smoothing) * TARGETS + smoothing / oracle.CLASSES
    oracle.check_step(method, oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, oracle.shifted(), soft, 6.0))


def test_a_class_without_an_example_has_the_mean_of_the_others():
    method = oracle.linear_method("pgd_at", class_weights="inverse")
    method.on_epoch_end(0, {"robust": np.array([0.6, 0.5, np.nan])}, {})
    np.testing.assert_allclose(method.class_accuracy, [0.6, 0.5, 0.55], rtol=1e-6)
    first, last, absent = oracle.value(method.class_weight)
    assert first < absent < last
    counts = np.array([[6.0, 4, 0], [5, 5, 0], [0, 0, 0]])
    np.testing.assert_allclose(loaded("between").class_accuracy(counts), method.class_accuracy, rtol=1e-6)
    np.testing.assert_array_equal(class_weights.unknown_as_mean(np.full(3, np.nan)), np.ones(3))
    np.testing.assert_array_equal(loaded("between").class_accuracy(np.zeros([3, 3])), np.ones(3))


def test_fixed_class_weights_step():
    method = oracle.linear_method("trades", class_weights="0.5,1,2")
    w = np.array([0.5, 1.0, 2.0])[oracle.LABELS]
    oracle.check_step(
        method, oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, oracle.shifted(), TARGETS, 6.0, w, w)
    )


def test_inverse_class_weights_by_the_formula():
    accuracy = np.array([0.8, 0.5, 0.4, 0.0])
    for power in (2.0, 0.5):
        inverse = [max(t, 1e-3) ** -power for t in accuracy]
        expected = [min(max(4 * v / sum(inverse), 5 / 6), 5 / 2) for v in inverse]
        np.testing.assert_allclose(
            class_weights.by_accuracy(f"inverse:{power}", accuracy), expected, rtol=1e-6
        )
    method = oracle.linear_method("pgd_at", class_weights="inverse")
    np.testing.assert_array_equal(oracle.value(method.class_weight), [1, 1, 1])
    method.on_epoch_end(0, {"robust": np.array([0.8, 0.5, 0.4])}, {})
    w = class_weights.by_accuracy("inverse:2", np.array([0.8, 0.5, 0.4]))[oracle.LABELS]
    oracle.check_step(method, oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), TARGETS, w))


def test_hedge_class_weights_are_those_of_wat_with_mean_one():
    losses = np.array([[2.0, 1.0, 0.5, 1.3], [2.5, 0.9, 0.7, 1.4]])  # epochs x (classes + average)
    method = oracle.linear_method("pgd_at", class_weights="hedge:1.5")
    np.testing.assert_array_equal(oracle.value(method.class_weight), [1, 1, 1])
    for epoch, row in enumerate(losses):
        method.robust_loss.reset_state()
        method.robust_loss.update_state([0], [row[-1]])  # the mean over all examples
        method.on_epoch_end(epoch, {"robust": np.ones(3)}, {"robust_loss": row[:-1]})
    powers = [np.exp(1.5 * total) for total in losses.sum(0)]
    sums = np.array([power + powers[-1] for power in powers[:-1]])
    w = sums / sums.mean()
    np.testing.assert_allclose(oracle.value(method.class_weight), w, rtol=1e-5)
    rows = oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), TARGETS, w[oracle.LABELS])
    oracle.check_step(method, rows)
    assert w.argmax() == 0 and w.argmin() == 2


def test_hedge_follows_the_attacked_validation_images():
    method = oracle.linear_method("pgd_at", class_weights="hedge")
    mask = np.array([1, 1, 1, 1, 1, 0.0])
    method.test_step({**oracle.batch(), "mask": tf.constant(mask, tf.float32)})
    method.on_epoch_end(0, {"robust": np.ones(3)}, method.classwise(method.validation_metrics))
    q = oracle.softmax(oracle.flat(oracle.shifted()) @ oracle.KERNEL)
    cost = -np.log(q[np.arange(oracle.SIZE), oracle.LABELS])
    expected = [cost[(mask > 0) & (k == oracle.LABELS)].mean() for k in range(3)] + [cost[mask > 0].mean()]
    np.testing.assert_allclose(oracle.value(method.total_losses), expected, rtol=1e-5)


def test_hedge_without_validation_is_refused():
    with pytest.raises(ValueError, match="class_weights=hedge needs validation"):
        oracle.linear_method("pgd_at", class_weights="hedge").on_epoch_end(0, {"robust": np.ones(3)}, {})


@pytest.mark.parametrize(
    "spec",
    [
        "1,2",
        "a,b,c",
        "inverse:x",
        "hedge:x",
        "hedge:-1",
        "hedge:inf",
        "inverse:-1",
        "-1,1,1",
        "0,0,0",
        "nan,1,1",
    ],
)
def test_class_weights_that_do_not_fit_are_refused(spec):
    with pytest.raises(ValueError, match="class_weights must be 3 numbers"):
        oracle.linear_method("pgd_at", class_weights=spec)


def test_smoothing_beyond_one_is_refused():
    with pytest.raises(ValueError, match="label_smoothing"):
        oracle.linear_method("pgd_at", label_smoothing=0.7, class_label_smoothing=0.4)


def test_everything_combines_with_fairat_and_trains():
    options = {"loss": "trades", "awp_gamma": 0.01, "ema_decay": 0.9, "class_weights": "inverse"}
    method = support.make_method(
        "fairat", support.tiny_network(batch_norm=True), label_smoothing=0.1, **options
    )
    before = method.network.get_weights()
    logs = method.train_step(support.batch_of(support.tiny_split()))
    assert np.isfinite(float(logs["loss"]))
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(before, method.network.get_weights(), strict=True))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
