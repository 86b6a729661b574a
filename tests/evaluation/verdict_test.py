"""Holds: each check fires for the weakness it is made for, names the class, and stays silent otherwise."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import eval_lib
from fairat_tf.evaluation import graph_scan, planted, probes, verdict
from fairat_tf.evaluation.attacking import Bench, Outcome
from fairat_tf.evaluation.checks import FAIL, PASS, WARN, Check, Finding, excess

ROOT = Path(__file__).resolve().parents[2]


def _evaluated(small, logits_fn, checks="quick", attacks=("fgsm", "pgd20")):
    return eval_lib.evaluate(
        logits_fn,
        small.images,
        small.labels,
        small.names,
        attacks=attacks,
        checks=checks,
        epsilon=planted.EPSILON,
    )


def _outcome(result, name):
    return next(check for check in result["verdict"]["checks"] if check["name"] == name)


def test_a_masked_class_is_found_and_named(small):
    result = _evaluated(small, planted.masked_class(small.logits_fn, 1))
    assert result["attacks"]["pgd20"]["per_class"]["cross"]["accuracy"] == 1.0  # what the mask pretends
    assert result["verdict"]["status"] == "unreliable"
    assert result["verdict"]["per_class"] == {
        "bars": "reliable", "cross": "unreliable", "rings": "reliable", "checks": "reliable",
    }  # fmt: skip
    assert _outcome(result, "zero gradients")["classes"] == ["cross"]


@pytest.mark.slow
def test_a_stronger_attack_sees_through_the_mask(small):
    result = _evaluated(small, planted.masked_class(small.logits_fn, 1), checks="full")
    assert _outcome(result, "stronger attack")["outcome"] == "fail"
    assert "cross" in _outcome(result, "stronger attack")["classes"]


@pytest.mark.slow
def test_selftest_catches_every_planted_weakness():
    rows = planted.run(seed=0)
    assert [row["model"] for row in rows if not row["caught"]] == []
    assert len(rows) == 7
    page = (ROOT / "docs/evaluate.md").read_text()
    for row in rows[:3]:
        assert f"ok     {row['model']}: {row['found']}\n" in page


def test_a_model_without_gradients_is_refused_or_not_caught(small, monkeypatch):
    test = small.images, small.labels, 0
    row = planted._judged("rounded", "not reliable", planted.quantised_input(small.logits_fn), *test)
    assert row["caught"] and row["found"] == "refused (the model has no input gradient)"
    monkeypatch.setattr(planted.contract, "check", lambda *_: None)
    row = planted._judged("rounded", "not reliable", planted.quantised_input(small.logits_fn), *test)
    assert not row["caught"]


def test_quick_checks_of_a_sound_model(small):
    result = _evaluated(small, small.logits_fn)
    assert result["verdict"]["status"] == "reliable"
    assert {check["outcome"] for check in result["verdict"]["checks"]} == {"pass", "not run"}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda s: planted.noisy(s.logits_fn, 0), "random output"),
        (lambda s: lambda x: tf.nn.softmax(s.logits_fn(x)), "softmax"),
        (lambda s: planted.quantised_smoothly(s.logits_fn), "zero gradients"),
    ],
)
def test_each_weakness_has_its_check(small, make, name):
    result = _evaluated(small, make(small), attacks=("fgsm",))
    assert _outcome(result, name)["outcome"] == "fail"
    assert result["verdict"]["status"] == "unreliable"


def _sample(small, **correct):
    """A sample whose outcomes have the given flags; 80 examples, 20 of each class."""
    bench = Bench(small.logits_fn, small.images, small.labels)
    outcomes = [
        Outcome(n.replace("_", "-"), np.arange(80), np.asarray(c, bool), None, 0.0)
        for n, c in correct.items()
    ]
    return probes.Sample(bench, np.arange(80), outcomes, 4)


def test_fgsm_stronger_than_pgd_is_a_failure_of_that_class(small):
    right = np.ones(80, bool)
    broken = right & ~((small.labels == 2) & (np.arange(80) < 60))
    finding = probes.iterative_beats_single_step(_sample(small, fgsm=broken, pgd20=right))
    assert finding.outcome == FAIL and finding.classes.tolist() == [PASS, PASS, FAIL, PASS]
    finding = probes.iterative_beats_single_step(_sample(small, fgsm=right, pgd20=broken))
    assert finding.level == PASS


def test_square_winning_is_noticed(small):
    right = np.ones(80, bool)
    broken = right.copy()
    broken[np.flatnonzero(small.labels == 3)[:4]] = False
    finding = probes.square_wins(_sample(small, apgd_ce=right, fab_t=right, square=broken, autoattack=broken))
    assert finding.outcome == FAIL and finding.classes.tolist() == [PASS, PASS, PASS, FAIL]
    whole = probes.square_wins(_sample(small, fab_t=right, square=right, autoattack=right))
    assert whole.level == PASS
    assert probes.square_wins(_sample(small, pgd20=right)).outcome is None
    alone = _sample(small, apgd_ce=broken, fab_t=right, square=broken)  # each on all examples
    assert probes.square_wins(alone).outcome is None


def _rooted(small, wanted):
    """The same logits; on images whose mean is one of the wanted the gradient is NaN, by a root at 0."""

    def logits_fn(images):
        means = tf.reduce_mean(images, [1, 2, 3])
        near = tf.reduce_any(tf.abs(means[:, None] - tf.constant(wanted, tf.float32)) < 1e-6, 1)
        zero = tf.sqrt(tf.where(near, means * 0.0, 1.0)) - tf.where(near, 0.0, 1.0)
        return small.logits_fn(images) + tf.pad(zero[:, None], [[0, 0], [0, 3]])

    return logits_fn


def test_one_gradient_of_nan_is_told_and_is_no_missing_gradient(small):
    mean = (small.images[:1] / np.float32(255)).mean((1, 2, 3))
    bench = Bench(_rooted(small, mean), small.images, small.labels)
    right = [Outcome("clean", np.arange(80), np.ones(80, bool), None, 0.0)]
    sample = probes.Sample(bench, np.arange(80), right, 4)
    assert np.isnan(sample.gradients[1][0]) and np.isfinite(sample.gradients[1][1:]).all()
    assert sample.has_gradients
    finding = probes.zero_gradients(sample)
    assert finding.outcome == WARN and "1.2% one with NaN" in finding.message


def test_logits_of_nan_are_no_repeated_answer(small):
    bench = Bench(lambda x: small.logits_fn(x) * np.nan, small.images, small.labels)
    right = [Outcome("clean", np.arange(80), np.ones(80, bool), None, 0.0)]
    finding = probes.random_output(probes.Sample(bench, np.arange(80), right, 4))
    assert finding.outcome == FAIL and "NaN" in finding.message


def test_black_box_beats_an_attack_that_did_nothing(small):
    # The claimed outcome says that nothing falls although the model answers the sign of a pixel at 0.5.
    images = np.full((80, 12, 12, 3), 128, np.uint8)
    bench = Bench(
        lambda x: tf.stack([x[:, 0, 0, 0] - 0.5, 0.5 - x[:, 0, 0, 0]], 1), images, np.zeros(80, int)
    )
    claimed = [Outcome(n, np.arange(80), np.ones(80, bool), None, 0.0) for n in ("clean", "pgd20")]
    assert probes.black_box(probes.Sample(bench, np.arange(80), claimed, 2)).outcome == FAIL


def test_limits_need_a_share_and_a_number_of_examples():
    levels = excess(np.array([0, 1, 2, 3, 3]), np.array([5, 5, 40, 100, 20]), warn=(2, 0.03), fail=(3, 0.10))
    assert levels.tolist() == [PASS, PASS, WARN, WARN, FAIL]


def test_summary_takes_the_worst_of_all():
    def row(outcome, classes=()):
        return Check("n", "q?", lambda s: None), Finding(outcome, "m", np.array(classes, int))

    assert verdict.summarise([row(PASS), row(None)], "ab")["status"] == "reliable"
    assert verdict.summarise([row(PASS, [PASS, WARN])], "ab")["status"] == "suspicious"
    found = verdict.summarise([row(WARN, [WARN, PASS]), row(FAIL, [PASS, FAIL])], "ab")
    assert found["status"] == "unreliable" and found["per_class"] == {"a": "suspicious", "b": "unreliable"}
    assert verdict.summarise([row(FAIL)], "ab")["per_class"] == {"a": "unreliable", "b": "unreliable"}


def test_operations_are_found_in_nested_functions():
    @tf.function
    def inner(images):
        return images + tf.random.uniform(tf.shape(images))

    assert graph_scan.suspicious_operations(inner, (1, 2, 2, 1)) == ["RandomUniform"]
    assert graph_scan.suspicious_operations(lambda x: tf.nn.relu(x), (1, 2, 2, 1)) == []


def test_unknown_mode_is_refused(small):
    with pytest.raises(ValueError, match="none, quick, full"):
        _evaluated(small, small.logits_fn, checks="much")


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
