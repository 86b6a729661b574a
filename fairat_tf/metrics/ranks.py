"""Rank correlation over classes.

rank_correlation(uncertainty, robust_accuracy)      # -1: the most uncertain class is the least robust
"""

from typing import Any

import numpy as np
from scipy import stats


def rank_correlation(one: Any, other: Any) -> float:
    """Returns Spearman's rho of two vectors [K], over the classes where both are numbers.

    NaN where fewer than two classes are left or all values of one vector are equal.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    known = np.isfinite(one) & np.isfinite(other)
    one, other = one[known], other[known]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)
