"""Holds: the same number is drawn from each class, seeded; costs are counted as the attacks make passes."""

import numpy as np
import pytest

from fairat_tf.evaluation import planning, sampling, summary
from fairat_tf.evaluation.attacking import Outcome

LABELS = np.random.default_rng(0).choice(5, 400, p=[0.4, 0.3, 0.2, 0.09, 0.01])


def test_the_same_number_of_each_class_and_all_of_a_small_one():
    places = sampling.by_class(LABELS, 6, 20, seed=3)
    small = int((LABELS == 4).sum())
    assert np.bincount(LABELS[places], minlength=6).tolist() == [20, 20, 20, 20, small, 0]
    assert np.all(np.diff(places) > 0)


def test_drawing_is_seeded():
    first, again, other = (sampling.by_class(LABELS, 5, 10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_beginning_of_the_round_robin_is_even():
    order = sampling.round_robin(np.arange(60) % 3, 3, seed=0)
    assert sorted(order) == list(range(60))
    for end in range(1, 60):
        counts = np.bincount(order[:end] % 3, minlength=3)
        assert counts.max() - counts.min() <= 1


def test_examples_in_all_are_divided_by_the_classes_present():
    assert sampling.per_class_for(np.array([0, 1, 3]), 5, 10) == 3
    assert sampling.per_class_for(np.array([0, 1]), 2, 1) == 1


@pytest.mark.parametrize(
    ("attack", "gradients", "forward"),
    [
        ("clean", 0, 1),
        ("fgsm", 1, 2),
        ("pgd20", 20, 2),
        ("cw30", 30, 2),
        ("autoattack", 101 + 9 * 101 + 1800, 5000),
        ("noise", 0, 10 * 2 + 1),
    ],
)
def test_passes(attack, gradients, forward):
    assert planning.passes(attack, classes=10) == (gradients, forward)


def test_attacks_in_rounds_cost_what_their_rounds_do():
    """Forward passes, a gradient being two: nine targets of 101 gradients, 5,000 queries."""
    assert 9 * 202 <= planning.passes("apgd-t", classes=10)[1] <= 9 * 210
    assert 5000 <= planning.passes("square", classes=10)[1] <= 5100
    assert planning.passes("apgd-t", classes=3)[1] < planning.passes("apgd-t", classes=10)[1] / 4


def test_plan_fits_the_budget(small):
    plan = planning.estimate(
        small.logits_fn, small.images, small.labels, ("clean", "autoattack"), 4, 32, budget=0.0
    )
    assert plan["autoattack_examples"] == 0
    assert plan["seconds"]["autoattack"] > 50 * plan["seconds"]["clean"] > 0


def test_summary_of_a_hand_made_table():
    labels = np.array([0, 0, 0, 1, 1, 2])
    correct = np.array([1, 1, 0, 1, 0, 1], bool)
    outcomes = [
        Outcome("clean", np.arange(6), correct, np.array([0, 0, 1, 1, 2, 2]), 1.5),
        Outcome("aa", np.array([0, 3, 4]), np.array([True, False, False]), None, 2.0, note="3 of 6"),
    ]
    found = summary.summarise(outcomes, labels, "abcd", 0.1, "l2", 5, dataset={"name": "x"})
    clean = found["attacks"]["clean"]
    assert (clean["correct"], clean["total"], clean["worst_class"]["name"]) == (4, 6, "b")
    assert clean["confusion"] == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert found["fairness"]["clean"]["absent"] == ["d"]
    assert (
        found["attacks"]["aa"]["note"] == "3 of 6"
        and found["attacks"]["aa"]["per_class"]["c"]["accuracy"] is None
    )
    np.testing.assert_array_equal(found["per_example"]["correct/aa"], [1, -1, -1, 0, 0, -1])
    assert summary.strongest(found) == "aa"


def test_class_names_must_differ():
    with pytest.raises(ValueError, match="different class names"):
        summary.summarise([], np.array([0]), ("a", "a"), 0.1, "linf", 0)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
