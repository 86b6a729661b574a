"""Confidence intervals for proportions, for all classes at once, and for the worst class.

    low, high = wilson(correct=203, total=1000)                  # 0.1793, 0.2290
    low, high = worst_class_interval(correct=[50, 90], total=[100, 100])

NumPy and SciPy only. Counts are arrays `[K]` (or scalars); bounds are float64 of the same shape in [0, 1].
Counts need not be whole: of several networks it is the sum of the share of them that is right on each
example, whose variance is at most that of right or wrong, so that the bounds are on the safe side. A class
without examples has the bounds 0 and 1: nothing is known about it.

Sources: Wilson, JASA 22 (1927) 209-212; Clopper and Pearson, Biometrika 26 (1934) 404-413; Sidak,
JASA 62 (1967) 626-633.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy import special

Array: TypeAlias = np.ndarray


def wilson(correct: Any, total: Any, confidence: float = 0.95) -> tuple[Array, Array]:
    """Returns the two-sided Wilson score interval of the proportion `correct / total`.

    Its coverage is right on average over p, not for each p (Brown, Cai and DasGupta, Stat. Sci. 2001).

    Raises:
      ValueError: counts that are negative or above the total, or a confidence outside (0, 1).
    """
    correct, total = _counts(correct, total, confidence)
    z = float(special.ndtri(0.5 + confidence / 2.0))
    safe = np.maximum(total, 1.0)
    p = correct / safe
    scale = 1.0 / (1.0 + z * z / safe)
    middle = (p + z * z / (2.0 * safe)) * scale
    half = z * scale * np.sqrt(p * (1.0 - p) / safe + z * z / (4.0 * safe * safe))
    low = np.where(correct == 0, 0.0, np.clip(middle - half, 0.0, 1.0))
    high = np.where(correct == total, 1.0, np.clip(middle + half, 0.0, 1.0))
    return np.where(total == 0, 0.0, low), np.where(total == 0, 1.0, high)


def exact_lower(correct: Any, total: Any, confidence: float = 0.95) -> Array:
    """Returns the one-sided Clopper-Pearson lower bound: at most the true value with >= `confidence`."""
    correct, total = _counts(correct, total, confidence)
    low = special.betaincinv(np.where(correct == 0, 1.0, correct), total - correct + 1.0, 1.0 - confidence)
    return np.where(correct == 0, 0.0, low)


def exact_upper(correct: Any, total: Any, confidence: float = 0.95) -> Array:
    """Returns the one-sided Clopper-Pearson upper bound: at least the true value with >= `confidence`."""
    correct, total = _counts(correct, total, confidence)
    return 1.0 - exact_lower(total - correct, total, confidence)


def simultaneous_lower(correct: Any, total: Any, confidence: float = 0.95) -> Array:
    """Returns lower bounds `[K]` that hold for *all* classes at once with at least `confidence`.

    Classes are separate samples, so the exact bounds are taken at confidence**(1/K) (Sidak).
    """
    return exact_lower(correct, total, sidak(confidence, np.size(total)))


def simultaneous_upper(correct: Any, total: Any, confidence: float = 0.95) -> Array:
    """Returns upper bounds `[K]` that hold for all classes at once with at least `confidence`."""
    return exact_upper(correct, total, sidak(confidence, np.size(total)))


def sidak(confidence: float, comparisons: int) -> float:
    """Returns the confidence that each of `comparisons` independent bounds needs to hold jointly."""
    return float(confidence ** (1.0 / max(comparisons, 1)))


def worst_class_interval(correct: Any, total: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of min_c p_c, the true accuracy of the worst class, with at least `confidence`.

    The observed minimum is biased down: with many classes one of them is unlucky. Hence the two sides
    differ. Below, min_c L_c is valid without correction, because L of the truly worst class is already
    below it. Above, an unlucky class must not pull the bound down, so all K upper bounds hold jointly.
    Each side takes half of the error.
    """
    side = 0.5 + confidence / 2.0
    low = float(np.min(exact_lower(correct, total, side)))
    return low, float(np.min(simultaneous_upper(correct, total, side)))


