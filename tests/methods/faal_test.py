"""FAAL: class weights of a batch by a solver, the weighted step in closed form, several devices."""

import numpy as np
import pytest
import tensorflow as tf

from tests import support
from tests.methods import oracle
from tests.objectives.solver import solved

TARGETS = oracle.one_hot(oracle.LABELS)
ROWS = np.arange(oracle.SIZE)


def class_weights(radius, logits):
    """Returns K p* from the logits of the adversarial examples, by loops and SciPy's solver."""
    q, gains = oracle.softmax(logits), np.zeros(oracle.CLASSES)
    for i, y in enumerate(oracle.LABELS):
        gains[y] += max(q[i, j] for j in range(oracle.CLASSES) if j != y) - q[i, y]
    return oracle.CLASSES * solved(gains, radius)


@pytest.mark.parametrize("loss, radius", [("cross_entropy", 0.3), ("trades", 1.5)])
def test_step_equals_closed_form(loss, radius):
    method = oracle.linear_method("faal", loss=loss, beta=2.5, faal_radius=radius)
    adversarial = oracle.shifted()
    w = class_weights(radius, oracle.flat(adversarial) @ oracle.KERNEL.astype(np.float64))[oracle.LABELS]
    assert np.ptp(w) > 0.3
    if loss == "trades":
        rows = oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, adversarial, TARGETS, 2.5, w, w)
    else:
        rows = oracle.cross_entropy_rows(oracle.KERNEL, adversarial, TARGETS, w)
    before = oracle.kernel(method).astype(np.float64)
    method.train_step(oracle.batch())
    expected = oracle.after_step(before, oracle.gradient(rows))
    np.testing.assert_allclose(oracle.kernel(method), expected, atol=1e-5)


@pytest.mark.parametrize("loss, name", [("trades", "trades"), ("cross_entropy", "pgd_at")])
def test_radius_zero_is_the_base_method(loss, name):
    def trained(name, **options):
        method = support.make_method(name, support.tiny_network(batch_norm=True), **options)
        method.train_step(support.batch_of(support.tiny_split()))
        return method.network.get_weights()

    for a, b in zip(trained(name), trained("faal", loss=loss, faal_radius=0.0), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_that_only_fill_the_shape_have_no_margin():
    method = oracle.linear_method("faal")
    present = np.array([1, 1, 0, 1, 1, 1.0], np.float32)
    examples = oracle.examples_of(method)._replace(present=tf.constant(present))
    logits = oracle.flat(examples.images) @ oracle.KERNEL
    strange = np.where(present[:, None] > 0, logits, [[9.0, -9.0, 0.0]])
    weight = [
        method.term_weights(examples, tf.constant(z, tf.float32), None)[0].numpy() for z in (logits, strange)
    ]
    np.testing.assert_allclose(weight[0], weight[1], rtol=1e-6)


def test_two_devices_use_the_margins_of_the_global_batch(mirrored):
    logits = (oracle.flat(oracle.shifted()) @ oracle.KERNEL).astype(np.float32)
    with mirrored.scope():
        method = support.make_method("faal", oracle.linear_network(), attack=oracle.Shift())

    @tf.function(autograph=False)
    def run(part, labels):
        examples = oracle.examples_of(method)._replace(labels=labels, present=tf.ones([3]))
        return method.term_weights(examples, part, None)[0]

    def of(values):
        return mirrored.experimental_distribute_values_from_function(
            lambda c: tf.constant(values[3 * c.replica_id_in_sync_group :][:3])
        )

    parts = mirrored.run(run, (of(logits), of(oracle.LABELS)))
    found = np.concatenate(mirrored.experimental_local_results(parts))
    np.testing.assert_allclose(found, class_weights(0.5, logits)[oracle.LABELS], rtol=2e-3)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
