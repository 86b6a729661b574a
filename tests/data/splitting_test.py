"""Held: validation splits and limits are disjoint, stratified, seeded, and of the size the rule gives."""

import numpy as np
import pytest

from fairat_tf.data.dataset import Split
from fairat_tf.data.splitting import limited, split_validation


def numbered(labels: list[int]) -> Split:
    """Example i has its number in the first two pixels, so that rows can be told after a split."""
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels)) % 256
    images[:, 0, 1, 0] = np.arange(len(labels)) // 256
    return Split(images, np.array(labels, np.int32), {"row": np.arange(len(labels))})


def test_validation_takes_the_rounded_share_of_each_class() -> None:
    # 0.1 * (40, 26, 4, 2, 1) = (4, 2.6, 0.4, 0.2, 0.1) -> 4, 3, at least 1, at least 1, 0 (a single example)
    split = numbered([0] * 40 + [1] * 26 + [2] * 4 + [3] * 2 + [4])
    train, validation = split_validation(split, 0.1, seed=3, num_classes=5)
    assert validation.counts(5).tolist() == [4, 3, 1, 1, 0]
    assert train.counts(5).tolist() == [36, 23, 3, 1, 1]
    assert sorted([*train.groups["row"], *validation.groups["row"]]) == list(range(73))


def test_rows_keep_their_pixels_and_labels() -> None:
    split = numbered([0, 1] * 300)
    _, validation = split_validation(split, 0.25, seed=0, num_classes=2)
    rows = validation.images[:, 0, 0, 0].astype(int) + 256 * validation.images[:, 0, 1, 0].astype(int)
    assert rows.tolist() == validation.groups["row"].tolist()
    assert validation.labels.tolist() == [row % 2 for row in rows]


def test_validation_depends_on_the_seed_alone() -> None:
    split = numbered([0, 1, 2] * 50)
    first, second, other = (split_validation(split, 0.2, seed, 3)[1].groups["row"] for seed in (7, 7, 8))
    assert first.tolist() == second.tolist()
    assert first.tolist() != other.tolist()


def test_large_fraction_leaves_one_training_example_of_each_class() -> None:
    train, validation = split_validation(numbered([0] * 5 + [1] * 3), 0.99, 0, 2)
    assert (train.counts(2).tolist(), validation.counts(2).tolist()) == ([1, 1], [4, 2])


def test_fraction_zero_is_the_split_itself_and_nothing() -> None:
    split = numbered([0, 1])
    train, validation = split_validation(split, 0.0, 0, 2)
    assert train is split
    assert (len(validation), validation.images.shape) == (0, (0, 2, 2, 1))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, float("nan")])
def test_impossible_fraction_is_an_error(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        split_validation(numbered([0, 1]), fraction, 0, 2)


@pytest.mark.parametrize(
    ("counts", "limit", "expected"),
    [
        ((50, 30, 20), 10, [5, 3, 2]),  # exact proportions
        ((6, 3, 1), 5, [3, 1, 1]),  # 3.0, 1.5, 0.5: the tie of the remainders goes to the raised minimum
        ((96, 2, 2), 4, [2, 1, 1]),  # no class becomes empty
        ((90, 5, 5), 2, [2, 0, 0]),  # fewer than classes: proportions only
        ((4, 4), 100, [4, 4]),  # more than there are: all
    ],
)
def test_limit_keeps_proportions(counts: tuple[int, ...], limit: int, expected: list[int]) -> None:
    split = numbered([label for label, count in enumerate(counts) for _ in range(count)])
    assert limited(split, limit, 0, len(counts)).counts(len(counts)).tolist() == expected


def test_limits_of_one_seed_are_nested_and_shuffled() -> None:
    split = numbered([0] * 500 + [1] * 500)
    small, large = (limited(split, size, 1, 2).groups["row"].tolist() for size in (20, 200))
    assert set(small) < set(large)
    assert small != sorted(small)
    assert small != limited(split, 20, 2, 2).groups["row"].tolist()


def test_limit_zero_is_all_and_negative_is_an_error() -> None:
    split = numbered([0, 1])
    assert limited(split, 0, 0, 2) is split
    with pytest.raises(ValueError, match="-1"):
        limited(split, -1, 0, 2)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