def best_class_interval(correct: Any, total: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of max_c p_c with at least `confidence`; the mirror of `worst_class_interval`."""
    correct, total = _counts(correct, total, confidence)
    low, high = worst_class_interval(total - correct, total, confidence)
    return 1.0 - high, 1.0 - low


def worst_three_interval(correct: Any, total: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of the mean of the three lowest p_c with at least `confidence`.

    Below, the bounds of the three truly lowest classes must hold, above, those of all; see
    `worst_class_interval`. With fewer than three classes it is the mean of all.
    """
    side, lowest = 0.5 + confidence / 2.0, min(3, np.size(total))
    low = np.sort(exact_lower(correct, total, sidak(side, lowest)))[:lowest].mean()
    return float(low), float(np.sort(simultaneous_upper(correct, total, side))[:lowest].mean())


def over_seeds(
    values: Any, bounds: Any, confidence: float = 0.95, limits: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """Returns an interval for the mean of a measure over training runs: new examples, and new runs.

    What the examples leave open (the mean of the runs' own intervals: all have the same examples, so more
    runs do not narrow it) and what the runs do (Student's interval of the mean, with two or more) are taken
    as independent, each side's distances added in squares. It always holds the mean of `values`.

    Args:
      values: [S], the measure of each run.
      bounds: [S, 2], the interval of each from its examples; it holds the value.
      confidence: of the interval over runs; that of `bounds` should be the same.
      limits: smallest and largest value of the measure.
    """
    values, bounds = np.asarray(values, np.float64), np.asarray(bounds, np.float64)
    middle, runs = values.mean(), student_half(values, confidence) if len(values) > 1 else 0.0
    low, high = np.hypot(np.abs(bounds.mean(axis=0) - middle), runs)
    return float(max(middle - low, limits[0])), float(min(middle + high, limits[1]))


def student_half(values: Array, confidence: float = 0.95) -> float:
    """Returns half the length of Student's interval for the mean of two or more values."""
    quantile = special.stdtrit(len(values) - 1, 0.5 + confidence / 2.0)
    return float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


def gap_interval(correct: Any, total: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of max_c p_c - min_c p_c with at least `confidence` (Bonferroni over both ends)."""
    half = 0.5 + confidence / 2.0
    worst = worst_class_interval(correct, total, half)
    best = best_class_interval(correct, total, half)
    return max(best[0] - worst[1], 0.0), best[1] - worst[0]


def nsd_interval(correct: Any, total: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of the p_c's standard deviation over their mean with at least `confidence`.

    It is the range of the measure where every p_c lies between its bounds, which hold jointly. The least
    comes from accuracies as near to one level as their bounds let them, the largest from a corner, found by
    turning over one class after the other until none helps (in a few cases not the very largest).
    """
    side = 0.5 + confidence / 2.0
    low, high = (f(correct, total, side) for f in (simultaneous_lower, simultaneous_upper))
    levels = np.linspace(low.min(), high.max(), 200)
    least = nsd(np.clip(levels[:, None], low, high)).min()
    top = (low + high) / 2 > (low + high).mean() / 2
    largest = nsd(np.where(top, high, low))
    while True:
        turned = top ^ np.eye(len(top), dtype=bool)
        values = nsd(np.where(turned, high, low))
        if values.max() <= largest:
            return float(least), float(largest)
        top, largest = turned[values.argmax()], values.max()


def nsd(accuracy: Array) -> Array:
    """Returns the standard deviation (ddof 0) over the last axis by its mean; 0 where all are at 0."""
    mean = accuracy.mean(axis=-1)
    return np.divide(accuracy.std(axis=-1), mean, out=np.zeros_like(mean), where=mean > 0)


def bootstrap_counts(
    correct: Any, total: Any, statistic: Callable[[Array], Array], draws: int = 4000, seed: int = 0
) -> Array:
    """Returns `draws` bootstrap values of a statistic of the class accuracies.

    Resampling the examples of a class with replacement is drawing Binomial(n_c, a_c), so only counts
    are needed. `statistic` maps accuracies [draws, K] to [draws].
    """
    correct, total = _counts(correct, total, 0.95)
    present = total > 0
    n = total[present].astype(np.int64)
    generator = np.random.default_rng(seed)
    resampled = generator.binomial(n, correct[present] / n, size=(draws, n.size)) / n
    return statistic(resampled)


def percentile(values: Array, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the central percentile interval of bootstrap values `[draws]`."""
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)


def _counts(correct: Any, total: Any, confidence: float) -> tuple[Array, Array]:
    correct, total = np.asarray(correct, np.float64), np.asarray(total, np.float64)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: expected a number between 0 and 1 such as 0.95, got {confidence}")
    if correct.shape != total.shape or np.any(correct < 0) or np.any(correct > total):
        raise ValueError(
            "expected counts with 0 <= correct <= total, one for each class, got "
            f"correct={correct.tolist()}, total={total.tolist()}"
        )
    return correct, total
