"""In which order an epoch takes the examples: NumPy alone, so that it can be had without TensorFlow.

order = epoch_order(size, seed=0, epoch=3)
"""

from typing import Any

import numpy as np


def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of the examples in `epoch`: a permutation of range(size), int32 [size]."""
    entropy = np.random.SeedSequence([seed & 0xFFFFFFFF, epoch])
    return np.random.Generator(np.random.PCG64(entropy)).permutation(size).astype(np.int32)


def drawn_order(labels: np.ndarray, class_shares: Any, seed: int, epoch: int) -> np.ndarray:
    """Returns an order of `epoch` in which classes are drawn: rows with replacement, int32 [N].

    Args:
      labels: int [N].
      class_shares: probability of each class, [K]; classes without examples have none.
      seed, epoch: as for `epoch_order`.
    """
    entropy = np.random.SeedSequence([seed & 0xFFFFFFFF, epoch, 1])
    generator = np.random.Generator(np.random.PCG64(entropy))
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(class_shares))
    shares = np.where(counts > 0, np.asarray(class_shares, np.float64), 0.0)
    classes = generator.choice(len(shares), len(labels), p=shares / shares.sum())
    places = np.floor(generator.random(len(labels)) * counts[classes]).astype(np.int64)
    return by_class[(np.cumsum(counts) - counts)[classes] + places].astype(np.int32)
