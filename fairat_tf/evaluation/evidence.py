"""Evidence: the adversarial images themselves, and the check that they are what the result says.

    save(result, images, "runs/a")            # runs/a/evidence/pgd20.npz for each attack
    rows = verify("runs/a")                   # ball, range, flags; with a model also its predictions

Anyone can check the files without repeating the attack: each holds natural images (uint8), adversarial
images (float32), labels, flags and predictions, without pickle.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fairat_tf import errors
from fairat_tf.evaluation.attacking import LogitsFn, logits_of, to_float
from fairat_tf.reporting import files

FOLDER = "evidence"
_ROUNDING = 1e-6
_NEAR = 1e-4


def save(result: Mapping[str, Any], images: np.ndarray, directory: str | Path) -> list[Path]:
    """Writes one `.npz` for each attack whose adversarial images were kept; returns the paths.

    Args:
      result: of an evaluation with `keep_adversarial`.
      images: the natural images of all evaluated examples.
      directory: of the result.
    """
    arrays = result["per_example"]
    folder = Path(directory) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for former in folder.glob("*.npz"):  # of attacks that the result no longer has
        if former.stem not in result["attacks"]:
            former.unlink()
    paths = []
    for key in (key for key in arrays if key.startswith("adversarial/")):
        attack = key.split("/", 1)[1]
        places = arrays[f"places/{attack}"]
        path = folder / f"{attack}.npz"
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                natural=images[places],
                adversarial=arrays[key],
                labels=arrays["labels"][places],
                correct=arrays[f"correct/{attack}"][places],
                predictions=arrays[f"prediction/{attack}"][places],
                places=places,
            )
        os.replace(temporary, path)
        paths.append(path)
    return paths


def verify(directory: str | Path, logits_fn: LogitsFn | None = None) -> list[dict[str, Any]]:
    """Checks every evidence file against the result beside it.

    Args:
      directory: with `evaluation.json` and `evidence/`.
      logits_fn: float32 images [B, H, W, C] -> logits [B, K]; None leaves predictions as they are stored. A
        stored class stands as long as its logit is the highest but for rounding (1e-4 of the largest).

    Returns:
      For each attack {"attack", "examples", "problems": [...]}; no problems: it holds.

    Raises:
      DataError: there is no evidence, or it cannot be read.
    """
    result = files.read(directory)
    paths = sorted((Path(directory) / FOLDER).glob("*.npz"))
    if not paths:
        raise errors.DataError(f"{directory} holds no evidence; evaluate with --save_examples")
    return [_verify(path, result, logits_fn) for path in paths]


def _verify(path: Path, result: Mapping[str, Any], logits_fn: LogitsFn | None) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            data = dict(stored)
        natural, adversarial = to_float(data["natural"]), data["adversarial"]
        labels, correct, predictions = data["labels"], data["correct"], data["predictions"]
        if natural.shape != adversarial.shape or len(labels) != len(natural):
            raise ValueError(f"shapes {natural.shape}, {adversarial.shape}, {labels.shape} do not fit")
    except Exception as error:
        raise errors.DataError(f"{path} cannot be read as evidence: {error}") from error
    threat = result["threat_model"]
    size = distance(natural, adversarial, threat["norm"])
    outside = int(np.sum(size > threat["epsilon"] * (1 + 1e-5) + _ROUNDING))
    beyond = int(np.sum((adversarial < 0).any(axis=(1, 2, 3)) | (adversarial > 1).any(axis=(1, 2, 3))))
    claimed = result["attacks"].get(path.stem)
    if claimed is None:
        unknown = [f"the result beside it holds no attack {path.stem}"]
        return {
            "attack": path.stem,
            "examples": len(labels),
            "largest": float(size.max()),
            "problems": unknown,
        }
    other = 0 if logits_fn is None else _otherwise(logits_of(logits_fn, adversarial), predictions)
    problems = {
        "images hold NaN": int(np.isnan(adversarial).any(axis=(1, 2, 3)).sum()),
        f"images lie outside the {threat['norm']} ball of radius {threat['epsilon']:.6f}": outside,
        "images leave [0, 1]": beyond,
        "predictions differ from the stored ones": other,
        "flags differ from the predictions": int(np.sum((predictions == labels) != correct.astype(bool))),
        "right answers differ from the result's count": abs(int(correct.sum()) - claimed["correct"]),
        "examples differ from the result's count": abs(len(labels) - claimed["total"]),
    }
    found = [f"{count} {text}" for text, count in problems.items() if count]
    return {"attack": path.stem, "examples": len(labels), "largest": float(size.max()), "problems": found}


def _otherwise(logits: np.ndarray, classes: np.ndarray) -> int:
    """Returns how many of the classes [n] (-1: no answer) the logits [n, K] contradict beyond rounding."""
    finite = np.isfinite(logits).all(axis=1)
    logits = np.where(finite[:, None], logits, 0.0)
    own = logits[np.arange(len(logits)), np.maximum(classes, 0)]
    near = logits.max(axis=1) - own <= _NEAR * np.abs(logits).max(axis=1)
    return int(np.sum(np.where(finite, (classes < 0) | ~near, classes >= 0)))


def distance(natural: np.ndarray, adversarial: np.ndarray, norm: str) -> np.ndarray:
    """Returns the size of each perturbation [n] in the norm "linf" or "l2", in float64."""
    change = (adversarial.astype(np.float64) - natural).reshape(len(natural), -1)
    return np.abs(change).max(axis=1) if norm == "linf" else np.sqrt(np.square(change).sum(axis=1))
