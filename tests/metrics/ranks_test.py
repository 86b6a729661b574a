"""Rank correlation: SciPy is the oracle."""

import numpy as np
import pytest
from scipy import stats

from fairat_tf.metrics.ranks import rank_correlation


@pytest.mark.parametrize("seed", range(5))
def test_it_is_spearmans_rho_with_ties_and_gaps(seed):
    generator = np.random.default_rng(seed)
    one, other = generator.integers(0, 6, (2, 12)).astype(float)
    expected = stats.spearmanr(one[:-1], other[:-1]).statistic
    one[-1] = np.nan
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-12)


def test_it_is_nan_where_nothing_can_be_ranked():
    assert np.isnan(rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert np.isnan(rank_correlation([1.0, np.nan], [1.0, 2.0]))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
