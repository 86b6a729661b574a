"""Holds: rho and the bounds of a result count what was evaluated, and nothing else."""

import numpy as np
import pytest

from fairat_tf.evaluation import running, summary
from fairat_tf.evaluation.attacking import Outcome
from fairat_tf.metrics import intervals


def test_rho_is_of_the_examples_that_both_reached():
    """With one network on both sides it is 0, although a budget ended one of them after 20 of 100."""
    labels = np.repeat([0, 1], [90, 10])
    right = np.arange(100) % 4 != 0
    right[90:] = np.arange(10) < 3
    reached = np.r_[0:10, 90:100]
    names = ("cat", "dog")
    whole = Outcome("pgd20", np.arange(100), right, None, 0.0)
    part = Outcome("pgd20", reached, right[reached], None, 0.0)
    base, own = (summary.summarise([o], labels, names, 8 / 255, "linf", 0) for o in (whole, part))
    assert own["fairness"]["pgd20"]["average"] != base["fairness"]["pgd20"]["average"]
    running.add_rho(own, base)
    assert own["fairness"]["pgd20"]["rho"] == 0.0


def test_bounds_of_all_classes_at_once_are_of_the_classes_there():
    labels, right = np.repeat([0, 3], 50), np.arange(100) % 2 == 0
    outcome = Outcome("clean", np.arange(100), right, None, 0.0)
    found = summary.summarise([outcome], labels, tuple("abcd"), 8 / 255, "linf", 0)["fairness"]["clean"]
    low = intervals.simultaneous_lower([25, 25], [50, 50])
    assert found["simultaneous_lower"] == {"a": low[0], "b": 0.0, "c": 0.0, "d": low[1]}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
