"""TRADES and MART: losses and gradients in closed form, what their attacks maximise, what they reduce to."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.methods.batches import unpack
from fairat_tf.objectives import robust
from tests import support
from tests.methods import oracle


def terms(name, **kwargs):
    natural, adversarial = (oracle.flat(x) @ oracle.KERNEL for x in (oracle.IMAGES, oracle.shifted()))
    labels = tf.constant(oracle.LABELS)
    made = robust.get(name)(**kwargs).terms(
        tf.constant(adversarial, tf.float32), tf.constant(natural, tf.float32), labels, labels
    )
    p, q = oracle.softmax(natural), oracle.softmax(adversarial)
    return made, p, q


def test_trades_terms():
    made, p, q = terms("trades")
    rows = np.arange(oracle.SIZE)
    np.testing.assert_allclose(made.error, -np.log(p[rows, oracle.LABELS]), rtol=1e-5)
    np.testing.assert_allclose(made.boundary, oracle.divergence(p, q), rtol=1e-4, atol=1e-7)


def test_mart_terms():
    made, p, q = terms("mart")
    for i, label in enumerate(oracle.LABELS):
        others = [q[i, j] for j in range(oracle.CLASSES) if j != label]
        boosted = -np.log(q[i, label]) - np.log(1.0001 - max(others))
        np.testing.assert_allclose(made.error[i], boosted, rtol=1e-5)
        weighted = oracle.divergence(p, q)[i] * (1.0000001 - p[i, label])
        np.testing.assert_allclose(made.boundary[i], weighted, rtol=1e-4, atol=1e-7)


def test_mart_stays_finite_where_the_network_is_certain_and_wrong():
    logits = tf.Variable([[200.0, 0.0, -200.0]])
    with tf.GradientTape() as tape:
        made = robust.Mart().terms(logits, logits * 0.5, tf.constant([2]), tf.constant([2]))
        total = tf.reduce_sum(made.error + 5.0 * made.boundary)
    assert np.isfinite(float(total)) and np.isfinite(tape.gradient(total, logits)).all()


def test_trades_step_equals_closed_form():
    method = oracle.linear_method("trades", beta=2.5)
    targets = oracle.one_hot(oracle.LABELS)
    rows = oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, oracle.shifted(), targets, 2.5)
    oracle.check_step(method, rows)


def test_mart_step_equals_closed_form():
    method = oracle.linear_method("mart", beta=2.5)
    rows = oracle.mart_rows(
        oracle.KERNEL.astype(np.float64), oracle.IMAGES, oracle.shifted(), oracle.LABELS, 2.5
    )
    oracle.check_step(method, rows)


@pytest.mark.parametrize("name, beta", [("trades", 6.0), ("mart", 5.0)])
def test_default_beta_is_the_authors(name, beta):
    assert oracle.linear_method(name).objective.beta == beta


def test_trades_attack_maximises_the_divergence_from_the_natural_prediction():
    method = oracle.linear_method("trades")
    oracle.examples_of(method)
    (loss,) = method.attack.given
    logits = np.random.default_rng(2).normal(size=(oracle.SIZE, oracle.CLASSES))
    p, q = oracle.softmax(oracle.flat(oracle.IMAGES) @ oracle.KERNEL), oracle.softmax(logits)
    got = loss(tf.constant(logits, tf.float32), tf.constant(oracle.LABELS))
    np.testing.assert_allclose(got, oracle.divergence(p, q), rtol=1e-4)


def test_mart_attack_keeps_the_cross_entropy():
    method = oracle.linear_method("mart")
    oracle.examples_of(method)
    assert method.attack.given == [None]


def test_trades_attack_by_pgd_raises_the_divergence_most():
    def divergence_after(name):
        method = support.make_method(name, support.tiny_network(), steps=5)
        batch = unpack(support.batch_of(support.tiny_split()))
        adversarial = method.training_batch(batch, rng.key(0, "test")).images
        p, q = (oracle.softmax(method.inference(x).numpy()) for x in (batch.images, adversarial))
        return oracle.divergence(p, q).mean()

    assert divergence_after("trades") > divergence_after("pgd_at") > 0.0


def moved(name, steps=2, **options):
    method = support.make_method(name, support.tiny_network(batch_norm=True), **options)
    for step in range(steps):
        method.train_step(support.batch_of(support.tiny_split(), 16, 16 * step))
    return method.network.get_weights()


def test_trades_without_divergence_is_training_on_natural_examples():
    one, other = oracle.linear_method("trades", beta=0.0), oracle.linear_method("standard")
    for method in (one, other):
        method.train_step(oracle.batch())
    np.testing.assert_allclose(oracle.kernel(one), oracle.kernel(other), atol=1e-7)


@pytest.mark.parametrize("loss, name", [("trades", "trades"), ("mart", "mart"), ("cross_entropy", "pgd_at")])
def test_fairat_before_its_warm_up_ends_is_its_base_bit_for_bit(loss, name):
    base = moved(name) if name == "pgd_at" else moved(name, beta=6.0)
    fairat = moved("fairat", loss=loss, hard_warmup_epochs=1)
    for a, b in zip(base, fairat, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fairat_with_trades_trains_on_the_new_views_by_the_trades_loss():
    method = support.make_method(
        "fairat",
        oracle.linear_network(),
        attack=oracle.Shift(),
        loss="trades",
        beta=2.0,
        hard_score="natural",
        augmentation="cutout:1",
    )
    examples = oracle.examples_of(method)
    changed = (np.asarray(examples.natural) != oracle.IMAGES).any((1, 2, 3))
    np.testing.assert_array_equal(changed, examples.hard)
    assert changed.sum() == 3
    rows = oracle.trades_rows(
        oracle.KERNEL, examples.natural, examples.images, oracle.one_hot(oracle.LABELS), 2.0
    )
    oracle.check_step(method, rows)


@pytest.mark.parametrize("name, passes", [("pgd_at", 11.5), ("mart", 13.0), ("trades", 13.5)])
def test_cost_in_passes(name, passes):
    assert oracle.linear_method(name).passes == passes


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
