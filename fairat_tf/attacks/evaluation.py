"""What goes into an evaluation by attacks over a whole data set, and what comes out.

data = examples(images, labels, epsilon=8 / 255)
result.robust.mean(), result.after["apgd-ce"], result.after_by_class(10)["square"]
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from fairat_tf.attacks.pgd import LogitsFn
from fairat_tf.attacks.progress import Report


@dataclasses.dataclass(frozen=True)
class Examples:
    """What is attacked: images float [N, H, W, C] in [0, 1], labels int32 [N], epsilon float32 [N]."""

    images: np.ndarray
    labels: np.ndarray
    epsilon: np.ndarray


@dataclasses.dataclass(frozen=True)
class Networks:
    """`judge` decides in float32 what is misclassified; `search`, where given, is what the attacks see."""

    judge: LogitsFn
    search: LogitsFn | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run; see `AutoAttack.run`."""

    batch_size: int = 64
    jit_compile: bool = False
    progress: Report | None = None
    state_path: str | Path | None = None
    save_every: float = 60.0


@dataclasses.dataclass(frozen=True)
class Result:
    """What is left after the attacks.

    Attributes:
      adversarial: float32 [N, H, W, C]; the natural image where it is misclassified already or no attack
        succeeded.
      robust: bool [N], correct on the natural image and on every adversarial one.
      robust_after: by attack, bool [N], what stood after it and all before it; "clean" comes first.
      labels: int32 [N].
      answers: int32 [N], the class that `adversarial` is given (-1: logits that are not finite); the label
        exactly where `robust`.
      not_finite: by attack, how many images it returned with values that are not finite (counted as
        failures of the attack).
      seconds: by attack, time spent.
    """

    adversarial: np.ndarray
    robust: np.ndarray
    robust_after: dict[str, np.ndarray]
    labels: np.ndarray
    answers: np.ndarray
    not_finite: dict[str, int]
    seconds: dict[str, float]

    @property
    def after(self) -> dict[str, float]:
        """By attack, the accuracy left after it, in [0, 1]; "clean" is the natural accuracy."""
        return {name: float(flags.mean()) for name, flags in self.robust_after.items()}

    def after_by_class(self, num_classes: int) -> dict[str, np.ndarray]:
        """By attack, the accuracy left in each class, [K] in [0, 1], NaN for a class without examples."""
        members = np.equal.outer(np.arange(num_classes), self.labels)
        total = members.sum(1)
        with np.errstate(invalid="ignore"):
            return {name: (members & flags).sum(1) / total for name, flags in self.robust_after.items()}


def examples(images: Any, labels: Any, epsilon: Any) -> Examples:
    """Returns the checked examples.

    Raises:
      ValueError: images are not float [N, H, W, C] in [0, 1], or labels or epsilon do not fit them.
    """
    images, labels = np.asanyarray(images), np.asarray(labels)
    if images.ndim != 4 or not len(images) or images.dtype.kind != "f":
        raise ValueError(f"images must be float [N, H, W, C]; received {images.dtype} {images.shape}")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers [{len(images)}]; received {labels.dtype} {labels.shape}")
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"images must be in [0, 1]; received values in [{images.min()}, {images.max()}]")
    if np.shape(epsilon) not in ((), labels.shape) or not np.min(epsilon) >= 0:
        raise ValueError(f"epsilon must be a number or [{len(images)}], at least 0; received {epsilon!r}")
    radius = np.broadcast_to(np.asarray(epsilon, np.float32), labels.shape)
    return Examples(images, labels.astype(np.int32), radius)
