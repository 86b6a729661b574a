"""From outcomes to the evaluation result, the dictionary that is written as JSON.

    result = summarise(outcomes, labels, class_names, epsilon=8/255, norm="linf", seed=0)
    result["attacks"]["pgd20"]["worst_class"]

Arrays in, numbers out: no model is touched here.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairat_tf.evaluation.attacking import Outcome
from fairat_tf.metrics.fairness import fairness

FORMAT = 1
FEW = 30
"""Images of a class or group below which it is marked: its interval is wide."""


def summarise(
    outcomes: Sequence[Outcome],
    labels: np.ndarray,
    class_names: Sequence[str],
    epsilon: float,
    norm: str,
    seed: int,
    model: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the result in the format of the package's contract; `per_example` holds its arrays.

    Args:
      outcomes: what the attacks did, in the order of the report; "clean" among them.
      labels: int [N], of all evaluated examples.
      class_names: K names.
      epsilon, norm, seed: the threat model and the run's seed.
      model: path, sha256, parameters; anything else that is known.
      dataset: name, split, fingerprint; anything else that is known.
    """
    labels, names = np.asarray(labels), list(class_names)
    if len(set(names)) != len(names):
        raise ValueError(f"expected different class names, got {names}")
    spread = {o.name: _fairness(o, labels, names, seed) for o in outcomes}
    return {
        "format": FORMAT,
        "model": {"path": None, "sha256": None, "parameters": None, **(model or {})},
        "dataset": {
            "name": None,
            "split": None,
            **(dataset or {}),
            "examples": len(labels),
            "class_names": names,
            "per_class": np.bincount(labels, minlength=len(names)).tolist(),
        },
        "threat_model": {"norm": norm, "epsilon": float(epsilon)},
        "seed": seed,
        "attacks": {o.name: _attack(o, spread[o.name], labels, names) for o in outcomes},
        "fairness": spread,
        "verdict": {"status": "not checked", "checks": []},
        "environment": environment(),
        "per_example": _per_example(outcomes, labels),
    }


def strongest(result: Mapping[str, Any]) -> str:
    """Returns the attack that leaves the least accuracy; AutoAttack, being joint, if it was run.

    Of several that leave the same it is the last, and "clean" only where nothing else was run.
    """
    attacks = result["attacks"]
    if "autoattack" in attacks:
        return "autoattack"
    names = [name for name in reversed(attacks) if name != "clean"] or ["clean"]
    return min(names, key=lambda name: attacks[name]["accuracy"])


def few(result: Mapping[str, Any]) -> dict[str, int]:
    """Returns the classes with fewer than `FEW` images under the strongest attack: name -> number, not 0."""
    rows = result["attacks"][strongest(result)]["per_class"]
    return {name: row["total"] for name, row in rows.items() if 0 < row["total"] < FEW}


def fingerprint(images: np.ndarray, labels: np.ndarray) -> str:
    """Returns the SHA-256 of the evaluated images and labels, in their order."""
    digest = hashlib.sha256(repr((images.shape, str(images.dtype))).encode())
    digest.update(np.ascontiguousarray(labels, np.int32).tobytes())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Returns the versions that a repetition needs and the kinds of devices; nothing that names a machine."""
    import keras
    import tensorflow as tf

    import fairat_tf

    return {
        "fairat_tf": fairat_tf.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "devices": sorted({device.device_type for device in tf.config.list_logical_devices()}),
    }


def _attack(
    outcome: Outcome, spread: Mapping[str, Any], labels: np.ndarray, names: list[str]
) -> dict[str, Any]:
    worst = spread["worst_class"]
    block = {
        "accuracy": spread["average"],
        "ci95": spread["average_ci95"],
        "correct": int(outcome.correct.sum()),
        "total": len(outcome.correct),
        "worst_class": {"name": worst["name"], "accuracy": worst["accuracy"], "ci95": worst["ci95"]},
        "per_class": spread["per_class"],
        "seconds": round(outcome.seconds, 3),
    }
    if outcome.predictions is not None:
        block["confusion"] = confusion(labels[outcome.examples], outcome.predictions, len(names))
    if outcome.note:
        block["note"] = outcome.note
    return block


def confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> list[list[int]]:
    """Returns the counts [K][K]: true class by the class it is taken for (-1, no answer, is in none)."""
    labels, predictions = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    cells = (labels * num_classes + predictions)[predictions >= 0]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).tolist()


def _fairness(outcome: Outcome, labels: np.ndarray, names: list[str], seed: int) -> dict[str, Any]:
    result = fairness(outcome.correct, labels[outcome.examples], len(names), seed)
    for key in ("worst_class", "best_class"):
        result[key]["name"] = names[result[key]["index"]]
    result["simultaneous_lower"] = dict(zip(names, result["simultaneous_lower"], strict=True))
    result["per_class"] = dict(zip(names, result["per_class"], strict=True))
    result["absent"] = [names[c] for c in result["absent"]]
    return result


def _per_example(outcomes: Sequence[Outcome], labels: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {"labels": np.asarray(labels, np.int32)}
    for outcome in outcomes:
        arrays[f"correct/{outcome.name}"] = outcome.flags(len(labels))
        if outcome.predictions is not None:
            predictions = np.full(len(labels), -1, np.int32)
            predictions[outcome.examples] = outcome.predictions
            arrays[f"prediction/{outcome.name}"] = predictions
        if outcome.adversarial is not None:
            arrays[f"adversarial/{outcome.name}"] = outcome.adversarial
            arrays[f"places/{outcome.name}"] = outcome.examples
    return arrays
