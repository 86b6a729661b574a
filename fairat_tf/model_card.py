"""The model card of a run: what was trained on what, against whom, with which result, and its limits.

run.write("MODEL_CARD.md", model_card(parts, best, result))
"""

from typing import Any

from fairat_tf.assembly import Parts
from fairat_tf.summary_text import configuration_table, environment

_LOADING = """\
```python
import keras
network = keras.models.load_model("best/model.keras")      # images float32 [B, H, W, C] in [0, 1] -> logits

import tensorflow as tf
served = tf.saved_model.load("export")
served.serve(images)            # logits; input gradients pass through
served.probabilities(images)    # softmax
served.serve_uint8(pixels)      # uint8 0..255 -> probabilities
```"""

_LIMITS = """\
- Robust accuracy holds for the stated threat model and attacks. A stronger attack (AutoAttack, more
  restarts) can only lower it; other norms, larger radii, corruptions and natural shifts are not covered.
- The worst class is the lowest of several estimates, each with an interval: read the interval, not the digit.
- The best epoch was chosen on a validation split of the training set; the test split was read once, after.
- One training run with one seed. Other seeds move the worst class by several points."""


def model_card(parts: Parts, best: dict[str, Any], result: dict[str, Any] | None) -> str:
    """Returns the card as Markdown.

    Args:
      parts: the run.
      best: {"epoch", "score"} of the network that was kept.
      result: the evaluation of the test split (`eval_lib.evaluate`), or None.
    """
    config, data = parts.config, parts.dataset
    sections = [
        f"# {config.method} on {config.data.dataset}",
        f"Image classifier, {data.num_classes} classes: {', '.join(data.class_names[:20])}"
        + (", ..." if data.num_classes > 20 else "."),
        "## Data",
        f"{len(parts.train)} training and {len(parts.validation_split)} validation images of "
        f"{'x'.join(map(str, data.image_shape))}; fingerprint `{data.fingerprint()[:16]}`.",
        "## Threat model",
        f"{config.attack.norm}, epsilon {config.attack.epsilon:.6g} in pixels of [0, 1] "
        f"({config.attack.epsilon * 255:.3g}/255), white box.",
        "## Result by class (test split)",
        _results(result),
        "## Limits",
        _LIMITS,
        "## How to load",
        _LOADING,
        "## Recipe",
        f"Best epoch {best['epoch'] + 1} by {config.run.select} = {best['score']:.4f} on validation.",
        "| option | value |\n| --- | --- |\n"
        + "\n".join(f"| {k} | {v} |" for k, v in configuration_table(config)),
        "## Environment",
        f"```json\n{environment()}```",
    ]
    return "\n\n".join(sections) + "\n"


def _results(result: dict[str, Any] | None) -> str:
    if result is None:
        return "Not evaluated."
    attacks = result["attacks"]
    names = list(next(iter(attacks.values()))["per_class"])
    lines = ["| class | " + " | ".join(attacks) + " |", "| --- |" + " --- |" * len(attacks)]
    for name in names:
        cells = (_cell(attack["per_class"][name]) for attack in attacks.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("| **average** | " + " | ".join(_cell(attack) for attack in attacks.values()) + " |")
    worst = (f"{_cell(a['worst_class'])} {a['worst_class']['name']}" for a in attacks.values())
    lines.append("| **worst class** | " + " | ".join(worst) + " |")
    total = next(iter(attacks.values()))["total"]
    return f"Per cent of {total} examples, with 95 % intervals.\n\n" + "\n".join(lines)


def _cell(value: dict[str, Any]) -> str:
    if value["accuracy"] is None:
        return "no examples"
    low, high = value["ci95"]
    return f"{100 * value['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
