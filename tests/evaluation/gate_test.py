"""Holds: gates are read as written and judged on the end of the interval, not on the observed value."""

import numpy as np
import pytest
from scipy import stats

from fairat_tf import errors
from fairat_tf.evaluation import gate, groups, summary
from fairat_tf.evaluation.attacking import Outcome


def _result(right, total):
    """An evaluation with the given counts by class, under the attacks clean and pgd20."""
    labels = np.repeat(np.arange(len(total)), total)
    correct = np.concatenate([np.arange(n) < r for r, n in zip(right, total, strict=True)])
    outcomes = [Outcome(name, np.arange(len(labels)), correct, None, 0.0) for name in ("clean", "pgd20")]
    names = ("cat", "dog", "ship <b>")[: len(total)]
    return summary.summarise(outcomes, labels, names, 8 / 255, "linf", 0)


RESULT = _result([60, 40, 50], [100, 100, 100])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("autoattack.worst_class>=0.25", ("autoattack", "worst_class", "", ">=", 0.25)),
        ("pgd20.gap <= 30%", ("pgd20", "gap", "", "<=", 0.3)),
        ("apgd-t.class[ship <b>]>=1/4", ("apgd-t", "class", "ship <b>", ">=", 0.25)),
        ("clean.average>=.9", ("clean", "average", "", ">=", 0.9)),
        ("pgd20.group[1]>=5e-1", ("pgd20", "group", "1", ">=", 0.5)),
    ],
)
def test_parse(text, expected):
    found = gate.parse(text)
    assert (found.attack, found.what, found.which, found.sign, pytest.approx(found.bound)) == expected


@pytest.mark.parametrize(
    "text", ["worst_class>=0.2", "pgd20.worst_class=0.2", "pgd20.best>=1", "pgd20.class>=0.2",
             "pgd20.gap<=130%",
             "pgd20.average[cat]>=0.1", "pgd20.average>=1/0", "pgd20.average>0.5"],
)  # fmt: skip
def test_what_is_not_a_gate_is_refused(text):
    with pytest.raises(errors.UsageError, match="--gate="):
        gate.parse(text)


def _passed(text, result=RESULT, confidence=0.95):
    return gate.judge([gate.parse(text)], result, confidence)[0]["passed"]


def test_the_lower_end_decides():
    low = stats.binomtest(40, 100).proportion_ci(0.95, "exact").low  # of the worst class
    assert _passed(f"pgd20.worst_class>={low - 1e-4:.6f}")
    assert not _passed(f"pgd20.worst_class>={low + 1e-4:.6f}")
    assert not _passed("pgd20.worst_class>=0.4")  # observed, but not shown


@pytest.mark.parametrize("text", ["pgd20.worst_class>=0", "pgd20.gap<=1"])
def test_a_class_that_was_not_measured_misses_the_gate(text):
    row = gate.judge([gate.parse(text)], _result([60, 0, 50], [100, 0, 100]))[0]
    assert not row["passed"] and "no evaluated example of dog" in row["message"]
    assert _passed("pgd20.class[cat]>=0.1", _result([60, 0, 50], [100, 0, 100]))


@pytest.mark.parametrize("text", ["pgd20.worst_group>=0", "pgd20.group_gap<=1"])
def test_a_group_that_was_not_measured_misses_the_gate(text):
    column, names = np.arange(300) % 2, ["young", "old", "unknown"]
    result = RESULT | {"groups": groups.by_group(RESULT, column, "age", names)}
    row = gate.judge([gate.parse(text)], result)[0]
    assert not row["passed"] and "no evaluated example of unknown" in row["message"]
    assert _passed("pgd20.group[old]>=0.1", result) and _passed("pgd20.worst_class>=0.1", result)


def test_a_gate_of_an_absent_class_is_refused_before_anything_is_computed():
    with pytest.raises(errors.UsageError, match="no example of class 'dog' is evaluated"):
        gate.check_names([gate.parse("clean.class[dog]>=0")], ["clean"], ["cat", "dog"], [], ["dog"])


