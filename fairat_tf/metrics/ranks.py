"""Rank correlation over classes.

rank_correlation(uncertainty, robust_accuracy)      # -1: the most uncertain class is the least robust
"""

from typing import Any

import numpy as np


def rank_correlation(one: Any, other: Any) -> float:
    """Returns Spearman's rho of two vectors [K], over the classes where both are numbers.

    NaN where fewer than two classes are left or all values of one vector are equal.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    known = np.isfinite(one) & np.isfinite(other)
    one, other = one[known], other[known]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value, from 1; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
