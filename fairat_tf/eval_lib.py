"""Class-wise evaluation of any classifier that is given as `images -> logits`.

    result = evaluate(logits_fn, images, labels, class_names, attacks=("clean", "fgsm", "pgd20"))
    print(console.classwise_table(result))
    files.write(result, "runs/a")

`images` are uint8 [N, H, W, C] or float32 in [0, 1]; `logits_fn` takes float32 in [0, 1]. BatchNorm mode
and precision are the caller's business. `python -m fairat_tf.evaluate` is this function behind flags.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import __version__, errors
from fairat_tf.evaluation import curve, probes, suite, summary, verdict
from fairat_tf.evaluation.attacking import SUITE, Bench, Outcome
from fairat_tf.evaluation.state import Store

QUICK = ("clean", "fgsm", "pgd20", "cw20")


def evaluate(
    logits_fn: Callable[[tf.Tensor], tf.Tensor],
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    attacks: Sequence[str] = QUICK,
    epsilon: float = 8 / 255,
    norm: str = "linf",
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = False,
    checks: str = "quick",
    budget: float | None = None,
    state_dir: str | None = None,
    keep_adversarial: bool = False,
    model: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the evaluation result: accuracy, class by class, with intervals, fairness and a verdict.

    Args:
      logits_fn: float32 [B, H, W, C] in [0, 1] -> logits [B, K].
      images: uint8 [N, H, W, C], or float32 in [0, 1].
      labels: int [N] in [0, K).
      class_names: K names, in the order of the logits.
      attacks: names of `fairat_tf.attacks`; "clean" is always included, first.
      epsilon: radius in pixels of [0, 1].
      norm: "linf" or "l2".
      batch_size: examples at a time.
      seed: of random starts and of the bootstrap.
      progress: show bars on stderr.
      checks: "none", "quick" (seconds) or "full" (further attacks on a sample) for the verdict.
      budget: seconds for all of it; cheap attacks run on all examples, AutoAttack on as many as fit.
      state_dir: keeps progress, so that the same call goes on after a kill.
      keep_adversarial: put adversarial images into `result["per_example"]`.
      model, dataset: what is known of them; goes into the result as it is.

    Raises:
      ValueError: arrays that do not fit each other, unknown names, or a part of AutoAttack beside it.
      StorageError: `state_dir` holds the progress of another model, other examples or settings.
    """
    images, labels = _checked(images, labels, class_names)
    names = ("clean", *(name for name in attacks if name != "clean"))
    suite.check_names(names)
    dataset = {"fingerprint": summary.fingerprint(images, labels), **(dataset or {})}
    known = {**(model or {}), **dataset}
    store = _store(state_dir, known, (float(epsilon), norm, seed, batch_size, keep_adversarial))
    bench = Bench(
        logits_fn, images, labels, epsilon, norm, batch_size, seed, store, keep_adversarial, progress
    )
    bench.recognise()
    outcomes = _attack(bench, names, budget)
    result = summary.summarise(outcomes, labels, class_names, epsilon, norm, seed, model, dataset)
    result["verdict"] = verdict.judge(bench, outcomes, class_names, checks)
    if checks == "full" and probes.differentiable(bench):
        result["curve"] = curve.measure(bench, len(class_names))
    return result


def _store(directory: str | None, known: Mapping[str, Any], settings: Sequence[Any]) -> Store:
    """Returns where progress is kept, tied to model, examples, settings and version."""
    names = ("epsilon", "norm", "seed", "batch_size", "save_examples")
    identity = {"model": known.get("sha256"), "examples": known["fingerprint"], "version": __version__}
    return Store(directory, identity | dict(zip(names, settings, strict=True)))


def _attack(bench: Bench, names: Sequence[str], budget: float | None) -> list[Outcome]:
    """Runs the attacks, AutoAttack last since it takes what is left of the budget; keeps the order."""
    clean = bench.clean()
    done = {"clean": [clean]}
    for name in sorted(names, key=lambda name: name == SUITE):
        if name != "clean":
            spent = sum(outcomes[-1].seconds for outcomes in done.values())
            left = None if budget is None else budget - spent
            done[name] = bench.attack(name, clean, left)
    return [outcome for name in dict.fromkeys(names) for outcome in done[name]]


def _checked(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
        raise errors.UsageError(
            f"expected images [N, H, W, C] and labels [N] with N > 0, got {images.shape} and {labels.shape}"
        )
    if images.dtype != np.uint8 and not (images.min() >= 0.0 and images.max() <= 1.0):
        raise errors.UsageError(
            f"expected uint8 images or floats in [0, 1], got {images.dtype} from "
            f"{images.min()} to {images.max()}"
        )
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise errors.UsageError(
            f"expected labels in [0, {len(class_names)}) for {len(class_names)} class names, "
            f"got {labels.min()} to {labels.max()}"
        )
    return images if images.dtype == np.uint8 else images.astype(np.float32), labels.astype(np.int32)
