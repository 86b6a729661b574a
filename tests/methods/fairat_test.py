"""FairAT's algorithm box, step by step, with an attack and an augmentation that can be followed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import methods, rng
from fairat_tf.methods.base import Batch
from tests import support


class Counting:
    """An attack that adds 0.125 to every pixel and notes how many examples each call got."""

    steps = 1

    def __init__(self):
        self.calls = []

    def __call__(self, logits_fn, images, labels, seed, epsilon=None):
        self.calls.append(int(images.shape[0]))
        return images + 0.125

    def start(self, images, seed, epsilon=None):
        return images + 0.0625


class Halve:
    """An augmentation that halves every pixel."""

    def draw(self, seed, batch_size, image_shape):
        return {}

    def apply(self, images, parameters):
        return images * 0.5

    def __call__(self, images, seed):
        return images * 0.5


def brightness_network():
    """Returns logits (brightness, 0): cross-entropy of label 1 rises, of label 0 falls with brightness."""
    image = keras.Input((2, 2, 1))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    dense = keras.layers.Dense(
        2, use_bias=False, kernel_initializer=keras.initializers.Constant([[4.0, 0.0]])
    )
    return keras.Model(image, dense(mean))


def fairat(**options):
    attack = Counting()
    method = support.make_method("fairat", brightness_network(), attack=attack, **options)
    method.augmentation = Halve()
    return method, attack


LEVELS = np.array([0.1, 0.4, 0.2, 0.3], np.float32)  # with label 1, the hardest are rows 1 and 3


def batch(labels=(1, 1, 1, 1)):
    images = np.broadcast_to(LEVELS[:, None, None, None], (4, 2, 2, 1))
    size = tf.ones(4)
    return Batch(tf.constant(images), tf.constant(labels, tf.int32), tf.range(4), size)


def level(images):
    return np.asarray(images)[:, 0, 0, 0]


SEED = rng.key(0, "test")


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


def test_scores_by_closed_form():
    probability = 1 / (1 + np.exp(-4 * LEVELS))
    entropy = -(probability * np.log(probability) + (1 - probability) * np.log(1 - probability))
    expected = {
        "natural": np.log1p(np.exp(4 * LEVELS)),
        "start": np.log1p(np.exp(4 * (LEVELS + 0.0625))),
        "entropy": entropy,
        "margin": -4 * LEVELS,
    }
    for name, values in expected.items():
        method, _ = fairat(hard_score=name)
        np.testing.assert_allclose(method.scores(batch(), None, SEED), values, rtol=1e-5, err_msg=name)


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


@pytest.mark.parametrize(
    ("choice", "hard"),
    [("easiest", [0, 2]), ("all", [0, 1, 2, 3]), ("hardest", [1, 3])],
)
def test_controls(choice, hard):
    method, _ = fairat(hard_choice=choice)
    assert np.flatnonzero(method.training_batch(batch(), SEED).hard).tolist() == hard


def test_balanced_takes_the_hardest_of_each_class():
    unbalanced, _ = fairat()
    balanced, _ = fairat(hard_balanced=True)
    assert np.flatnonzero(unbalanced.training_batch(batch((0, 1, 0, 1)), SEED).hard).tolist() == [1, 3]
    # class 0 is hard where it is dim, class 1 where it is bright
    assert np.flatnonzero(balanced.training_batch(batch((0, 1, 0, 1)), SEED).hard).tolist() == [0, 1]


def test_random_control_takes_k_whatever_the_scores_and_varies_with_the_seed():
    method, _ = fairat(hard_choice="random")
    masks = [method.training_batch(batch(), rng.key(0, "test", s)).hard.numpy() for s in range(60)]
    assert {int(m.sum()) for m in masks} == {2}
    np.testing.assert_allclose(np.mean(masks, 0), 0.5, atol=0.2)


def test_worst_classes_control_follows_the_class_accuracy():
    method, _ = fairat(hard_choice="worst_classes", hard_fraction=0.5)
    method.class_accuracy.assign([0.9, 0.2])
    labels = (0, 1, 0, 1)
    assert not method.training_batch(batch(labels), SEED).hard.numpy().any()  # nothing is known in epoch 0
    method.on_epoch_begin(1)
    assert method.training_batch(batch(labels), SEED).hard.numpy().tolist() == [False, True, False, True]


def test_warm_up_is_plain_adversarial_training():
    method, _ = fairat(hard_warmup_epochs=2)
    examples = method.training_batch(batch(), SEED)
    np.testing.assert_allclose(level(examples.images), LEVELS + 0.125, rtol=1e-6)
    method.on_epoch_begin(2)
    assert int(method.training_batch(batch(), SEED).hard.numpy().sum()) == 2


@pytest.mark.parametrize("group", [0, 4])
def test_the_share_grows_after_the_warm_up_in_equal_steps(group):
    method, _ = fairat(hard_fraction=1.0, hard_warmup_epochs=1, hard_ramp_epochs=3, hard_group=group)
    chosen = []
    for epoch in range(6):
        method.on_epoch_begin(epoch)
        chosen.append(np.flatnonzero(method.training_batch(batch(), SEED).hard).tolist())
    hardest_first = np.argsort(-LEVELS)
    assert chosen == [sorted(hardest_first[:count].tolist()) for count in (0, 1, 2, 3, 4, 4)]


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


def test_memory_holds_the_last_training_loss_and_unseen_examples_are_not_hard():
    method, _ = fairat(hard_score="memory", num_examples=6)
    assert not method.training_batch(batch(), SEED).hard.numpy().any()
    data = {"image": batch().images, "label": batch().labels, "index": tf.constant([5, 0, 2, 3])}
    method.train_step(data)
    remembered = keras.ops.convert_to_numpy(method.memory)
    z = 4 * (LEVELS + 0.125)
    np.testing.assert_allclose(remembered[[5, 0, 2, 3]], np.log1p(np.exp(z)), rtol=1e-5)
    assert remembered[[1, 4]].tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("choice, expected", [("hardest", [1, 3]), ("easiest", [0, 2])])
@pytest.mark.parametrize("select", ["topk", "quantile", "mean"])
def test_what_memory_does_not_know_is_neither_chosen_nor_counted(choice, expected, select):
    options = {"hard_choice": choice, "hard_select": select, "hard_score": "memory"}
    method, _ = fairat(num_examples=8, hard_fraction=0.5, **options)
    data = {
        "image": tf.tile(batch().images, [2, 1, 1, 1]),
        "label": tf.ones(8, tf.int32),
        "index": tf.range(8),
    }
    both = Batch(data["image"], data["label"], data["index"], tf.ones(8))
    method.train_step(data)  # nobody is known: nobody is hard, and no threshold has moved
    assert np.isnan(float(method.threshold)) and method.hard_share.result() == 0.0
    known = keras.ops.convert_to_numpy(method.memory)[:4]
    method.memory.assign([*known, -1.0, -1.0, -1.0, -1.0])
    taken = np.flatnonzero(method.training_batch(both, SEED).hard).tolist()
    assert taken == ([0, 1, 2, 3] if select == "topk" else expected)  # half of eight rows are four
    method.train_step(data)
    if select == "quantile":
        sign = 1 if choice == "hardest" else -1
        assert float(method.threshold) == pytest.approx(np.sort(sign * known)[-2], rel=1e-6)


def test_memory_holds_the_cross_entropy_without_weights_smoothing_or_regularisation():
    plain, _ = fairat(hard_score="memory", num_examples=4)
    other, _ = fairat(
        hard_score="memory", num_examples=4, class_weights="0,1", label_smoothing=0.3, loss="mart"
    )
    data = {"image": batch().images, "label": tf.constant([0, 1, 1, 0]), "index": tf.range(4)}
    for method in (plain, other):
        method.train_step(data)
    kept = [keras.ops.convert_to_numpy(method.memory) for method in (plain, other)]
    np.testing.assert_allclose(kept[0], kept[1], rtol=1e-6)
    assert (kept[0] > 0).all()


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


def test_memory_says_what_it_needs():
    with pytest.raises(ValueError, match="num_examples"):
        fairat(hard_score="memory")
    method, _ = fairat(hard_score="memory", num_examples=4)
    with pytest.raises(ValueError, match="index"):
        method.train_step((batch().images, batch().labels))


def test_running_quantile_by_hand():
    method, _ = fairat(hard_select="quantile", hard_score="natural")
    levels = LEVELS + np.array([[0.0], [0.2]], np.float32)  # two batches, the second one brighter

    def step(images):
        logits = method.network(images).numpy()
        scores = np.log1p(np.exp(logits[:, 0] - logits[:, 1]))
        hard = method.training_batch(batch()._replace(images=images), SEED).hard.numpy()
        method.train_step({"image": images, "label": batch().labels})
        return scores, hard, float(method.threshold)

    first, second = (np.broadcast_to(row[:, None, None, None], (4, 2, 2, 1)).copy() for row in levels)
    scores, hard, threshold = step(first)
    start = np.sort(scores)[-2]  # the first batch sets it: half of the examples reach it
    assert hard.tolist() == [False, True, False, True] and threshold == pytest.approx(start, rel=1e-5)
    scores, hard, threshold = step(second)
    moved = 0.9 * start + 0.1 * np.sort(scores)[-2]
    assert threshold == pytest.approx(moved, rel=1e-5)
    assert hard.tolist() == (scores >= moved).tolist() == [False, True, True, True]


def test_two_devices_find_the_hard_examples_of_the_global_batch(mirrored):
    split = support.tiny_split()
    data = support.batch_of(split, 16)
    one = support.make_method("fairat", support.tiny_network())
    expected = one.training_batch(Batch(data["image"], data["label"], data["index"], tf.ones(16)), SEED)
    with mirrored.scope():
        two = support.make_method("fairat", support.tiny_network())

    @tf.function(autograph=False)
    def run(images, labels):
        index = tf.range(8)
        made = two.training_batch(Batch(images, labels, index, tf.ones(8)), SEED)
        return made.images, made.hard

    def part(values):
        return mirrored.experimental_distribute_values_from_function(
            lambda c: values[8 * c.replica_id_in_sync_group :][:8]
        )

    images, hard = mirrored.run(run, (part(data["image"]), part(data["label"])))
    hard = np.concatenate(mirrored.experimental_local_results(hard))
    np.testing.assert_array_equal(hard, expected.hard)
    assert hard.sum() == 8
    together = np.concatenate(mirrored.experimental_local_results(images))
    np.testing.assert_allclose(together, expected.images, atol=1e-6)


def test_leak_diagnostic_splits_by_the_plain_view():
    method, _ = fairat()
    data = {"image": batch().images, "label": tf.constant([0, 0, 1, 1]), "mask": tf.ones(4)}
    logs = {k: float(v) for k, v in method.test_step(data).items()}
    # brightness > 0 is always class 0: halving changes no prediction
    assert logs["augmented_when_right"] == 1.0 and logs["augmented_when_wrong"] == 0.0


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
