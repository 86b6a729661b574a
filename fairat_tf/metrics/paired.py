"""Paired comparison of classifiers on the same examples: McNemar's test and the paired bootstrap.

    mcnemar(better=30, worse=12)                       # exact two-sided p-value
    holm([0.01, 0.04, 0.3])                            # adjusted for several classes
    draws = resample({"a": flags_a, "b": flags_b}, labels, num_classes=10)
    interval = percentile(draws["b"]["worst_class"] - draws["a"]["worst_class"])

Pairing takes out what the examples have in common: two models that fail on the same images differ far more
surely than their separate intervals suggest.

Sources: McNemar, Psychometrika 12 (1947) 153-157 (exact form: binomial); Holm, Scand. J. Statist. 6 (1979).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import optimize, stats

from fairat_tf.metrics.intervals import nsd, student_half

STATISTICS = ("average", "worst_class", "worst_three", "gap", "nsd")


def mcnemar(better: int, worse: int) -> float:
    """Returns the exact two-sided p-value for `better` and `worse` discordant pairs (1 if there are none)."""
    total = better + worse
    return float(min(2.0 * stats.binom.cdf(min(better, worse), total, 0.5), 1.0)) if total else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number by Holm's step-down method, in the given order."""
    p = np.asarray(values, np.float64)
    order = np.argsort(p)
    stepped = np.minimum(p[order] * (len(p) - np.arange(len(p))), 1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted.tolist()


def over_pairs(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Returns Student's interval for the mean of paired differences, one of each seed (two or more).

    The seed is the unit: it holds for further training runs on the same test examples, also where seeds are
    too few for a bootstrap.
    """
    values = np.asarray(differences, np.float64)
    half = student_half(values, confidence)
    return float(values.mean() - half), float(values.mean() + half)


def detectable(differences: Sequence[float], power: float = 0.8, confidence: float = 0.95) -> float:
    """Returns the true difference that as many pairs as these would find with probability `power`.

    Found is what a two-sided paired t-test at 1 - confidence takes for a difference of its true sign, if the
    pairs deviate like the given ones (two or more): the answer is as rough as their deviation, and 0 where
    all are equal. That no smaller effect was found says little.
    """
    values = np.asarray(differences, np.float64)
    freedom, error = len(values) - 1, values.std(ddof=1) / np.sqrt(len(values))
    critical, half = stats.t.ppf(0.5 + confidence / 2.0, freedom), 0.5 + power / 2.0
    enough = critical * np.sqrt(stats.chi2.ppf(half, freedom) / freedom) + stats.norm.ppf(half)

    def lacking(shift: float) -> float:
        return float(stats.nct.sf(critical, freedom, shift)) - power

    return float(error * optimize.brentq(lacking, 0.0, enough))


def class_accuracy(flags: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the accuracy [S, K] of flags [S, N] in [0, 1] (S seeds); NaN for classes without examples."""
    total = np.bincount(labels, minlength=num_classes).astype(np.float64)
    right = np.stack([np.bincount(labels, weights=row, minlength=num_classes) for row in flags])
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def statistics(accuracy: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the `STATISTICS` of class accuracies [..., K]; `weights` [K] sum to 1.

    worst_three is the mean of the three lowest classes, nsd the standard deviation over classes (ddof 0)
    divided by their mean (0 where all are at 0).
    """
    known = weights > 0
    a = accuracy[..., known]
    return {
        "average": a @ weights[known],
        "worst_class": a.min(axis=-1),
        "worst_three": np.sort(a, axis=-1)[..., :3].mean(axis=-1),
        "gap": a.max(axis=-1) - a.min(axis=-1),
        "nsd": nsd(a),
    }


def resample(
    flags: Mapping[str, np.ndarray],
    labels: np.ndarray,
    num_classes: int,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, np.ndarray]]:
    """Returns bootstrap values {model: {"average" [draws], "worst_class", "gap", "per_class" [draws, K]}}.

    The examples of each class are resampled, the same ones for every model and seed; where a model has
    several seeds they are resampled as well, and a statistic is the mean over the seeds drawn. So the
    intervals hold for new examples and new training runs. Few seeds (under about five) make them too narrow.

    Args:
      flags: model -> bool [S, N], right answers of each of its S seeds, or the share of a run's networks
        that are right, in [0, 1].
      labels: int [N].
      num_classes: K.
      draws: bootstrap replicates.
      seed: of the generator.
    """
    generator = np.random.default_rng(seed)
    total = np.bincount(labels, minlength=num_classes)
    accuracy = {name: np.full((draws, len(own), num_classes), np.nan) for name, own in flags.items()}
    for c in np.flatnonzero(total):
        own_class = labels == c
        n = int(total[c])
        counts = generator.multinomial(n, np.full(n, 1.0 / n), size=draws).astype(np.float32)
        for name, own in flags.items():
            accuracy[name][:, :, c] = counts @ own[:, own_class].T.astype(np.float32) / n
    result = {}
    for name, values in accuracy.items():
        chosen = generator.integers(0, values.shape[1], (draws, values.shape[1]))
        drawn = np.take_along_axis(values, chosen[:, :, None], axis=1)
        spread = statistics(drawn, total / total.sum())
        result[name] = {key: value.mean(axis=1) for key, value in spread.items()}
        result[name]["per_class"] = drawn.mean(axis=1)
    return result
