"""FRL: multipliers by loops with their projection, weights, radii and the weighted step in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.methods.frl import projected
from tests import support
from tests.methods import oracle

LABELS = np.repeat([0, 1, 2], [10, 20, 10])  # classes of different sizes: totals are means over examples
CLEAN = np.array([0.9, 0.5, 0.8])
ROBUST = np.array([0.3, 0.4, 0.6])
SIZES = np.array([10, 20, 10])


def counts(accuracy):
    """Returns predictions such that each class has the accuracy."""
    right = np.concatenate([np.arange(n) < round(a * n) for n, a in zip(SIZES, accuracy, strict=True)])
    return np.where(right, LABELS, (LABELS + 1) % 3)


def violations(tolerance):
    e, b = 1 - CLEAN, CLEAN - ROBUST
    total_clean, total_robust = ((a * SIZES).sum() / SIZES.sum() for a in (CLEAN, ROBUST))
    return (
        [e[i] - (1 - total_clean) - tolerance for i in range(3)],
        [b[i] - (total_clean - total_robust) - tolerance for i in range(3)],
    )


def project(values, limit):
    positive = [max(v, 0.0) for v in values]
    return [limit * v / sum(positive) if sum(positive) > limit else v for v in positive]


def after_epochs(epochs, **options):
    method = oracle.linear_method("frl", **options)
    for epoch in range(epochs):
        for confusion, accuracy in ((method.clean, CLEAN), (method.robust, ROBUST)):
            confusion.reset_state()
            confusion.update_state(LABELS, counts(accuracy))
        values = method.classwise([method.clean, method.robust])
        np.testing.assert_allclose(values["clean"], CLEAN)
        method.on_epoch_end(epoch, {"robust": np.ones(3)}, values)
    return method


@pytest.mark.parametrize("values", [[0.2, -0.3, 0.1], [0.9, 0.3, -1.0], [-1.0, -2.0, -0.5]])
def test_projection(values):
    np.testing.assert_allclose(projected(np.array(values), 0.5), project(values, 0.5), rtol=1e-6)


@pytest.mark.parametrize("rate, tolerance", [(0.05, 0.07), (2.0, 0.1)])
def test_multipliers_by_loops(rate, tolerance):
    options = {"frl_natural_tolerance": tolerance, "frl_boundary_tolerance": tolerance}
    method = after_epochs(3, frl_rate=rate, frl_margin_rate=0.3, **options)
    natural, boundary = violations(tolerance)
    by_natural, by_boundary, margin = [0.0] * 3, [0.0] * 3, [0.0] * 3
    for _ in range(3):
        by_natural = project([m + rate * g for m, g in zip(by_natural, natural, strict=True)], 0.5)
        by_boundary = project([m + 2 * rate * g for m, g in zip(by_boundary, boundary, strict=True)], 0.5)
        margin = [m + 0.3 * g for m, g in zip(margin, boundary, strict=True)]
    np.testing.assert_allclose(oracle.value(method.natural_multipliers), by_natural, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(oracle.value(method.boundary_multipliers), by_boundary, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(oracle.value(method.margin_multipliers), margin, rtol=1e-4, atol=1e-6)
    assert max(by_natural) > 0 and max(by_boundary) > 0


def with_multipliers(natural=(0.3, 0.0, 0.1), boundary=(0.0, 0.2, 0.05), margin=(0.4, -0.2, 0.8), **options):
    method = oracle.linear_method("frl", **options)
    method.natural_multipliers.assign(natural)
    method.boundary_multipliers.assign(boundary)
    method.margin_multipliers.assign(margin)
    return method


def class_weights(multipliers):
    """As the authors write it: 1/K + (1 - 1/K) of the own multiplier - 1/K of each other."""
    k = len(multipliers)
    return [
        1 / k + (k - 1) / k * m - sum(o for j, o in enumerate(multipliers) if j != i) / k
        for i, m in enumerate(multipliers)
    ]


@pytest.mark.parametrize("remargin", [True, False])
def test_step_equals_closed_form(remargin):
    method = with_multipliers(beta=2.5, frl_remargin=remargin)
    scale = np.clip(np.exp(2 * np.array([0.4, -0.2, 0.8])), 0.98, 3.0)
    np.testing.assert_allclose(scale, [np.exp(0.8), 0.98, 3.0])
    adversarial = oracle.shifted(0.1 * scale[oracle.LABELS] if remargin else 0.1)
    on_error, on_boundary = (
        np.array(class_weights(m))[oracle.LABELS] for m in ([0.3, 0.0, 0.1], [0.0, 0.2, 0.05])
    )
    targets = oracle.one_hot(oracle.LABELS)
    # sums of weighted losses over sums of weights: no division by the number of examples
    rows = oracle.trades_rows(
        oracle.KERNEL,
        oracle.IMAGES,
        adversarial,
        targets,
        2.5,
        on_error / on_error.sum(),
        on_boundary / on_boundary.sum(),
    )
    oracle.check_step(method, rows, count=1)


def test_a_batch_of_classes_that_weigh_nothing_has_no_loss():
    method = oracle.linear_method("frl", frl_limit=1.0)
    for multipliers in (method.natural_multipliers, method.boundary_multipliers):
        multipliers.assign([1.0, 0.0, 0.0])
    logs = method.train_step({"image": oracle.IMAGES[1:4], "label": np.array([1, 2, 1], np.int32)})
    assert float(logs["loss"]) == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(oracle.kernel(method)).all()


def test_without_violations_it_is_trades():
    def trained(name, **options):
        method = support.make_method(name, support.tiny_network(batch_norm=True), beta=1.5, **options)
        for step in range(2):
            method.train_step(support.batch_of(support.tiny_split(), 16, 16 * step))
        return method.network.get_weights()

    for a, b in zip(trained("trades"), trained("frl"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_two_devices_divide_by_the_weights_of_the_global_batch(mirrored):
    def weighted(strategy, rows):
        with strategy.scope():
            method = support.make_method("frl", oracle.linear_network(), attack=oracle.Shift())
            method.natural_multipliers.assign([0.3, 0.0, 0.1])

        @tf.function(autograph=False)
        def run(labels):
            ones = tf.ones_like(labels, tf.float32)
            examples = oracle.examples_of(method)._replace(labels=labels, present=ones)
            return method.term_weights(examples, None, None)[0]

        parts = strategy.experimental_distribute_values_from_function(
            lambda c: tf.constant(oracle.LABELS[rows * c.replica_id_in_sync_group :][:rows])
        )
        return np.concatenate(strategy.experimental_local_results(strategy.run(run, (parts,))))

    expected = np.array(class_weights([0.3, 0.0, 0.1]))[oracle.LABELS]
    np.testing.assert_allclose(weighted(mirrored, 3), expected / expected.mean(), rtol=1e-5)


def test_an_epoch_without_validation_is_refused():
    with pytest.raises(ValueError, match="frl needs validation"):
        oracle.linear_method("frl").on_epoch_end(0, {"robust": np.ones(3)}, {})


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
