"""Holds: McNemar and Holm equal independent computations; the paired bootstrap covers true differences."""

import numpy as np
import pytest
from scipy import stats

from fairat_tf.metrics import paired
from fairat_tf.metrics.intervals import percentile


@pytest.mark.parametrize(("better", "worse"), [(30, 12), (3, 9), (5, 5), (0, 4), (0, 0)])
def test_mcnemar_is_the_exact_binomial_test(better, worse):
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert paired.mcnemar(better, worse) == pytest.approx(expected)


def test_holm_by_hand():
    # Sorted: .01*4, .02*3 = .06, .04*2 = .08, .5: never below the one before.
    assert paired.holm([0.04, 0.01, 0.5, 0.02]) == pytest.approx([0.08, 0.04, 0.5, 0.06])
    assert paired.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_class_accuracy_and_statistics_by_loop():
    generator = np.random.default_rng(0)
    flags, labels = generator.random((3, 50)) < 0.6, generator.integers(0, 4, 50)
    accuracy = paired.class_accuracy(flags, labels, 4)
    for s in range(3):
        for c in range(4):
            assert accuracy[s, c] == pytest.approx(
                np.mean([flags[s, i] for i in range(50) if labels[i] == c])
            )
    found = paired.statistics(accuracy, np.bincount(labels, minlength=4) / 50)
    np.testing.assert_allclose(found["average"], flags.mean(axis=1))
    np.testing.assert_allclose(found["gap"], accuracy.max(axis=1) - accuracy.min(axis=1))
    for s in range(3):
        assert found["worst_three"][s] == pytest.approx(sum(sorted(accuracy[s])[:3]) / 3)
        assert found["nsd"][s] == pytest.approx(np.sqrt(np.var(accuracy[s])) / (accuracy[s].sum() / 4))


def test_nsd_of_classes_that_are_all_at_0_is_0_and_absent_classes_do_not_count():
    found = paired.statistics(np.array([[0.0, 0.0, np.nan]]), np.array([0.5, 0.5, 0.0]))
    assert found["nsd"] == found["worst_three"] == 0.0


def test_flags_may_be_shares_of_several_networks():
    labels, shares = np.array([0, 0, 1, 1]), np.array([[0.2, 0.4, 1.0, 0.0]])
    np.testing.assert_allclose(paired.class_accuracy(shares, labels, 2), [[0.3, 0.5]])


def test_equal_models_differ_by_exactly_nothing():
    flags = np.random.default_rng(0).random((1, 80)) < 0.5
    draws = paired.resample({"a": flags, "b": flags}, np.arange(80) % 4, 4, draws=50)
    for key in paired.STATISTICS:
        np.testing.assert_array_equal(draws["a"][key], draws["b"][key])


def test_pairing_narrows_the_interval():
    # b is a with 5 % of the answers turned wrong: the difference is known far better than either accuracy.
    generator = np.random.default_rng(1)
    a = generator.random((1, 2000)) < 0.5
    b = a & (generator.random((1, 2000)) > 0.05)
    draws = paired.resample({"a": a, "b": b}, np.arange(2000) % 2, 2, draws=800)
    low, high = percentile(draws["b"]["average"] - draws["a"]["average"])
    alone = percentile(draws["a"]["average"])
    assert high - low < 0.6 * (alone[1] - alone[0])
    assert low < b.mean() - a.mean() < high < 0


def test_paired_bootstrap_covers_the_true_difference():
    generator = np.random.default_rng(2)
    labels, held = np.arange(300) % 3, []
    for repeat in range(120):
        hard = generator.random(300)
        a, b = (hard < 0.5)[None], (hard + 0.05 * generator.normal(size=300) < 0.6)[None]
        draws = paired.resample({"a": a, "b": b}, labels, 3, draws=300, seed=repeat)
        low, high = percentile(draws["b"]["average"] - draws["a"]["average"])
        held.append(low <= 0.1 <= high)
    assert np.mean(held) >= 0.95 - 0.06


def test_the_interval_over_pairs_is_that_of_the_t_test():
    differences = np.array([0.03, -0.01, 0.02, 0.05, 0.0])
    expected = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert paired.over_pairs(differences) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("power", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("pairs", [3, 5, 12])
def test_the_detectable_difference_is_found_as_often_as_it_says(pairs, power):
    generator = np.random.default_rng(pairs)
    differences = generator.normal(size=pairs)
    true = paired.detectable(differences, power)
    studies = generator.normal(true, differences.std(ddof=1), (40_000, pairs))
    found = stats.ttest_1samp(studies, 0.0, axis=1)
    assert np.mean((found.pvalue < 0.05) & (found.statistic > 0)) == pytest.approx(power, abs=0.012)


def test_equal_differences_detect_anything():
    assert paired.detectable([0.02, 0.02, 0.02]) == 0.0


def test_seeds_are_resampled_too():
    # Two seeds at 40 % and 60 %: the interval over seeds must span both, however many examples there are.
    flags = np.stack([np.arange(4000) % 10 < 4, np.arange(4000) % 10 < 6])
    draws = paired.resample({"a": flags}, np.zeros(4000, int), 1, draws=400)
    low, high = percentile(draws["a"]["average"])
    assert low < 0.42 and high > 0.58


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
