"""Robust fairness: how evenly accuracy (clean or under an attack) is spread over the classes.

    result = fairness(correct, labels, num_classes=10)   # correct: bool [N], labels: int [N]
    result["worst_class"]["accuracy"], result["worst_class"]["ci95"], result["gap"], result["nsd"]

`a_c` is the accuracy of class c among its own examples, counted as they are: no class is assumed to
have N / K of them. `average` is over examples, `class_average` over classes; they agree only in a
balanced set. SD and NSD divide by K (ddof 0).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fairat_tf.metrics import intervals

_SHARES = (10, 20, 30)


def class_counts(correct: Any, labels: Any, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (right answers [K], examples [K]) as int64, from `correct` bool [N] and `labels` int [N].

    Raises:
      ValueError: shapes differ, or a label lies outside [0, num_classes).
    """
    correct, labels = np.asarray(correct).astype(bool), np.asarray(labels)
    if correct.ndim != 1 or correct.shape != labels.shape:
        raise ValueError(f"expected correct and labels of one shape [N], got {correct.shape}, {labels.shape}")
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"expected labels in [0, {num_classes}), got {labels.min()} to {labels.max()}; check num_classes"
        )
    labels = labels.astype(np.int64)
    total = np.bincount(labels, minlength=num_classes)
    return np.bincount(labels[correct], minlength=num_classes), total


def spread(accuracy: Any) -> dict[str, float]:
    """Returns the point statistics of class accuracies `[K]` in [0, 1]; NaN marks an absent class.

    Keys: class_average; worst; best; gap (best - worst); sd, variance (ddof 0); nsd = sd / mean
    accuracy (Fair-ARD, ABSLD); nsd_error = sd / mean error (FRL); worst_10, worst_20, worst_30: the
    mean of the ceil(k K / 100) lowest; gini.
    """
    a = np.sort(np.asarray(accuracy, np.float64))
    a = a[~np.isnan(a)]
    if not a.size:
        raise ValueError("expected at least one class with examples, got none")
    mean, sd = float(a.mean()), float(a.std())
    lowest = {f"worst_{k}": float(a[: math.ceil(k * a.size / 100)].mean()) for k in _SHARES}
    ranks = 2.0 * np.arange(1, a.size + 1) - a.size - 1.0
    return {
        "class_average": mean,
        "worst": float(a[0]),
        "best": float(a[-1]),
        "gap": float(a[-1] - a[0]),
        "sd": sd,
        "variance": sd * sd,
        "nsd": sd / mean if mean > 0 else math.nan,
        "nsd_error": sd / (1.0 - mean) if mean < 1 else math.nan,
        **lowest,
        "gini": float(ranks @ a / (a.size * a.sum())) if mean > 0 else math.nan,
    }


def rho(average: float, worst: float, base_average: float, base_worst: float) -> float:
    """Returns rho = (W - W_b) / W_b + (A - A_b) / A_b, the trade-off against a baseline (WAT, DAFA).

    It adds the relative changes up: above 0 the one gained relatively more than the other lost (or both
    gained), whichever of them it was. NaN if the baseline has a zero.
    """
    if base_average <= 0 or base_worst <= 0:
        return math.nan
    return (worst - base_worst) / base_worst + (average - base_average) / base_average


def fairness(
    correct: Any,
    labels: Any,
    num_classes: int,
    seed: int = 0,
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns how accuracy is spread over classes, with intervals; plain Python numbers, ready for JSON.

    Args:
      correct: bool [N], whether each example is classified rightly (under an attack: stays right).
      labels: int [N], true classes in [0, num_classes).
      num_classes: K.
      seed: of the bootstrap.
      baseline: an earlier result of this function, for `rho`.

    Keys: those of `spread` without worst and best; average, average_ci95 (Wilson); worst_class and
    best_class {index, accuracy, ci95}; gap_ci95; simultaneous_lower [K], which hold for all classes at
    once; per_class {correct, total, accuracy, ci95}; absent: classes without examples, which no
    statistic includes. All intervals are of 95 %.

    `worst_class` also holds its bootstrap: the bias of the observed minimum (negative: chance makes it
    look worse than it is) with the standard error that the finite number of draws leaves, the estimate
    freed of the bias, and the percentile interval. The last is shown because it is customary; where several
    classes are about equally weak it misses the true value most of the time, since resampling repeats the
    bias. `ci95` beside it holds whatever the classes are.
    """
    right, total = class_counts(correct, labels, num_classes)
    return from_counts(right, total, seed, baseline)


def from_counts(
    right: Any,
    total: Any,
    seed: int = 0,
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns what `fairness` does, from the counts [K] of right answers and of examples."""
    right, total = np.asarray(right, np.int64), np.asarray(total, np.int64)
    present = np.flatnonzero(total)
    accuracy = np.where(total > 0, right / np.maximum(total, 1), np.nan)
    points = spread(accuracy)
    shown = right[present], total[present]
    lower = np.zeros(total.size)
    lower[present] = intervals.simultaneous_lower(*shown)
    average = float(right.sum() / total.sum())
    result = {
        "average": average,
        "average_ci95": _pair(intervals.wilson(right.sum(), total.sum())),
        "worst_class": _extreme(present[np.argmin(accuracy[present])], accuracy)
        | {"ci95": _pair(intervals.worst_class_interval(*shown))}
        | {"bootstrap": _bootstrap_minimum(*shown, seed)},
        "best_class": _extreme(present[np.argmax(accuracy[present])], accuracy)
        | {"ci95": _pair(intervals.best_class_interval(*shown))},
        **{key: value for key, value in points.items() if key not in ("worst", "best")},
        "gap_ci95": _pair(intervals.gap_interval(*shown)),
        "nsd_normalised_by": "mean class accuracy",
        "simultaneous_lower": lower.tolist(),
        "per_class": _per_class(right, total, accuracy),
        "absent": np.flatnonzero(total == 0).tolist(),
    }
    if baseline is not None:
        base = baseline["average"], baseline["worst_class"]["accuracy"]
        result["rho"] = rho(average, points["worst"], *base)
    return result


def _bootstrap_minimum(right: np.ndarray, total: np.ndarray, seed: int) -> dict[str, Any]:
    observed = float(np.min(right / total))
    draws = intervals.bootstrap_counts(right, total, lambda a: a.min(axis=1), seed=seed)
    bias = float(draws.mean() - observed)
    corrected = min(max(observed - bias, 0.0), 1.0)
    return {
        "ci95": list(intervals.percentile(draws)),
        "bias": bias,
        "bias_error": float(draws.std() / math.sqrt(len(draws))),
        "corrected": corrected,
    }


def _per_class(right: np.ndarray, total: np.ndarray, accuracy: np.ndarray) -> list[dict[str, Any]]:
    low, high = intervals.wilson(right, total)
    return [
        {
            "accuracy": None if math.isnan(accuracy[c]) else float(accuracy[c]),
            "ci95": [float(low[c]), float(high[c])],
            "correct": int(right[c]),
            "total": int(total[c]),
        }
        for c in range(total.size)
    ]


def _extreme(index: Any, accuracy: np.ndarray) -> dict[str, Any]:
    return {"index": int(index), "accuracy": float(accuracy[index])}


def _pair(bounds: tuple[Any, Any]) -> list[float]:
    return [float(bounds[0]), float(bounds[1])]
