"""Holds: what fits a budget is what its plan says, and a plan's passes are those that attacks make."""

import itertools
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, eval_lib, rng
from fairat_tf.evaluation import planning
from fairat_tf.evaluation.attacking import Bench, Outcome

EXAMPLES, BATCH = 80, 16
GRADIENT, FORWARD = 2.0, 0.5  # seconds for an example, by the clock of `plan`


@pytest.fixture
def plan(small, monkeypatch):
    """Plans with a clock that shows 2 s for an example's gradient and half a second for a forward pass."""

    def plan(names, budget):
        times = itertools.accumulate([0, BATCH * GRADIENT, 1, BATCH * FORWARD])
        monkeypatch.setattr(planning, "time", SimpleNamespace(monotonic=lambda: next(times)))
        return planning.estimate(small.logits_fn, small.images, small.labels, names, 4, BATCH, budget)

    return plan


def test_seconds_are_passes_times_what_a_pass_takes(plan):
    seconds = plan(("clean", "pgd20", "autoattack"), None)["seconds"]
    assert seconds["clean"] == EXAMPLES * FORWARD
    assert seconds["pgd20"] == EXAMPLES * (20 * GRADIENT + 2 * FORWARD)
    suite = (101 + 3 * 101 + 3 * 200) * GRADIENT + 5000 * FORWARD  # APGD-CE, three targets, Square
    assert seconds["autoattack"] == EXAMPLES * suite


def test_tracing_is_no_part_of_the_plan(small):
    def slow_to_trace(images):
        time.sleep(0.2)
        return small.logits_fn(images)

    plan = planning.estimate(slow_to_trace, small.images, small.labels, ("clean", "pgd20"), 4, BATCH)
    assert plan["seconds"]["pgd20"] < 0.2 / BATCH * EXAMPLES * 20  # what one trace would make of it


@pytest.mark.parametrize(("left", "fit"), [(7.0, 7), (6.999, 6), (0.5, 0), (-3.0, 0), (80.0, 80), (90.0, 80)])
def test_the_suite_gets_what_the_other_attacks_leave(plan, left, fit):
    names = ("clean", "pgd20", "autoattack")
    seconds = plan(names, None)["seconds"]
    budget = seconds["clean"] + seconds["pgd20"] + left * seconds["autoattack"] / EXAMPLES
    assert plan(names, budget)["autoattack_examples"] == fit


def _counting(classes):
    """Returns a network that withstands every attack for label 0, and its [forward, gradient] passes."""
    passes = [0, 0]

    @tf.custom_gradient
    def seen(images):
        passes[0] += 1

        def gradient(upstream):
            passes[1] += 1
            return upstream

        return tf.identity(images), gradient

    def logits_fn(images):
        mean = tf.reduce_mean(seen(images), [1, 2, 3])
        others = [mean * (number + 1) / 100 for number in range(classes - 1)]
        return tf.stack([10 - mean, *others], 1)

    return logits_fn, passes


@pytest.mark.parametrize("name", ["fgsm", "pgd20", "cw7", "noise", "apgd-ce", "mt-pgd"])
def test_the_passes_of_the_plan_are_those_of_the_attack(name):
    """In forward passes, a gradient being two: at most 1 % and one too few, a tenth and 12 too many."""
    logits_fn, made = _counting(4)
    images = tf.fill((2, 6, 6, 3), 0.5)
    changed = attacks.get(name)(epsilon=0.03)(logits_fn, images, tf.zeros(2, tf.int32), rng.key(0, "passes"))
    assert (np.argmax(logits_fn(changed), axis=1) == 0).all()  # as the evaluation looks at it
    gradients, forward = planning.passes(name, 4)
    needed, planned = made[0] + made[1], 2 * gradients + forward
    assert 0.99 * needed - 1 <= planned <= 1.1 * needed + 12


def test_pgd_makes_a_gradient_a_step():
    logits_fn, made = _counting(4)
    attacks.get("pgd20")(epsilon=0.03)(
        logits_fn, tf.fill((2, 6, 6, 3), 0.5), tf.zeros(2, tf.int32), rng.key(0, "passes")
    )
    assert (made[1], made[0] - made[1] + 1) == planning.passes("pgd20", 4) == (20, 2)


def test_what_was_spent_is_missing_from_the_budget_of_what_follows(small, monkeypatch):
    spent, left = {"clean": 5.0, "fgsm": 10.0, "pgd20": 20.0, "autoattack": 1.0}, {}

    def outcome(bench, name):
        places = np.arange(len(bench.labels))
        return Outcome(name, places, np.ones(len(places), bool), None, spent[name])

    def attack(bench, name, clean, deadline=None):
        left[name] = deadline
        return [outcome(bench, name)]

    monkeypatch.setattr(Bench, "clean", lambda bench: outcome(bench, "clean"))
    monkeypatch.setattr(Bench, "attack", attack)
    arguments = (small.logits_fn, small.images, small.labels, small.names)
    options = {"attacks": ("autoattack", "fgsm", "pgd20"), "checks": "none"}
    result = eval_lib.evaluate(*arguments, **options, budget=100.0)
    assert left == {"fgsm": 95.0, "pgd20": 85.0, "autoattack": 65.0}
    assert list(result["attacks"]) == ["clean", "autoattack", "fgsm", "pgd20"]
    eval_lib.evaluate(*arguments, **options)
    assert set(left.values()) == {None}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
