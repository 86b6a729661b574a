"""FairAT's algorithm box, step by step, with an attack and an augmentation that can be followed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import methods
from tests import support
from tests.methods.brightness import LEVELS, SEED, Counting, batch, brightness_network, fairat, level


def test_default_reading_attacks_all_scores_augments_and_attacks_the_hard_again():
    method, attack = fairat()
    examples = method.training_batch(batch(), SEED)
    assert attack.calls == [4, 2]
    np.testing.assert_allclose(level(examples.images), [0.225, 0.2 + 0.125, 0.325, 0.15 + 0.125], rtol=1e-6)
    np.testing.assert_allclose(level(examples.natural), [0.1, 0.2, 0.2, 0.15], rtol=1e-6)
    assert examples.hard.numpy().tolist() == [False, True, False, True]
    z = 4 * (LEVELS + 0.125)
    np.testing.assert_allclose(examples.scores, np.log1p(np.exp(z)), rtol=1e-5)


def test_literal_reading_augments_the_pgd_examples_themselves():
    method, attack = fairat(hard_reattack=False)
    examples = method.training_batch(batch(), SEED)
    assert attack.calls == [4]
    np.testing.assert_allclose(level(examples.images), [0.225, 0.525 / 2, 0.325, 0.425 / 2], rtol=1e-6)


@pytest.mark.parametrize("score", ["natural", "start", "entropy", "margin", "memory"])
def test_scores_that_need_no_finished_attack_cost_one_attack(score):
    method, attack = fairat(hard_score=score, num_examples=4)
    if score == "memory":
        method.memory.assign([0.0, 2.0, 1.0, 3.0])
    examples = method.training_batch(batch(), SEED)
    assert attack.calls == [4]
    # entropy and margin: the dimmest images are nearest to the tie at brightness 0
    hard = [True, False, True, False] if score in ("entropy", "margin") else [False, True, False, True]
    assert examples.hard.numpy().tolist() == hard
    np.testing.assert_allclose(level(examples.images), np.where(hard, LEVELS / 2, LEVELS) + 0.125, rtol=1e-6)


def test_append_trains_on_old_and_new_views():
    method, attack = fairat(hard_combine="append")
    examples = method.training_batch(batch(), SEED)
    assert attack.calls == [4, 2]
    np.testing.assert_allclose(level(examples.images), [0.225, 0.525, 0.325, 0.425, 0.325, 0.275], rtol=1e-6)
    assert examples.labels.shape == (6,) and examples.present.numpy().tolist() == [1.0] * 6


def test_mean_selection_appends_only_members():
    method, _ = fairat(hard_combine="append", hard_select="mean", hard_score="natural")
    examples = method.training_batch(batch(), SEED)
    assert examples.images.shape[0] == 8
    assert float(tf.reduce_sum(examples.present)) == 4 + int(examples.hard.numpy().sum())


def test_warm_up_is_plain_adversarial_training():
    method, _ = fairat(hard_warmup_epochs=2)
    examples = method.training_batch(batch(), SEED)
    np.testing.assert_allclose(level(examples.images), LEVELS + 0.125, rtol=1e-6)
    method.on_epoch_begin(2)
    assert int(method.training_batch(batch(), SEED).hard.numpy().sum()) == 2


def test_the_ramp_augments_and_attacks_no_more_than_it_has_reached():
    method, _ = fairat(hard_fraction=1.0, hard_ramp_epochs=1)
    expected = LEVELS + 0.125  # two of four: the brightest are the hardest
    brightest = np.argsort(-LEVELS)[:2]
    expected[brightest] = LEVELS[brightest] / 2 + 0.125
    np.testing.assert_allclose(level(method.training_batch(batch(), SEED).images), expected, rtol=1e-6)


def test_easy_fraction_augments_others_too_but_marks_only_the_hard():
    method, _ = fairat(easy_fraction=1.0)
    examples = method.training_batch(batch(), SEED)
    np.testing.assert_allclose(level(examples.images), LEVELS / 2 + 0.125, rtol=1e-6)
    assert examples.hard.numpy().tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        # one step of attack each; a gradient by the weights counts 1.5, a score 0.5
        ({}, 1 + 1.5 + 0.5 + 0.5),
        ({"hard_score": "start"}, 1 + 1.5 + 0.5),
        ({"hard_score": "memory", "num_examples": 4}, 1 + 1.5),
        ({"hard_select": "mean"}, 1 + 1.5 + 0.5 + 1),
        ({"easy_fraction": 0.1}, 1 + 1.5 + 0.5 + 1),
        ({"hard_combine": "append"}, 1 + 1.5 + 0.5 + 0.5 + 0.75),
        ({"hard_reattack": False}, 1 + 1.5 + 0.5),
    ],
)
def test_passes_count_the_rows_that_are_computed(options, passes):
    assert fairat(**options)[0].passes == passes


class Darken:
    """An augmentation after which the two dimmest images are read as class 1."""

    def __call__(self, images, seed):
        return images - 0.25


def test_leak_diagnostic_splits_by_the_plain_view():
    method, _ = fairat()
    method.augmentation = Darken()
    method.validation_attack = lambda logits_fn, images, labels, seed: -images  # all become class 1
    labels, present = np.array([1, 0, 0, 0]), np.array([1, 1, 1, 0], bool)
    data = {"image": batch().images, "label": tf.constant(labels), "mask": tf.constant(present, tf.float32)}
    logs = {k: float(v) for k, v in method.test_step(data).items()}
    right = np.where(LEVELS > 0, 0, 1) == labels
    hit = np.where(LEVELS > 0.25, 0, 1) == labels
    assert logs["augmented_when_right"] == hit[right & present].mean() == 0.5
    assert logs["augmented_when_wrong"] == hit[~right & present].mean() == 1.0
    np.testing.assert_array_equal(method.augmented_right.per_class(), [0.5, np.nan])
    np.testing.assert_array_equal(method.augmented_wrong.per_class(), [np.nan, 1.0])


VARIANTS = [
    {"hard_reattack": False},
    {"hard_score": "start"},
    {"hard_score": "entropy", "easy_fraction": 0.25},
    {"hard_score": "memory", "hard_combine": "append"},
    {"hard_select": "mean", "hard_combine": "append"},
    {"hard_select": "quantile", "hard_choice": "easiest"},
    {"hard_choice": "random", "hard_group": 4},
    {"hard_choice": "worst_classes"},
    {"hard_choice": "all"},
    {"hard_balanced": True},
    {"hard_ramp_epochs": 2, "hard_combine": "append"},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_reading_gives_the_same_with_and_without_xla(options):
    data = support.batch_of(support.tiny_split(), 8)
    results = []
    for jit in (False, True):
        method = support.make_method("fairat", num_examples=64, augmentation="cutout:2", **options)
        step = tf.function(method.train_step, jit_compile=jit, autograph=False)
        for _ in range(3):
            logs = step(data)
        results.append((method.network.get_weights(), {k: float(v) for k, v in logs.items()}))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"hard_fraction": 0.0},
        {"hard_fraction": 1.5},
        {"hard_score": "loss"},
        {"easy_fraction": -0.1},
        {"hard_warmup_epochs": -1},
        {"augmentation": "nothing"},
        {"hard_ramp_epochs": -1},
        {"hard_ramp_epochs": 2, "hard_select": "quantile"},
        {"hard_ramp_epochs": 2, "hard_choice": "all"},
        {"hard_group": 2, "hard_select": "mean"},
        {"hard_group": 2, "hard_choice": "worst_classes"},
        {"hard_choice": "random", "hard_select": "quantile"},
        {"hard_choice": "random", "hard_select": "mean"},
        {"hard_balanced": True, "hard_select": "mean"},
        {"hard_balanced": True, "hard_group": 2},
        {"hard_balanced": True, "hard_choice": "all"},
        {"hard_balanced": True, "hard_choice": "worst_classes"},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError):
        methods.get("fairat")(brightness_network(), attack=Counting(), num_classes=2, **options)


def test_one_step_equals_the_closed_form_gradient():
    method, _ = fairat()
    before = keras.ops.convert_to_numpy(method.network.trainable_variables[0]).copy()
    labels = np.array([1, 1, 1, 1])
    method.train_step({"image": batch().images, "label": tf.constant(labels)})
    x = np.array([0.225, 0.325, 0.325, 0.275])[:, None]  # what the default reading trains on
    logits = x @ before
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = x.T @ (p - np.eye(2)[labels]) / 4 + 1e-3 * before
    after = keras.ops.convert_to_numpy(method.network.trainable_variables[0])
    np.testing.assert_allclose(after, before - 0.05 * gradient, rtol=1e-5)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