def test_confidence_moves_the_bound():
    assert _passed("pgd20.worst_class>=0.33", confidence=0.8)
    assert not _passed("pgd20.worst_class>=0.33", confidence=0.99)


def test_average_and_class_use_wilson():
    low = stats.binomtest(150, 300).proportion_ci(0.95, "wilson").low
    assert _passed(f"pgd20.average>={low - 1e-4:.6f}") and not _passed(f"pgd20.average>={low + 1e-4:.6f}")
    high = stats.binomtest(60, 100).proportion_ci(0.95, "wilson").high
    assert _passed(f"pgd20.class[cat]<={high + 1e-4:.6f}") and not _passed(
        f"pgd20.class[cat]<={high - 1e-4:.6f}"
    )


def test_gap_is_judged_on_its_upper_end():
    row = gate.judge([gate.parse("pgd20.gap<=0.2")], RESULT)[0]
    assert row["observed"] == pytest.approx(0.2) and not row["passed"]
    assert _passed("pgd20.gap<=0.45")


def test_more_examples_let_the_same_accuracy_pass():
    assert not _passed("pgd20.worst_class>=0.35")
    assert _passed("pgd20.worst_class>=0.35", _result([600, 400, 500], [1000, 1000, 1000]))


def test_the_message_says_which_and_why():
    row = gate.judge([gate.parse("pgd20.worst_class>=0.4")], RESULT)[0]
    assert (
        "dog" in row["message"] and "40.0 %" in row["message"] and "lower end of the 95 %" in row["message"]
    )


def test_groups_can_be_gated():
    column = np.tile([0, 1], 150)
    result = {**RESULT, "groups": groups.by_group(RESULT, column, "side", ("left", "right"))}
    assert _passed("pgd20.worst_group>=0.38", result)
    assert _passed("pgd20.group[left]>=0.4", result)
    assert not _passed("pgd20.group_gap<=0.01", result)


@pytest.mark.parametrize(
    ("text", "message"),
    [("cw20.average>=0.1", "not among --attacks"), ("pgd20.class[cow]>=0.1", "no class 'cow'"),
     ("pgd20.worst_group>=0.1", "--group_by")],
)  # fmt: skip
def test_names_are_checked_before_the_work(text, message):
    with pytest.raises(errors.UsageError, match=message):
        gate.check_names([gate.parse(text)], ("clean", "pgd20"), ("cat", "dog"), groups=())


def test_a_group_without_examples_is_refused_before_the_work():
    gate.check_names([gate.parse("clean.group[old]>=0.1")], ("clean",), ("cat", "dog"), ("old", "young"))
    with pytest.raises(errors.UsageError, match="no examples of group 'yes'; the groups are old, young"):
        gate.check_names([gate.parse("clean.group[yes]>=0.1")], ("clean",), ("cat",), ("old", "young"))


def test_unknown_names_are_refused_when_judged():
    for text in ("cw20.average>=0.1", "pgd20.class[cow]>=0.1", "pgd20.worst_group>=0.1"):
        with pytest.raises(errors.UsageError):
            _passed(text)


def test_the_end_that_decides_is_told_apart_from_the_bound():
    assert gate._beside(0.2496, 0.25) == "24.96" and gate._beside(0.2401, 0.25) == "24.0"
    assert gate._beside(0.25, 0.25) == "25.0" and gate._beside(0.07, 0.0704) == "7.0"


def test_a_class_or_group_that_a_budget_did_not_reach_is_missed():
    """Nothing is known of it: no error once the work is done."""
    column = np.repeat([0, 1], [290, 10])
    result = {**RESULT, "per_example": dict(RESULT["per_example"])}
    flags = result["per_example"]["correct/pgd20"].copy()
    flags[290:] = -1
    result["per_example"]["correct/pgd20"] = flags
    result["groups"] = groups.by_group(result, column, "side", ("common", "(20, 30]"))
    row = gate.judge([gate.parse("pgd20.group[(20, 30]]>=0")], result)[0]
    assert not row["passed"] and "no evaluated example of (20, 30]" in row["message"]
    assert _passed("pgd20.group[common]>=0.1", result)
    assert _passed("clean.group[(20, 30]]>=0", result)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
