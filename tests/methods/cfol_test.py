"""CFOL: the adversary by loops, the weighted step in closed form, the drawing of an epoch."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.data import pipeline
from tests import support
from tests.methods import oracle

TARGETS = oracle.one_hot(oracle.LABELS)


def wrong(weights):
    return np.argmax(oracle.flat(oracle.shifted()) @ weights, 1) != oracle.LABELS


def played(weights_of_steps, shares, rate):
    """Returns w after the steps, by loops."""
    w = [0.0] * oracle.CLASSES
    for weights in weights_of_steps:
        for y, failed in zip(oracle.LABELS, wrong(weights), strict=True):
            w[y] += rate * failed / shares[y]
    return w


def mixture(w, gamma):
    e = np.exp(np.array(w) - max(w))
    return gamma / len(w) + (1 - gamma) * e / e.sum()


def run(method, steps):
    seen = []
    for _ in range(steps):
        seen.append(oracle.kernel(method))
        method.train_step(oracle.batch())
    return seen


@pytest.mark.parametrize("rate, gamma", [(0.02, 0.5), (0.3, 0.1)])
def test_two_epochs_of_drawing_by_loops(rate, gamma):
    method = oracle.linear_method("cfol", cfol_rate=rate, cfol_gamma=gamma)
    np.testing.assert_allclose(method.class_shares(), np.full(3, 1 / 3), rtol=1e-6)
    w = np.array(played(run(method, 2), [1 / 3] * 3, rate))
    np.testing.assert_allclose(oracle.value(method.log_weights), w, rtol=1e-5)
    np.testing.assert_allclose(method.class_shares(), np.full(3, 1 / 3), rtol=1e-6)  # until the epoch ends
    method.on_epoch_end(0, {"robust": np.ones(3)}, {})
    shares = mixture(w, gamma)
    np.testing.assert_allclose(method.class_shares(), shares, rtol=1e-5)
    assert np.ptp(shares) > 0.01
    w = w + played(run(method, 1), shares, rate)
    np.testing.assert_allclose(oracle.value(method.log_weights), w, rtol=1e-5)


def test_a_class_that_is_never_drawn_fails_nothing():
    method = oracle.linear_method("cfol", cfol_rate=0.02, cfol_gamma=0.0)
    method.shares.assign([0.0, 0.5, 0.5])
    method.train_step({"image": oracle.IMAGES[1:4], "label": np.array([1, 2, 1], np.int32)})
    w = oracle.value(method.log_weights)
    assert np.isfinite(w).all() and w[0] == 0.0


@pytest.mark.parametrize("loss", ["cross_entropy", "trades"])
def test_reweighted_step_equals_closed_form(loss):
    method = oracle.linear_method("cfol", cfol_draw="reweight", cfol_gamma=0.3, loss=loss, beta=2.0)
    assert method.class_shares() is None
    method.log_weights.assign([0.5, -1.0, 2.0])
    weight = 3 * mixture([0.5, -1.0, 2.0], 0.3)[oracle.LABELS]
    if loss == "trades":
        rows = oracle.trades_rows(
            oracle.KERNEL, oracle.IMAGES, oracle.shifted(), TARGETS, 2.0, weight, weight
        )
    else:
        rows = oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(), TARGETS, weight)
    oracle.check_step(method, rows)
    added = played([oracle.KERNEL], [1 / 3] * 3, method.options.cfol_rate)
    np.testing.assert_allclose(oracle.value(method.log_weights) - [0.5, -1.0, 2.0], added, atol=1e-6)


@pytest.mark.parametrize("options", [{"cfol_draw": "reweight", "cfol_gamma": 1.0}, {}])
def test_without_an_adversary_a_step_is_that_of_the_base_method(options):
    method, plain = oracle.linear_method("cfol", **options), oracle.linear_method("pgd_at")
    for each in (method, plain):
        each.train_step(oracle.batch())
    np.testing.assert_allclose(oracle.kernel(method), oracle.kernel(plain), rtol=1e-6)


def test_an_epoch_that_was_not_drawn_is_refused():
    with pytest.raises(ValueError, match="give training_batches the class_shares"):
        oracle.linear_method("cfol").on_epoch_end(0, {"robust": np.ones(3)}, {})


def test_two_devices_count_the_failures_of_the_global_batch(mirrored):
    with mirrored.scope():
        options = {"attack": oracle.Shift(), "cfol_rate": 0.1}
        method = support.make_method("cfol", oracle.linear_network(), **options)
    step = tf.function(lambda batch: mirrored.run(method.train_step, (batch,)), autograph=False)
    data = tf.data.Dataset.from_tensors(oracle.batch()).unbatch().batch(oracle.SIZE)
    for batch in mirrored.experimental_distribute_dataset(data):
        step(batch)
    expected = played([oracle.KERNEL], [1 / 3] * 3, 0.1)
    np.testing.assert_allclose(oracle.value(method.log_weights), expected, rtol=1e-5)


# ---- the drawing ------------------------------------------------------------------------------------------

LABELS = np.repeat([2, 0, 3], [5000, 300, 700]).astype(np.int32)  # class 1 has no example


def test_classes_are_drawn_by_their_shares_and_examples_alike():
    order = pipeline.drawn_order(LABELS, [0.5, 0.2, 0.2, 0.1], seed=0, epoch=3)
    assert order.shape == LABELS.shape and order.dtype == np.int32
    found = np.bincount(LABELS[order], minlength=4) / len(order)
    np.testing.assert_allclose(found, np.array([0.5, 0.0, 0.2, 0.1]) / 0.8, atol=0.02)
    of_class = np.bincount(order, minlength=len(LABELS))[LABELS == 0]
    assert (of_class > 0).all() and of_class.max() < 3 * of_class.mean()


def test_a_drawn_epoch_depends_on_seed_epoch_and_shares_and_goes_on_in_its_middle():
    split = support.tiny_split(64)

    def rows(first_step=0, epoch=1, seed=0, shares=(0.7, 0.1, 0.1, 0.1)):
        options = {"epoch": epoch, "seed": seed, "first_step": first_step, "class_shares": shares}
        batches = pipeline.training_batches(split, batch_size=16, **options)
        return [batch["index"].tolist() for batch in batches.as_numpy_iterator()]

    whole = rows()
    assert rows(2) == whole[2:] and len(whole) == 4
    for other in ({"epoch": 2}, {"seed": 1}, {"shares": (0.1, 0.1, 0.1, 0.7)}):
        assert rows(**other) != whole


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
