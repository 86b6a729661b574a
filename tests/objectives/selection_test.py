"""The hard mask against hand-made tables, ties and edges included."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.objectives import selection

TABLE = [
    # scores, fraction, chosen rows: k = max(1, round half up), ties to the lower index
    ([3.0, 1.0, 2.0, 4.0], 0.5, [0, 3]),
    ([1.0, 1.0, 1.0, 1.0], 0.5, [0, 1]),
    ([0.0, 5.0, 5.0, 5.0], 0.25, [1]),
    ([2.0, 7.0, 7.0, 1.0, 7.0], 0.5, [1, 2, 4]),  # 2.5 rounds to 3
    ([1.0, 2.0, 3.0], 0.01, [2]),
    ([1.0, 2.0, 3.0], 1.0, [0, 1, 2]),
    ([-1.0, -3.0, -2.0], 0.34, [0]),
    ([float("inf"), 0.0, float("inf"), 9.0], 0.5, [0, 2]),
]


@pytest.mark.parametrize(("scores", "fraction", "rows"), TABLE)
@pytest.mark.parametrize("jit", [False, True])
def test_topk_table(scores, fraction, rows, jit):
    choose = tf.function(lambda s: selection.topk(s, fraction), jit_compile=jit)
    assert np.flatnonzero(choose(tf.constant(scores))).tolist() == rows


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.99, 1.0])
def test_topk_has_exactly_k_and_no_lower_score_inside(size, fraction):
    scores = np.random.default_rng(size).integers(0, 4, size).astype(np.float32)
    mask = selection.topk(tf.constant(scores), fraction).numpy()
    assert mask.sum() == min(size, max(1, int(np.floor(fraction * size + 0.5))))
    if not mask.all():
        assert scores[mask].min() >= scores[~mask].max()


def test_groups_choose_within_each_group():
    scores = tf.constant([9.0, 8.0, 7.0, 6.0, 1.0, 2.0, 2.0, 0.0])
    assert np.flatnonzero(selection.in_groups(scores, 0.5, 4)).tolist() == [0, 1, 5, 6]
    with pytest.raises(ValueError, match="hard_group 3 must divide"):
        selection.in_groups(scores, 0.5, 3)


def test_unknown_scores_count_neither_for_the_mean_nor_for_the_quantile():
    known, gap = [3.0, 1.0, 2.0, 4.0], -float("inf")
    mixed = tf.constant([gap, 3.0, gap, 1.0, 2.0, gap, 4.0])
    assert float(selection.quantile(mixed, 0.5)) == float(selection.quantile(tf.constant(known), 0.5)) == 3.0
    assert np.flatnonzero(selection.above_mean(mixed)).tolist() == [1, 6]
    nobody = tf.fill([3], gap)
    assert np.isnan(float(selection.quantile(nobody, 0.5)))
    assert not selection.above_mean(nobody).numpy().any()


def test_what_is_wholly_reached_is_the_number_of_a_fixed_share():
    for size in (90, 100, 250):
        scores = tf.range(size, dtype=tf.float32)
        for fraction in (0.265, 0.295, 0.502, 0.525, 0.65):
            chosen = selection.topk(scores, fraction, tf.constant(1.0, tf.float64))
            assert int(chosen.numpy().sum()) == selection.count_of(fraction, size)


@pytest.mark.parametrize(("reached", "count"), [(0.0, 1), (0.25, 1), (0.5, 2), (0.7, 3), (1.0, 4)])
def test_topk_and_groups_stop_where_the_share_has_got_to(reached, count):
    scores = tf.constant([0.1, 0.9, 0.8, 0.2, 0.3, 0.7, 0.6, 0.4])
    hardest_first = np.argsort(-scores.numpy())[:count]
    chosen = selection.topk(scores, 0.5, tf.constant(reached, tf.float64))
    assert np.flatnonzero(chosen).tolist() == sorted(hardest_first.tolist())
    grouped = selection.in_groups(tf.tile(scores, [2]), 0.5, 8, tf.constant(reached, tf.float64))
    assert np.flatnonzero(grouped).tolist() == sorted([*hardest_first, *(hardest_first + 8)])


def test_mean_and_quantile_by_hand():
    scores = tf.constant([1.0, 2.0, 3.0, 6.0])
    assert selection.above_mean(scores).numpy().tolist() == [False, False, False, True]
    assert float(selection.quantile(scores, 0.5)) == 3.0
    assert selection.above_mean(tf.fill([3], 2.0)).numpy().tolist() == [False] * 3


def test_lowest_classes_ties_go_to_the_lower_class():
    assert selection.lowest_classes(tf.constant([0.5, 0.1, 0.1, 0.9]), 0.25).numpy().tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_places_in_class_by_hand():
    scores = tf.constant([5.0, 1.0, 9.0, 9.0, 2.0, 3.0])
    labels = tf.constant([0, 0, 0, 1, 1, 2])
    expected = [-1.5 / 3, -2.5 / 3, -0.5 / 3, -0.5 / 2, -1.5 / 2, -0.5]
    np.testing.assert_allclose(selection.places_in_class(scores, labels), expected, rtol=1e-6)
    tied = selection.places_in_class(tf.ones(4), tf.constant([1, 0, 1, 1]))
    np.testing.assert_allclose(tied, [-0.5 / 3, -0.5, -1.5 / 3, -2.5 / 3], rtol=1e-6)


def test_the_highest_places_are_the_same_share_of_every_class():
    labels = np.repeat(np.arange(4), [40, 20, 10, 10])
    scores = np.random.default_rng(0).normal(size=80).astype(np.float32) + 5 * labels
    chosen = selection.topk(selection.places_in_class(tf.constant(scores), tf.constant(labels)), 0.5).numpy()
    assert [chosen[labels == k].mean() for k in range(4)] == [0.5] * 4
    for k in range(4):
        own, inside = scores[labels == k], chosen[labels == k]
        assert own[inside].min() > own[~inside].max()


def test_replicas_choose_what_one_device_chooses(mirrored):
    scores = np.array([5, 1, 7, 7, 3, 7, 0, 2], np.float32)
    expected = selection.topk(tf.constant(scores), 0.5).numpy()

    @tf.function
    def choose(part):
        mask = selection.topk(selection.global_scores(part), 0.5)
        return selection.local(mask, part.shape[0])

    parts = mirrored.experimental_distribute_values_from_function(
        lambda context: tf.constant(scores[4 * context.replica_id_in_sync_group :][:4])
    )
    got = mirrored.experimental_local_results(mirrored.run(choose, (parts,)))
    assert np.concatenate(got).tolist() == expected.tolist()


def test_replicas_without_a_size_of_the_batch_are_refused(mirrored):
    signature = [tf.TensorSpec([None], tf.float32)]
    gather = tf.function(selection.global_scores, input_signature=signature)
    assert gather(tf.ones([3])).shape == [3]  # one device needs none
    with pytest.raises(ValueError, match="drop_remainder=True"):
        mirrored.run(gather, (tf.ones([3]),))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
