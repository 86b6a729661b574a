"""Holds: the robust-fairness statistics equal hand-made and published tables, with classes as they are."""

import json

import numpy as np
import pytest

from fairat_tf import metrics
from fairat_tf.metrics.fairness import class_counts, from_counts, rho, spread

# Class accuracies of two published AutoAttack logs and the statistics worked out from them.
FAAL = [0.524, 0.678, 0.311, 0.318, 0.339, 0.369, 0.376, 0.468, 0.592, 0.576]
OTHER = [0.592, 0.713, 0.357, 0.380, 0.387, 0.392, 0.433, 0.550, 0.618, 0.659]


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (FAAL, (0.4551, 0.311, 0.367, 0.12437, 0.27327, 0.22823, 0.32267, 0.1530)),
        (OTHER, (0.5081, 0.357, 0.356, 0.12596, 0.2479, 0.25606, 0.37467, 0.13834)),
    ],
)
def test_statistics_of_published_tables(accuracy, expected):
    found = spread(accuracy)
    keys = ("class_average", "worst", "gap", "sd", "nsd", "nsd_error", "worst_30", "gini")
    np.testing.assert_allclose([found[key] for key in keys], expected, atol=6e-6)
    assert found["variance"] == pytest.approx(np.var(accuracy))


def test_worst_shares_round_up():
    found = spread(np.arange(15) / 20)  # 10 % of 15 classes: two; 20 %: three; 30 %: five
    assert found["worst_10"] == pytest.approx(0.025)
    assert found["worst_20"] == pytest.approx(0.05)
    assert found["worst_30"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("average", "worst", "expected"),
    [
        (44.68, 25.84, 0.110),
        (50.78, 27.62, 0.316),
        (45.89, 17.82, -0.242),
        (46.30, 28.55, 0.269),
        (49.05, 30.53, 0.418),
    ],
)
def test_rho_of_published_table(average, worst, expected):
    assert rho(average, worst, 49.80, 21.31) == pytest.approx(expected, abs=6e-4)


def test_classes_are_counted_as_they_are():
    # 8 examples of class 0 (6 right), 2 of class 1 (1 right), none of class 2.
    labels = np.array([0] * 8 + [1] * 2)
    correct = np.array([True] * 6 + [False] * 2 + [True, False])
    found = metrics.fairness(correct, labels, num_classes=3)
    assert found["average"] == pytest.approx(0.7)
    assert found["class_average"] == pytest.approx(0.625)
    assert found["worst_class"]["index"] == 1 and found["worst_class"]["accuracy"] == 0.5
    assert found["gap"] == pytest.approx(0.25)
    assert found["absent"] == [2] and found["per_class"][2]["accuracy"] is None
    assert [row["total"] for row in found["per_class"]] == [8, 2, 0]


def test_renaming_the_classes_renames_the_result():
    labels = np.arange(60) % 3
    correct = (np.arange(60) % 7 > 1) & ((labels != 1) | (np.arange(60) % 2 == 0))
    order = np.array([2, 0, 1])
    first, second = metrics.fairness(correct, labels, 3), metrics.fairness(correct, order[labels], 3)
    assert second["worst_class"]["index"] == order[first["worst_class"]["index"]]
    assert second["nsd"] == pytest.approx(first["nsd"])
    assert [second["per_class"][order[c]] for c in range(3)] == first["per_class"]


def test_the_minimum_is_biased_down_and_the_bias_is_reported():
    # Ten classes observed at exactly 30 % of 100: resampling finds a minimum near 23.3 %.
    found = from_counts(np.full(10, 30), np.full(10, 100))["worst_class"]
    assert found["bootstrap"]["bias"] == pytest.approx(-0.067, abs=0.004)
    assert found["bootstrap"]["corrected"] == pytest.approx(0.367, abs=0.004)
    assert found["ci95"][0] < 0.3 < found["ci95"][1]


def test_simultaneous_lower_bounds_lie_below_single_ones():
    found = from_counts([50, 80], [100, 100])
    assert all(
        low < row["ci95"][0] for low, row in zip(found["simultaneous_lower"], found["per_class"], strict=True)
    )


def test_rho_is_added_for_a_baseline_and_all_is_json():
    base = from_counts([40, 60], [100, 100])
    found = from_counts([50, 60], [100, 100], baseline=base)
    assert found["rho"] == pytest.approx((0.5 - 0.4) / 0.4 + (0.55 - 0.5) / 0.5)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("correct", "labels", "message"),
    [([True], [0, 1], "one shape"), ([True, True], [0, 5], "num_classes"), ([[True]], [[0]], "one shape")],
)
def test_arrays_that_do_not_fit_are_refused(correct, labels, message):
    with pytest.raises(ValueError, match=message):
        class_counts(correct, labels, 3)


def test_no_examples_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one class"):
        metrics.fairness(np.zeros(0, bool), np.zeros(0, int), 3)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
