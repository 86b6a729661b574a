"""Holds: groups are counted as a plain loop counts them; small ones are shown and marked."""

import numpy as np
import pytest

from fairat_tf import errors
from fairat_tf.evaluation import groups, summary
from fairat_tf.evaluation.attacking import Outcome
from fairat_tf.metrics import intervals

LABELS = np.arange(240) % 3
COLUMN = np.where(np.arange(240) < 200, 0, np.where(np.arange(240) < 230, 1, 3))
CORRECT = (np.arange(240) * 7 % 10 < 6) & (COLUMN != 3)


@pytest.fixture
def result():
    outcomes = [Outcome("clean", np.arange(240), CORRECT, None, 0.0)]
    return summary.summarise(outcomes, LABELS, ("a", "b", "c"), 0.1, "linf", 0)


def test_counts_equal_a_loop(result):
    found = groups.by_group(result, COLUMN, "age")["attacks"]["clean"]
    for g, name in enumerate(("0", "1", "2", "3")):
        own = [i for i in range(240) if COLUMN[i] == g]
        row = found["per_group"][name]
        assert (row["correct"], row["total"]) == (sum(CORRECT[i] for i in own), len(own))
        for c, label in enumerate("abc"):
            cell = found["per_class_and_group"][label][name]
            both = [i for i in own if LABELS[i] == c]
            assert (cell["correct"], cell["total"]) == (sum(CORRECT[i] for i in both), len(both))


def test_small_and_empty_groups_are_shown(result):
    found = groups.by_group(result, COLUMN, "age")
    assert found["sizes"] == {"0": 200, "1": 30, "2": 0, "3": 10}
    assert found["small"] == ["2", "3"]
    assert found["attacks"]["clean"]["per_group"]["2"]["accuracy"] is None
    assert found["attacks"]["clean"]["worst_group"]["name"] == "3"


def test_disparity_and_its_interval(result):
    found = groups.by_group(result, COLUMN, "age", ("young", "middle", "none", "old"))["attacks"]["clean"]
    rows = [row for row in found["per_group"].values() if row["total"]]
    accuracy = [row["accuracy"] for row in rows]
    assert found["disparity"]["value"] == pytest.approx(max(accuracy) - min(accuracy))
    right, total = ([row[key] for row in rows] for key in ("correct", "total"))
    assert found["disparity"]["ci95"] == list(intervals.gap_interval(right, total))
    assert set(found["per_group"]) == {"young", "middle", "none", "old"}


def test_examples_that_were_not_attacked_do_not_count():
    outcomes = [
        Outcome("clean", np.arange(240), CORRECT, None, 0.0),
        Outcome("aa", np.arange(20), CORRECT[:20], None, 0.0),
    ]
    result = summary.summarise(outcomes, LABELS, ("a", "b", "c"), 0.1, "linf", 0)
    found = groups.by_group(result, COLUMN, "age")["attacks"]["aa"]
    assert found["per_group"]["0"]["total"] == 20 and found["per_group"]["1"]["accuracy"] is None


def test_codes_and_names_cover_the_split_and_not_only_what_was_drawn():
    whole = np.array([7, -1, 0, 7, 3, 0])
    codes, names = groups.coded(whole, whole[[0, 1, 3]], ("no", "yes"), "Male")
    assert names == ["-1", "no", "yes", "3", "7"]
    assert [names[code] for code in codes] == ["7", "-1", "7"]


def test_too_many_groups_are_refused():
    column = np.arange(groups.MOST + 1)
    assert len(groups.coded(column[:-1], column[:3], (), "identity")[1]) == groups.MOST
    with pytest.raises(errors.UsageError, match=r"--group_by=identity: 201 values"):
        groups.coded(column, column[:3], (), "identity")


@pytest.mark.parametrize("column", [np.zeros(5, int), np.full(240, -1), np.zeros(240)])
def test_columns_that_do_not_fit_are_refused(result, column):
    with pytest.raises(errors.UsageError, match="--group_by=age"):
        groups.by_group(result, column, "age")


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
