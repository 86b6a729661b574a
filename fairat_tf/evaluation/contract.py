"""Does a model fit the data and the attacks? Checked before anything else is computed.

    contract.check(logits_fn, images, labels, class_names)    # raises with one line and the mend

Most wrong robustness figures come from a mismatch here: probabilities for logits, inputs in another range,
BatchNorm in training mode, classes in another order. Each has its own message.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import optimize

from fairat_tf import errors
from fairat_tf.evaluation.attacking import to_float
from fairat_tf.evaluation.probes import NO_GRADIENT, input_gradients

_RANGES = {"0,255": (0.0, 255.0), "-1,1": (-1.0, 1.0)}
_EXAMPLES = 256


def check(
    logits_fn: Any,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    image_shape: Sequence[int | None] | None = None,
    log_probabilities: bool = False,
) -> None:
    """Checks size, classes, logits, range, class order, determinism, batch independence and gradients.

    Args:
      logits_fn: float32 [B, H, W, C] in [0, 1] -> logits [B, K].
      images, labels: examples, uint8 [N, H, W, C] and int [N]; a spread over the classes is used.
      class_names: K names.
      image_shape: (H, W, C) that the model takes, if known; None entries fit anything.
      log_probabilities: the logits are logarithms of what should be probabilities.

    Raises:
      UsageError: the model does not fit as it is; the message says which flag or change mends it.
      Unreliable: the model fits, but no attack on it could be believed.
    """
    _check_size(images.shape[1:], image_shape)
    chosen = np.linspace(0, len(labels) - 1, min(len(labels), _EXAMPLES)).astype(int)
    sample, target = to_float(images[chosen]), np.asarray(labels, np.int32)[chosen]
    logits = _outputs(logits_fn, sample)
    _check_outputs(logits, len(class_names))
    if log_probabilities:
        _check_probabilities(logits)
    _check_repeats(logits_fn, sample, logits)
    _check_range(logits_fn, sample, target, logits)
    _check_order(logits, target, class_names)
    _check_gradients(logits_fn, sample[:32], target[:32])


def _outputs(logits_fn: Any, images: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(logits_fn(tf.constant(images)), np.float32)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:300]
        raise errors.UsageError(
            f"the model does not take images float32 {list(images.shape)}: {reason}; check --image_size"
        ) from error


def _check_size(shape: Sequence[int], expected: Sequence[int | None] | None) -> None:
    if expected and (
        len(expected) != len(shape) or any(e not in (None, s) for e, s in zip(expected, shape, strict=True))
    ):
        raise errors.UsageError(
            f"the model takes images {list(expected)} (height, width, channels), the data has {list(shape)}; "
            f"give --image_size={expected[0]} or another --dataset"
        )


def _check_outputs(logits: np.ndarray, classes: int) -> None:
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise errors.UsageError(
            f"the model returns {list(logits.shape[1:])} values for an image, the data has {classes} "
            "classes; evaluate with the data set whose classes it was trained on"
        )
    if not np.isfinite(logits).all():
        raise errors.UsageError("the model returns NaN or infinity on natural images; check its weights")
    if logits.min() >= 0 and logits.max() <= 1 and np.abs(logits.sum(1) - 1).max() < 1e-3:
        raise errors.UsageError(
            "the model returns probabilities, attacks need logits; give --outputs=softmax to recover them, "
            "or save the model without its last softmax"
        )


def _check_probabilities(logits: np.ndarray) -> None:
    if np.abs(np.exp(logits).sum(1) - 1).max() > 1e-3:
        raise errors.UsageError(
            "--outputs=softmax, but the model does not return probabilities (they do not add up to 1); "
            "if it returns logits, leave the flag out"
        )


def _check_repeats(logits_fn: Any, images: np.ndarray, logits: np.ndarray) -> None:
    scale = max(float(np.abs(logits).max()), 1e-12)
    if np.abs(_outputs(logits_fn, images) - logits).max() > 1e-4 * scale:
        raise errors.Unreliable(
            "the model gives other logits for the same images: dropout or noise is on; make it deterministic"
        )
    alone = np.concatenate([_outputs(logits_fn, images[i : i + 1]) for i in range(min(4, len(images)))])
    if np.abs(alone - logits[: len(alone)]).max() > 1e-2 * scale:
        raise errors.UsageError(
            "an image alone gives other logits than in a batch: BatchNorm runs in training mode; "
            "save or export the model with training=False"
        )


def _check_range(logits_fn: Any, images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> None:
    accuracy = float(np.mean(logits.argmax(1) == labels))
    other = {
        name: float(np.mean(_outputs(logits_fn, images * (high - low) + low).argmax(1) == labels))
        for name, (low, high) in _RANGES.items()
    }
    best = max(other, key=lambda name: other[name])
    slack = 4.0 * np.sqrt(0.25 / len(labels))
    if other[best] > accuracy + slack:
        raise errors.UsageError(
            f"the model is right on {accuracy:.0%} of images in [0, 1] but on {other[best]:.0%} of images in "
            f"[{best}]; give --input_range={best}"
        )


def _check_order(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Compares with the accuracy under the best renaming, found on one half and tried on the other.

    On the examples that it was found on, a renaming is right by chance: wholly, with one of each class.
    """
    size, predicted = len(class_names), logits.argmax(1)
    accuracy = float(np.mean(predicted == labels))
    shuffled, right = np.random.default_rng(0).permutation(len(labels)), 0
    halves = shuffled[::2], shuffled[1::2]
    for found, tried in (halves, halves[::-1]):
        order = _renaming(predicted[found], labels[found], size)
        right += int(np.sum(order[labels[tried]] == predicted[tried]))
    renamed = right / len(labels)
    if len(np.unique(labels)) > 2 and renamed > 0.5 and renamed > 2 * accuracy:
        order = _renaming(predicted, labels, size)
        moved = [f"{class_names[r]}->{class_names[c]}" for r, c in enumerate(order) if r != c]
        raise errors.UsageError(
            f"the model is right on {accuracy:.0%} of the examples, but on {renamed:.0%} if its classes are "
            f"read in another order ({', '.join(moved[:4])}); put the classes into the data set's order"
        )


def _renaming(predicted: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """Returns for each class the predicted class that stands for it, [K], so that most are right."""
    counts = np.bincount(labels.astype(np.int64) * size + predicted, minlength=size * size)
    return optimize.linear_sum_assignment(-counts.reshape(size, size))[1]


def _check_gradients(logits_fn: Any, images: np.ndarray, labels: np.ndarray) -> None:
    _, gradients = input_gradients(logits_fn, images, labels, len(images))
    if (gradients == NO_GRADIENT).any():
        raise errors.Unreliable(
            "the model has no input gradient (rounding, integer or lookup operations, or an endpoint "
            "exported without one): no white-box attack can be believed; evaluate a differentiable version"
        )
    if not np.isfinite(gradients).any():
        raise errors.Unreliable(
            "all input gradients hold NaN or infinity (a root or a logarithm of 0?): attacks cannot move; "
            "evaluate a version whose gradient is defined"
        )
    if not gradients.any():
        raise errors.Unreliable(
            "all input gradients are exactly zero (saturated or quantised model): attacks cannot move; "
            "evaluate a version that gives unsaturated logits in float32"
        )
