"""The worst class weights in a KL ball, against SciPy's solver and what can be said without one."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.objectives.worst_weights import divergence_from_equal, worst_weights
from tests.objectives.solver import solved


def ours(gains, radius):
    return worst_weights(tf.constant(gains, tf.float32), radius).numpy()


@pytest.mark.parametrize("classes", [2, 3, 10, 20])
@pytest.mark.parametrize("radius", [0.01, 0.5, 2.0])
def test_against_a_solver(classes, radius):
    for seed in range(2):
        gains = np.random.default_rng(seed).normal(size=classes) * (1.0 + 10 * seed)
        gains[0] = 0.0  # as of an absent class
        expected, found = solved(gains, radius), ours(gains, radius)
        assert found @ gains >= expected @ gains - 1e-4 * np.ptp(gains)
        np.testing.assert_allclose(found, expected, atol=2e-3)
        assert float(divergence_from_equal(tf.constant(found))) == pytest.approx(
            radius, abs=1e-4 + 1e-3 * radius
        )


@pytest.mark.parametrize("gains", [np.zeros(4), np.full(4, -2.5)])
def test_equal_gains_give_equal_weights(gains):
    np.testing.assert_allclose(ours(gains, 0.5), np.full(4, 0.25), rtol=1e-6)


def test_radius_zero_gives_equal_weights():
    np.testing.assert_allclose(ours(np.array([3.0, -1.0, 0.5]), 0.0), np.full(3, 1 / 3), rtol=1e-5)


@pytest.mark.parametrize("radius", [20.0, 1000.0])
def test_a_radius_out_of_reach_puts_all_weight_on_the_largest_gain(radius):
    found = ours(np.array([0.3, 2.0, -1.0, 1.9]), radius)
    np.testing.assert_allclose(found, [0, 1, 0, 0], atol=1e-6)
    assert np.isfinite(found).all()


def test_equal_largest_gains_share():
    found = ours(np.array([2.0, 2.0, -1.0]), 50.0)
    np.testing.assert_allclose(found, [0.5, 0.5, 0.0], atol=1e-6)


def test_scale_and_shift_of_the_gains_do_not_matter():
    gains = np.array([0.3, 2.0, -1.0, 1.9])
    np.testing.assert_allclose(ours(1000 * gains - 7, 0.7), ours(gains, 0.7), rtol=1e-4)


def test_larger_gains_never_have_smaller_weights():
    gains = np.sort(np.random.default_rng(5).normal(size=12))
    assert (np.diff(ours(gains, 0.5)) >= 0).all()


def test_xla_equals_graph():
    gains = tf.constant([0.3, 2.0, -1.0, 1.9])
    compiled = tf.function(lambda g: worst_weights(g, 0.5), jit_compile=True)
    np.testing.assert_allclose(compiled(gains), ours(gains.numpy(), 0.5), rtol=1e-5)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
