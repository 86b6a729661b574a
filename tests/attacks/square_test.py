"""Square against a plain NumPy loop that is fed the same draws, its schedule, and its patterns."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import square, square_windows, threat

H = W = 8


def test_sides_follow_the_schedule_of_the_paper():
    sides = square.side_lengths(5000, 32, 32, 0.8, False, "linf")
    # sqrt(0.8 * 1024 / 2**k), from the k-th threshold on, rounded.
    expected = {0: 29, 10: 29, 11: 20, 50: 20, 51: 14, 201: 10, 501: 7, 1001: 5, 2001: 4, 4001: 3, 4999: 3}
    assert {place: int(sides[place]) for place in expected} == expected
    stretched = square.side_lengths(1000, 32, 32, 0.8, True, "linf")
    assert stretched[1] == 29 and stretched[2] == 20 and stretched[999] == 1
    odd = square.side_lengths(5000, 32, 32, 0.8, False, "l2")
    assert set(odd % 2) == {1} and odd.min() == 3 and odd[0] == 29 and odd[11] == 21


class Draws:
    def __init__(self, seed, count, queries):
        random = np.random.default_rng(seed)
        self.start_signs = random.choice([-1.0, 1.0], (count, 1, W, 3))
        self.numbers = random.random((queries, 5))

    def shared(self, query, count):
        return tf.constant(self.numbers)[query, :count]

    def signs(self, query, shape):
        return tf.constant(self.start_signs)


def reference(network, x, y, epsilon, draws, n, queries):
    """One example, Linf, in loops."""
    low, high = np.maximum(x - epsilon, 0), np.minimum(x + epsilon, 1)

    def margin(point):
        z = network(tf.constant(point[None])).numpy()[0]
        return z[y] - max(z[c] for c in range(len(z)) if c != y)

    best = np.clip(x + epsilon * draws.start_signs[n], low, high)
    least, taken = margin(best), 0
    for q in range(queries):
        if least <= 0:
            break
        p = 0.8 / (1 if q <= 10 else 2 if q <= 50 else 4)
        s = max(round(np.sqrt(p * H * W)), 1)
        row, column = int(draws.numbers[q, 0] * (H - s)), int(draws.numbers[q, 1] * (W - s))
        new = best.copy()
        for channel in range(3):
            sign = -1.0 if draws.numbers[q, 2 + channel] < 0.5 else 1.0
            for i in range(row, row + s):
                for j in range(column, column + s):
                    new[i, j, channel] += 2 * epsilon * sign
        new = np.clip(new, low, high)
        value = margin(new)
        if value < least or value <= 0:
            best, least, taken = new, value, taken + 1
    return best, taken


def test_linf_search_is_that_of_a_plain_loop(networks, images, labelled):
    network = networks(dtype="float64")
    images = images[1:6].astype(np.float64)
    labels = network(images).numpy().argmax(1).astype(np.int32)
    draws, attack = Draws(0, 5, 80), square.Square(0.02, queries=80)
    ball = threat.get("linf")(tf.constant(images), 0.02)
    search = tf.function(
        lambda: attack.search(network, ball, tf.constant(labels), draws, attack.start(ball, draws), 0, 80),
        autograph=False,
    )
    found, taken = search().numpy(), []
    for n in range(5):
        expected, count = reference(network, images[n], labels[n], 0.02, draws, n, 80)
        assert np.abs(found[n] - expected).max() < 1e-12
        taken.append(count)
    assert max(taken) > 3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_segments_continue_where_the_last_one_ended(norm, network, images, labelled):
    labels = tf.constant(labelled(network, images))
    results = []
    for segment in (20, 40):
        attack = square.Square({"linf": 0.01, "l2": 0.1}[norm], norm, queries=40, segment=segment)
        call = tf.function(
            lambda a=attack: a(network, tf.constant(images), labels, tf.constant([1, 2])), autograph=False
        )
        results.append(call().numpy())
    assert np.array_equal(*results) and np.abs(results[0] - images).max() > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_margin_never_rises(norm, network, images):
    labels = network(images).numpy().argmax(1)
    epsilon = {"linf": 0.005, "l2": 0.05}[norm]
    attack, ball = square.Square(epsilon, norm, queries=60), threat.get(norm)(tf.constant(images), epsilon)
    draws = square.SeededDraws(tf.constant([1, 2]))

    def margins(points):
        z = network(points).numpy()
        own = z[np.arange(24), labels].copy()
        z[np.arange(24), labels] = -np.inf
        return own - z.max(1)

    points, y = attack.start(ball, draws), tf.constant(labels, tf.int32)
    trace = [margins(points)]
    search = tf.function(lambda p, a: attack.search(network, ball, y, draws, p, a, a + 20), autograph=False)
    for first in (0, 20, 40):
        points = search(points, tf.constant(first))
        trace.append(margins(points))
    moved = np.diff(trace, axis=0)
    standing = np.array(trace[:-1]) > 0
    assert (moved[standing] <= 1e-5).all() and (moved < -1e-4).any()
    assert (moved[~standing] == 0).all(), "what is misclassified must not move"


def test_l2_change_uses_the_whole_budget_before_clipping():
    images = tf.fill([3, H, W, 3], 0.5)
    ball, attack = threat.get("l2")(images, 0.3), square.Square(0.3, "l2", queries=30)
    draws, network = square.SeededDraws(tf.constant([1, 2])), lambda z: tf.reshape(z, [-1, 192])[:, :2]
    start = attack.start(ball, draws)
    assert np.abs(ball.distance(start) - 0.3).max() < 1e-5
    found = attack.search(network, ball, tf.zeros([3], tf.int32), draws, start, 0, 30)
    assert np.abs(ball.distance(found) - 0.3).max() < 1e-5


@pytest.mark.parametrize("shape", [(40, 6), (40, 1), (6, 40), (3, 3), (1, 9)])
def test_the_grid_has_a_tile_for_any_shape(shape):
    tiles, upright, lying = square_windows.grid(*shape)
    assert tiles.shape == shape and tiles.max() >= 0 and tiles.min() >= -1
    assert np.isfinite(upright).all() and (upright[tiles >= 0] != 0).any() and lying.shape == shape


def test_window_is_a_square_at_the_drawn_corner():
    mask = square_windows.window(tf.constant([0.999, 0.3]), tf.constant(3), 8, 8).numpy()
    # floor(0.999 * 5) = 4 and floor(0.3 * 5) = 1: the last corner, 5, is never drawn.
    expected = np.zeros((8, 8), bool)
    expected[4:7, 1:4] = True
    assert np.array_equal(mask, expected)


def test_pattern_is_a_hill_above_a_valley_of_unit_length():
    pattern = square_windows.pattern(7)
    assert abs((pattern**2).sum() - 1) < 1e-12
    assert (pattern[:3] > 0).all() and (pattern[3:] < 0).all()
    # Upper part, 3 x 7 with centre (1, 3): 1 + 1/4 + 1/9 + 1/16 there, 1/16 at both ends.
    assert pattern[1, 3] / pattern[1, 0] == pytest.approx((1 + 1 / 4 + 1 / 9 + 1 / 16) * 16)
    moved = square_windows.placed(
        tf.constant(square_windows.padded_pattern(3, 8, 8)[..., 0]),
        square_windows.window(tf.constant([0.5, 0.9], tf.float64), tf.constant(3), 8, 8),
    )
    assert np.allclose(moved[2:5, 4:7], square_windows.pattern(3)) and np.count_nonzero(moved) == 9


def test_draws_are_shared_or_by_example_as_named():
    rows = rng.take(tf.constant([1, 2]), tf.constant([5, 0]), 8)
    whole, part = square.SeededDraws(tf.constant([1, 2])), square.SeededDraws(rows)
    assert np.array_equal(whole.shared(3, 5), part.shared(3, 5))
    assert not np.array_equal(whole.shared(3, 5), whole.shared(4, 5))
    signs = whole.signs(3, [8, 4]).numpy()
    assert np.array_equal(signs[[5, 0]], part.signs(3, [2, 4])) and set(np.unique(signs)) == {-1.0, 1.0}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
