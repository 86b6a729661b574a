"""What happens between two epochs besides validation: `Method.on_epoch_end`, with NumPy alone.

changed = after_epoch(facts["between"], arrays)      # place -> new values

As in `fairat_tf.methods.base`: each class's accuracy in training is remembered, which
--hard_choice=worst_classes and --class_label_smoothing need, and --class_weights=inverse or hedge make the
weights of the next epoch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import package

weighting = package.module("methods/class_weights.py")


def after_epoch(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the variables that change, place -> values.

    Args:
      facts: `_between` of the export.
      arrays: place -> values after the epoch and its validation, of which the sums of the metrics are read.
    """
    accuracy = class_accuracy(np.asarray(arrays[facts["counts"]]))
    changed, spec = {facts["class_accuracy"]: accuracy}, facts["class_weights"]
    if weighting.follows_losses(spec):
        seen = mean_losses(*(np.asarray(arrays[place]) for place in facts["robust_loss"]))
        total = np.asarray(arrays[facts["total_losses"]]) + seen.astype(np.float32)
        changed |= {facts["total_losses"]: total, facts["class_weight"]: weighting.by_losses(spec, total)}
    elif (weights := weighting.by_accuracy(spec, accuracy)) is not None:
        changed[facts["class_weight"]] = weights
    return changed


def class_accuracy(counts: np.ndarray) -> np.ndarray:
    """Returns the accuracy of each class, float32 [K], from counts [K, K].

    A class without an example has the mean of the others, and 1 where no class has any.
    """
    total = counts.sum(1)
    known = np.where(total > 0, np.diag(counts) / np.maximum(total, 1), np.nan)
    return weighting.unknown_as_mean(known).astype(np.float32)


def mean_losses(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns the mean loss of each class and of all examples, [K + 1]; of an absent class that of all."""
    average = total.sum() / count.sum()
    return np.append(np.where(count > 0, total / np.maximum(count, 1), average), average)
