"""Who is hard: the scores in closed form, the choice, its controls, the memory, and several devices."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.methods.base import Batch
from tests import support
from tests.methods.brightness import LEVELS, SEED, batch, fairat


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


@pytest.mark.parametrize("group", [0, 4])
def test_the_share_grows_after_the_warm_up_in_equal_steps(group):
    method, _ = fairat(hard_fraction=1.0, hard_warmup_epochs=1, hard_ramp_epochs=3, hard_group=group)
    chosen = []
    for epoch in range(6):
        method.on_epoch_begin(epoch)
        chosen.append(np.flatnonzero(method.training_batch(batch(), SEED).hard).tolist())
    hardest_first = np.argsort(-LEVELS)
    assert chosen == [sorted(hardest_first[:count].tolist()) for count in (0, 1, 2, 3, 4, 4)]


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


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
