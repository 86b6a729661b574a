"""Weights of classes for any training method (`--class_weights`).

    first(spec, num_classes)                                # before training, NumPy [K]
    by_accuracy(spec, accuracy), by_losses(spec, losses)    # after each epoch

"1,1,2": fixed numbers, one a class. "inverse" or "inverse:2": by robust accuracy in training, with the
formula of Fair-ARD (Yue et al., "Revisiting Adversarial Robustness Distillation from the Perspective of
Robust Fairness", NeurIPS 2023): w_k = K * t_k^-p / sum over j of t_j^-p, cut to [5/6, 5/2]. There t_k is the
number of PGD steps that the class survives on average; here it is its robust accuracy in the last epoch,
which costs no further attack. A class without an example in that epoch counts as the mean of the others.

"hedge" or "hedge:1": by the weights of WAT (Li and Liu, AAAI 2023; `methods.wat`) with rate eta, default 0.1,
brought to a mean of 1. WAT attacks validation once more to measure its losses; here they are the
cross-entropies of the attacked validation images that are measured anyway, of the network that is evaluated:

    v = Hedge(eta, losses of the K classes and of all, summed over the epochs)        K + 1 entries
    w_k = (v_k + v_(K+1)) / mean over the classes of the same
"""

import numpy as np

_LOWEST, _HIGHEST = 5 / 6, 5 / 2
_FLOOR = 1e-3  # a class that is never right would have an infinite weight
_RULES = {"inverse": 2.0, "hedge": 0.1}  # name -> default of its number


def _rule(spec: str) -> tuple[str, float]:
    """Returns (name, number) of a rule that makes new weights after each epoch; ("", 0) for fixed ones."""
    name, _, number = spec.partition(":")
    return (name, float(number or _RULES[name])) if name in _RULES else ("", 0.0)


def first(spec: str, num_classes: int) -> np.ndarray:
    """Returns the weights of the first epoch, float32 [K]: the fixed numbers, or ones.

    Raises:
      ValueError: neither K numbers nor "inverse[:POWER]" nor "hedge[:ETA]".
    """
    try:
        name, number = _rule(spec)
        if name and 0.0 <= number < np.inf:
            return np.ones(num_classes, np.float32)
        numbers = np.array([float(number) for number in spec.split(",")], np.float32)
    except ValueError:
        numbers = np.zeros(0, np.float32)
    if numbers.shape != (num_classes,) or not (numbers >= 0).all() or not numbers.any():
        raise ValueError(
            f"class_weights must be {num_classes} numbers of at least 0 with commas between them, "
            f"inverse[:POWER] or hedge[:ETA]; received {spec!r}"
        )
    return numbers


def follows_losses(spec: str) -> bool:
    """Returns whether the weights follow the losses of validation."""
    return _rule(spec)[0] == "hedge"


def by_accuracy(spec: str, class_accuracy: np.ndarray) -> np.ndarray | None:
    """Returns the weights for the next epoch, float32 [K], from accuracies in training; None: fixed."""
    name, power = _rule(spec)
    return inverse(class_accuracy, power) if name == "inverse" else None


def by_losses(spec: str, total_losses: np.ndarray) -> np.ndarray:
    """Returns the weights for the next epoch, float32 [K], from losses summed over the epochs, [K + 1]."""
    played = hedge(total_losses, _rule(spec)[1])
    weights = played[:-1] + played[-1]
    return weights / weights.mean()


def unknown_as_mean(by_class: np.ndarray, otherwise: float = 1.0) -> np.ndarray:
    """Returns the values [K] with the mean of the known ones in place of NaN: of a class without an example.

    All become `otherwise` where none is known.
    """
    known = by_class[~np.isnan(by_class)]
    return np.nan_to_num(by_class, nan=known.mean() if known.size else otherwise)


def inverse(survival: np.ndarray, power: float) -> np.ndarray:
    """Returns K * t_k^-p / sum over j of t_j^-p, cut to [5/6, 5/2], float32 [K], from t [K] and p."""
    inverted = np.maximum(survival, _FLOOR) ** -power
    return np.clip(len(inverted) * inverted / inverted.sum(), _LOWEST, _HIGHEST).astype(np.float32)


def hedge(total_losses: np.ndarray, eta: float) -> np.ndarray:
    """Returns Hedge's weights, float32 [K + 1] with sum K, from losses summed over the epochs, [K + 1]."""
    scaled = np.exp(eta * (total_losses - total_losses.max()))
    return ((len(total_losses) - 1) * scaled / scaled.sum()).astype(np.float32)
