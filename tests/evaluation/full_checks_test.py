"""Holds: what --checks=full adds: the curve over the radius, and the checks that attack a sample again."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import eval_lib
from fairat_tf.evaluation import curve, planted, probes
from fairat_tf.evaluation.attacking import Bench, Outcome
from fairat_tf.evaluation.checks import FAIL, PASS, WARN

FACTORS = [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6]  # as the report's picture and its page show them
EVERY = np.arange(80)


@pytest.fixture(scope="module")
def mistaken(small):
    """The labels, two of each class wrong: the network is right on 72 of the 80 examples at most."""
    return np.where(EVERY < 8, (small.labels + 1) % 4, small.labels)


@pytest.fixture(scope="module")
def result(small, mistaken):
    return eval_lib.evaluate(
        small.logits_fn, small.images, mistaken, small.names, attacks=("pgd20", "cw20"), checks="full"
    )


def _sample(logits_fn, images, labels, classes, epsilon=8 / 255, **correct):
    outcomes = [Outcome(name, EVERY, np.asarray(flags, bool), None, 0.0) for name, flags in correct.items()]
    return probes.Sample(Bench(logits_fn, images, labels, epsilon), EVERY, outcomes, classes)


def test_every_check_is_made_and_a_sound_model_passes(result):
    found = {check["name"]: check["outcome"] for check in result["verdict"]["checks"]}
    not_run = {name for name, outcome in found.items() if outcome == "not run"}
    assert not_run == {"iterative beats single step", "square wins"}  # need fgsm, need autoattack
    assert {outcome for name, outcome in found.items() if name not in not_run} == {"pass"}
    assert result["verdict"]["status"] == "reliable"


def test_the_curve_has_its_radii_begins_with_clean_accuracy_and_only_falls(small, mistaken, result):
    points = result["curve"]["points"]
    assert result["curve"]["examples"] == 80
    radii = np.array([point["epsilon"] for point in points])
    np.testing.assert_allclose(radii, np.array(FACTORS) * 8 / 255, rtol=1e-12)
    right = np.argmax(small.logits_fn(small.images / np.float32(255)), axis=1) == mistaken
    assert points[0]["accuracy"] == right.mean() < 1
    assert points[0]["worst_class"] == min(right[mistaken == c].mean() for c in range(4))
    for name in ("accuracy", "worst_class"):
        assert np.all(np.diff([point[name] for point in points]) <= 0)
    at_epsilon = points[FACTORS.index(1)]["accuracy"]
    assert abs(at_epsilon - result["attacks"]["pgd20"]["accuracy"]) <= 2 / 80
    assert points[1]["accuracy"] > at_epsilon > points[FACTORS.index(1.5)]["accuracy"] > 0
    assert points[-1]["accuracy"] == 0


def test_an_example_that_fell_does_not_stand_up_again_in_the_curve(small):
    """Under gradients of 0 the attack is its random start, which breaks now this example and now that."""
    bench = Bench(planted.quantised_smoothly(small.logits_fn), small.images, small.labels)
    accuracy = [point["accuracy"] for point in curve.measure(bench, 4)["points"]]
    assert accuracy[0] < 1 and accuracy[-1] > 0.5 and np.all(np.diff(accuracy) <= 0)


def test_a_model_that_stands_at_the_largest_radius_is_not_believed(small, result):
    weak = planted.quantised_smoothly(small.logits_fn)
    finding = probes.larger_epsilon(_sample(weak, small.images, small.labels, 4, pgd20=EVERY >= 0))
    assert finding.outcome == FAIL and FAIL in finding.classes
    (sound,) = [check for check in result["verdict"]["checks"] if check["name"] == "larger epsilon"]
    assert sound["outcome"] == "pass" and sound["value"] == {"2x": 0.0, "0.5": 0.0, "1": 0.0}


def test_more_right_answers_at_twice_the_radius_are_not_believed(small):
    """What stands within 2/255 stands within 1/255: an attack that broke ten of it there was no attack."""
    sample = _sample(small.logits_fn, small.images, small.labels, 4, epsilon=1 / 255, pgd20=EVERY >= 10)
    finding = probes.larger_epsilon(sample)
    assert finding.value["2x"] > 0.95 and finding.value["0.5"] == finding.value["1"] == 0.0
    assert finding.outcome == FAIL


def _one_pixel_after_another(images):
    """Falls where six pixels are near their upper end; only the first that is not has a gradient.

    A step is an eighth of a pixel's way, so that the attack needs 24 steps in the mean.
    """
    height = (images[:, 0, :6, 0] - 0.5) / (8 / 255)
    arrived = tf.cast(height > 0.9, tf.float32)
    total = tf.reduce_sum(tf.math.cumprod(arrived, 1, exclusive=True) * height, 1)
    return tf.stack([tf.zeros_like(total), 10 * (total - 5.4)], 1)


def test_an_attack_that_has_not_converged_is_told():
    grey = np.full((80, 12, 12, 3), 0.5, np.float32)
    slow = probes.doubled_steps(_sample(_one_pixel_after_another, grey, np.zeros(80, int), 2))
    assert slow.outcome == WARN and slow.classes.tolist() == [WARN, PASS]  # all examples are of class 0
    assert slow.message.startswith("40 steps break ") and int(slow.message.split()[3]) > 30


def test_a_model_without_gradients_is_not_attacked_again(small):
    sample = _sample(planted.quantised_input(small.logits_fn), small.images, small.labels, 4)
    for check in (probes.stronger_attack, probes.doubled_steps, probes.larger_epsilon):
        assert check(sample).outcome is None


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
