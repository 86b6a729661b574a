"""Weights of classes for any training method (`--class_weights`).

    first(spec, num_classes)                      # before training, NumPy [K]
    next_weights(spec, class_accuracy)            # after each epoch

"1,1,2": fixed numbers, one a class. "inverse" or "inverse:2": by robust accuracy in training, with the
formula of Fair-ARD (Yue et al., "Revisiting Adversarial Robustness Distillation from the Perspective of
Robust Fairness", NeurIPS 2023): w_k = K * t_k^-p / sum over j of t_j^-p, cut to [5/6, 5/2]. There t_k is the
number of PGD steps that the class survives on average; here it is its robust accuracy in the last epoch,
which costs no further attack.
"""

import numpy as np

_LOWEST, _HIGHEST = 5 / 6, 5 / 2
_FLOOR = 1e-3  # a class that is never right would have an infinite weight


def _power(spec: str) -> float:
    return float(spec.partition(":")[2] or 2.0)


def first(spec: str, num_classes: int) -> np.ndarray:
    """Returns the weights of the first epoch, float32 [K]: the fixed numbers, or ones.

    Raises:
      ValueError: neither K numbers nor "inverse" nor "inverse:POWER".
    """
    try:
        if spec.partition(":")[0] == "inverse" and _power(spec) >= 0.0:
            return np.ones(num_classes, np.float32)
        numbers = np.array([float(number) for number in spec.split(",")], np.float32)
    except ValueError:
        numbers = np.zeros(0, np.float32)
    if numbers.shape != (num_classes,) or not (numbers >= 0).all() or not numbers.any():
        raise ValueError(
            f"class_weights must be {num_classes} numbers of at least 0 with commas between them, inverse or "
            f"inverse:POWER; received {spec!r}"
        )
    return numbers


def next_weights(spec: str, class_accuracy: np.ndarray) -> np.ndarray | None:
    """Returns the weights for the next epoch, float32 [K]; None where they are fixed."""
    if not spec.startswith("inverse"):
        return None
    return inverse(class_accuracy, _power(spec))


def inverse(survival: np.ndarray, power: float) -> np.ndarray:
    """Returns K * t_k^-p / sum over j of t_j^-p, cut to [5/6, 5/2], float32 [K], from t [K] and p."""
    inverted = np.maximum(survival, _FLOOR) ** -power
    return np.clip(len(inverted) * inverted / inverted.sum(), _LOWEST, _HIGHEST).astype(np.float32)
