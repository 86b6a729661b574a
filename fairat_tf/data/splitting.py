"""Stratified, seeded subsets of a split: validation data, and the first N of a data set.

train, validation = split_validation(data.train, fraction=0.02, seed=0, num_classes=10)
"""

import zlib

import numpy as np

from fairat_tf.data.dataset import Split

TEST_SHARE = 0.2


def _shuffled(size: int, seed: int, purpose: str) -> np.ndarray:
    entropy = np.random.SeedSequence([seed & 0xFFFFFFFF, zlib.crc32(purpose.encode())])
    return np.random.Generator(np.random.PCG64(entropy)).permutation(size)


def split_validation(split: Split, fraction: float, seed: int, num_classes: int) -> tuple[Split, Split]:
    """Returns (train, validation): disjoint, together all of `split`, each in the order of `split`.

    Of every class with n examples, round(fraction * n) go to validation, chosen by `seed`; at least one
    where n >= 2, and never all of them. `fraction` 0 returns (`split`, an empty split).

    Raises:
      ValueError: `fraction` is outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"validation fraction: expected a number in [0, 1), received {fraction}.")
    order = _shuffled(len(split), seed, "validation")
    chosen = np.zeros(len(split), bool)
    for label in range(num_classes if fraction else 0):
        members = order[split.labels[order] == label]
        wanted = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen[members[: max(wanted, 0)]] = True
    if not fraction:
        return split, split.take(np.zeros(0, np.int64))
    return split.take(np.flatnonzero(~chosen)), split.take(np.flatnonzero(chosen))


def carve_test(split: Split, num_classes: int) -> tuple[Split, Split]:
    """Returns (train, test) of data that come without a test split: a stratified 20 %, the same ones always.

    No seed decides: runs of different seeds have the same test examples, and none has trained on them.
    """
    return split_validation(split, TEST_SHARE, 0, num_classes)


def limited(split: Split, limit: int, seed: int, num_classes: int) -> Split:
    """Returns about the first `limit` of a seeded permutation of `split`, in the permutation's order.

    Class proportions are kept as far as whole numbers allow (largest remainders, and at least one example
    of every class where `limit` >= the number of classes present), so small subsets have no empty class.
    `limit` 0, or one above the size, returns `split` itself.

    Raises:
      ValueError: `limit` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit: expected 0 (all) or a number of examples, received {limit}.")
    if not limit or limit >= len(split):
        return split
    order = _shuffled(len(split), seed, "limit")
    quotas = _quotas(split.counts(num_classes), limit)
    ordered = split.labels[order]
    rank = np.zeros(len(split), np.int64)
    for label in range(num_classes):
        rank[ordered == label] = np.arange((ordered == label).sum())
    return split.take(order[rank < quotas[ordered]])


def _quotas(counts: np.ndarray, limit: int) -> np.ndarray:
    """Returns how many examples each class keeps: integers that sum to `limit`, at most `counts`."""
    exact = counts * limit / counts.sum()
    present = int((counts > 0).sum())
    quotas = np.floor(exact).astype(np.int64)
    if limit >= present:
        quotas = np.maximum(quotas, counts > 0)
    while quotas.sum() > limit:
        quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
    for label in np.argsort(quotas - exact, kind="stable")[: limit - quotas.sum()]:
        quotas[label] += 1
    return quotas
