"""Random draws: a function of (run seed, purpose, step, place), the same in graph, XLA and on replicas."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng


def test_seeds_differ_by_run_purpose_and_step():
    seeds = {
        tuple(rng.key(run, purpose, step).numpy())
        for run in range(4)
        for purpose in ("attack", "augmentation", "order")
        for step in range(25)
    }
    assert len(seeds) == 4 * 3 * 25
    assert tuple(rng.key(0, "attack", 7).numpy()) == tuple(rng.key(0, "attack", tf.constant(7)).numpy())


@pytest.mark.parametrize(
    "draw",
    [
        lambda s: rng.uniform(s, [16, 5], -1.0, 1.0),
        lambda s: rng.normal(s, [16, 5]),
        lambda s: rng.integers(s, [16, 5], 14),
        lambda s: rng.bits(s, [16, 5]),
    ],
)
def test_eager_graph_and_xla_agree(draw):
    seed = rng.key(1, "test", 2)
    eager = draw(seed).numpy()
    np.testing.assert_array_equal(tf.function(draw)(seed), eager)
    compiled = tf.function(draw, jit_compile=True)(seed).numpy()
    if eager.dtype == np.int32:
        np.testing.assert_array_equal(compiled, eager)
    else:
        np.testing.assert_allclose(compiled, eager, rtol=2e-5, atol=1e-6)


def test_uniform_bits_are_exact_under_xla():
    seed = rng.key(1, "test", 2)
    draw = tf.function(lambda: rng.uniform(seed, [64, 9]), jit_compile=True)
    np.testing.assert_array_equal(draw(), rng.uniform(seed, [64, 9]))


def test_distributions():
    seed = rng.key(3, "distribution")
    uniform = rng.uniform(seed, [40000], -2.0, 1.0).numpy()
    assert uniform.min() >= -2.0 and uniform.max() < 1.0
    np.testing.assert_allclose([uniform.mean(), uniform.var()], [-0.5, 9 / 12], atol=0.02)
    normal = rng.normal(seed, [40000]).numpy()
    np.testing.assert_allclose([normal.mean(), normal.std()], [0.0, 1.0], atol=0.02)
    counts = np.bincount(rng.integers(seed, [70000], 7).numpy(), minlength=7)
    assert counts.shape == (7,) and np.abs(counts - 10000).max() < 400


def test_take_gives_each_row_what_its_place_gives():
    seed = rng.key(0, "rows")
    whole = rng.uniform(seed, [8, 3]).numpy()
    rows = tf.constant([6, 1, 1])
    np.testing.assert_array_equal(rng.uniform(rng.take(seed, rows, 8), [3, 3]), whole[[6, 1, 1]])
    folded = rng.uniform(rng.fold(seed, "x"), [8, 3]).numpy()
    np.testing.assert_array_equal(
        rng.uniform(rng.fold(rng.take(seed, rows, 8), "x"), [3, 3]), folded[[6, 1, 1]]
    )
    assert np.abs(folded - whole).max() > 0.1


def test_replicas_draw_their_rows_of_the_global_draw(mirrored):
    seed = rng.key(5, "replicas")
    whole = rng.uniform(seed, [6, 4]).numpy()

    @tf.function
    def draw():
        mine = rng.uniform(seed, [3, 4])
        some = rng.uniform(rng.take(seed, tf.constant([2, 0]), 3), [2, 4])
        return mine, some

    mine, some = mirrored.run(draw)
    first, second = mirrored.experimental_local_results(mine)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(mirrored.experimental_local_results(some)[1], whole[[5, 3]])


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
