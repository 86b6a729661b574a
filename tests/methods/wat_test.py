"""WAT: Hedge by loops, the costs of validation by hand, and the weighted step in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.methods.wat import hedge
from tests.methods import oracle

COSTS = np.array([[2.0, 1.0, 0.5, 1.3], [2.5, 0.9, 0.7, 1.4]])  # epochs x (classes + average)


def by_loops(costs, eta):
    experts = costs.shape[1]
    factor = [np.exp(sum(eta * costs[t, k] for t in range(len(costs)))) for k in range(experts)]
    return [(experts - 1) * f / sum(factor) for f in factor]


@pytest.mark.parametrize("eta", [0.1, 1.0])
def test_hedge_by_loops(eta):
    np.testing.assert_allclose(hedge(COSTS.sum(0), eta), by_loops(COSTS, eta), rtol=1e-5)


def test_hedge_stays_finite_after_a_long_run():
    w = hedge(np.array([900.0, 10.0, 10.0]), 10.0)
    np.testing.assert_allclose(w, [2, 0, 0], atol=1e-6)


def played(eta=1.0, **options):
    """A method after two epochs with the costs above."""
    method = oracle.linear_method("wat", wat_eta=eta, **options)
    for epoch, costs in enumerate(COSTS):
        method.cost.reset_state()
        method.cost.update_state([0], [costs[-1]])  # the mean over all examples
        method.on_epoch_end(epoch, {"robust": np.ones(3)}, {"cost": costs[:-1]})
    return method


def test_weights_follow_the_costs_of_all_epochs():
    np.testing.assert_allclose(oracle.value(played().weights_by_class), by_loops(COSTS, 1.0), rtol=1e-5)


def test_a_class_without_validation_examples_costs_what_the_average_does():
    method = oracle.linear_method("wat", wat_eta=1.0)
    method.cost.update_state([0], [1.3])
    method.on_epoch_end(0, {"robust": np.ones(3)}, {"cost": np.array([2.0, np.nan, 0.5])})
    expected = by_loops(np.array([[2.0, 1.3, 0.5, 1.3]]), 1.0)
    np.testing.assert_allclose(oracle.value(method.weights_by_class), expected, rtol=1e-5)


def test_step_equals_closed_form():
    method = played(beta=2.5)
    w = by_loops(COSTS, 1.0)
    by_example = np.array([w[y] + w[-1] for y in oracle.LABELS])
    targets = oracle.one_hot(oracle.LABELS)
    rows = oracle.trades_rows(
        oracle.KERNEL, oracle.IMAGES, oracle.shifted(), targets, 2.5, by_example, by_example
    )
    oracle.check_step(method, rows)


@pytest.mark.parametrize("epochs_before, factor", [(0, 2.0), (2, 2 * 3 / 4)])
def test_with_eta_zero_it_is_trades_times_a_constant(epochs_before, factor):
    method = played(eta=0.0) if epochs_before else oracle.linear_method("wat", wat_eta=0.0)
    targets = oracle.one_hot(oracle.LABELS)
    rows = oracle.trades_rows(oracle.KERNEL, oracle.IMAGES, oracle.shifted(), targets, 6.0, factor, factor)
    oracle.check_step(method, rows)


@pytest.mark.parametrize("loss", ["trades", "cross_entropy"])
def test_cost_of_validation_is_the_base_loss_by_class_without_the_padding(loss):
    method = oracle.linear_method("wat", loss=loss, beta=2.0, label_smoothing=0.5)
    mask = np.array([1, 1, 1, 1, 1, 0.0])
    method.test_step({**oracle.batch(), "mask": tf.constant(mask, tf.float32)})
    p, q = (oracle.softmax(oracle.flat(x) @ oracle.KERNEL) for x in (oracle.IMAGES, oracle.shifted()))
    rows = np.arange(oracle.SIZE)
    if loss == "trades":
        cost = -np.log(p[rows, oracle.LABELS]) + 2.0 * oracle.divergence(p, q)
    else:
        cost = -np.log(q[rows, oracle.LABELS])
    expected = [cost[(mask > 0) & (k == oracle.LABELS)].mean() for k in range(3)]
    np.testing.assert_allclose(method.cost.per_class(), expected, rtol=1e-5)
    np.testing.assert_allclose(float(method.cost.result()), cost[mask > 0].mean(), rtol=1e-5)


def test_an_epoch_without_validation_is_refused():
    with pytest.raises(ValueError, match="wat needs validation"):
        oracle.linear_method("wat").on_epoch_end(0, {"robust": np.ones(3)}, {})


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
