"""Examples for the page: the natural image, the perturbation made visible, the adversarial image.

shown = gallery.examples(logits_fn, images, labels, result)      # [Shown], one for each weak class
shown[0].natural                                                 # "data:image/png;base64,..."
"""

import base64
import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from fairat_tf.evaluation.attacking import Bench, LogitsFn, to_float
from fairat_tf.evaluation.summary import strongest

MOST = 8
_ATTACK = "pgd40"


@dataclasses.dataclass(frozen=True)
class Shown:
    """One example as it is shown: images as data URIs (PNG), classes by name."""

    true: str
    taken_for: str
    natural: str
    perturbation: str
    adversarial: str


def examples(
    logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray, result: Mapping[str, Any]
) -> list[Shown]:
    """Returns up to eight examples that are right until attacked, of the least protected classes first.

    The images are attacked anew (PGD-40) with the result's threat model, so nothing needs to be kept.
    """
    places = _picked(labels, result)
    if not len(places):
        return []
    threat = result["threat_model"]
    bench = Bench(
        logits_fn, images[places], labels[places], threat["epsilon"], threat["norm"], len(places), keep=True
    )
    outcome = bench.attack(_ATTACK, bench.clean())[0]
    names = result["dataset"]["class_names"]
    natural, adversarial = to_float(bench.images), outcome.adversarial
    if adversarial is None or outcome.predictions is None:
        return []
    return [
        Shown(
            names[bench.labels[i]],
            names[outcome.predictions[i]],
            data_uri(natural[i]),
            data_uri(visible(adversarial[i] - natural[i])),
            data_uri(adversarial[i]),
        )
        for i in np.flatnonzero(~outcome.correct & (outcome.predictions >= 0))
    ]


def _picked(labels: np.ndarray, result: Mapping[str, Any]) -> np.ndarray:
    """Returns the place of one example of each class that the strongest attack broke, weakest class first."""
    arrays, attack = result["per_example"], result["attacks"][strongest(result)]
    broken = (arrays["correct/clean"] == 1) & (arrays[f"correct/{strongest(result)}"] == 0)
    names = result["dataset"]["class_names"]
    weak = sorted(
        (c for c, name in enumerate(names) if attack["per_class"][name]["total"]),
        key=lambda c: attack["per_class"][names[c]]["accuracy"],
    )
    first = [np.flatnonzero(broken & (labels == c))[:1] for c in weak]
    return np.concatenate([*first, np.zeros(0, np.int64)]).astype(np.int64)[:MOST]


def visible(perturbation: np.ndarray) -> np.ndarray:
    """Returns the perturbation [H, W, C] stretched around mid-grey so that its largest change is visible."""
    largest = float(np.abs(perturbation).max())
    return 0.5 + perturbation / (2 * largest) if largest > 0 else np.full_like(perturbation, 0.5)


def data_uri(image: np.ndarray) -> str:
    """Returns an image [H, W, 1 or 3] in [0, 1] as a PNG data URI."""
    from PIL import Image

    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
