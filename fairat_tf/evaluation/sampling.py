"""Which examples are evaluated: the same number from each class, seeded.

places = by_class(labels, num_classes=10, per_class=100, seed=0)   # int64, ascending
order = round_robin(labels, num_classes=10, seed=0)                # all, one of each class in turn
"""

import numpy as np


def by_class(labels: np.ndarray, num_classes: int, per_class: int, seed: int) -> np.ndarray:
    """Returns the places of `per_class` examples of each class (all of a smaller class), ascending."""
    chosen = [places[:per_class] for places in _shuffled(labels, num_classes, seed)]
    return np.sort(np.concatenate(chosen))


def per_class_for(labels: np.ndarray, num_classes: int, examples: int) -> int:
    """Returns how many of each present class make up about `examples` in all (at least one)."""
    present = int(np.count_nonzero(np.bincount(labels, minlength=num_classes)))
    return max(examples // max(present, 1), 1)


def round_robin(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """Returns all places so that every beginning of the list is as even over the classes as can be."""
    places = _shuffled(labels, num_classes, seed)
    turn = np.concatenate([np.arange(len(own)) for own in places])
    owner = np.repeat(np.arange(num_classes), [len(own) for own in places])
    return np.concatenate(places)[np.lexsort((owner, turn))]


def _shuffled(labels: np.ndarray, num_classes: int, seed: int) -> list[np.ndarray]:
    labels = np.asarray(labels)
    return [
        np.random.default_rng([seed, c]).permutation(np.flatnonzero(labels == c)) for c in range(num_classes)
    ]
