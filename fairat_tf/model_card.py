"""The model card of a run: what was trained on what, against whom, with which result, and its limits.

run.write("MODEL_CARD.md", model_card(parts, best, result))
"""

from typing import Any

from fairat_tf.assembly import Parts
from fairat_tf.reporting import files, wording
from fairat_tf.summary_text import configuration_table
from fairat_tf.units import pixels

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
- The best epoch was chosen on {validation}; {test}.
- One training run with one seed. Other seeds move the worst class by several points."""


def model_card(parts: Parts, best: dict[str, Any], result: dict[str, Any] | None, environment: str) -> str:
    """Returns the card as Markdown.

    Args:
      parts: the run.
      best: {"epoch", "score"} of the network that was kept.
      result: the evaluation of the test split (`eval_lib.evaluate`), or None.
      environment: content of the run's `environment.json`.
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
        f"{config.attack.norm}, epsilon {pixels(config.attack.epsilon)} in pixels of [0, 1], white box.",
        "## Result by class (test split)",
        _results(result),
        "## Limits",
        _limits(parts, result is not None),
        "## How to load",
        _LOADING,
        "## Recipe",
        f"Best epoch {best['epoch'] + 1} by {config.run.select} = {best['score']:.4f} on validation.",
        "| option | value |\n| --- | --- |\n"
        + "\n".join(f"| {k} | {v} |" for k, v in configuration_table(config)),
        "## Environment",
        f"```json\n{environment}```",
    ]
    return "\n\n".join(sections) + "\n"


def _results(result: dict[str, Any] | None) -> str:
    if result is None:
        return "Not evaluated."
    attacks = result["attacks"]
    lines = ["| class | " + " | ".join(attacks) + " |", "| --- |" + " --- |" * len(attacks)]
    for name in result["dataset"]["class_names"]:
        cells = (_cell(attack["per_class"][name]) for attack in attacks.values())
        lines.append(f"| {files.cell(name)} | " + " | ".join(cells) + " |")
    lines.append("| **average** | " + " | ".join(_cell(attack) for attack in attacks.values()) + " |")
    worst = (f"{_cell(a['worst_class'])} {files.cell(a['worst_class']['name'])}" for a in attacks.values())
    lines.append("| **worst class** | " + " | ".join(worst) + " |")
    total = next(iter(attacks.values()))["total"]
    told = f"Per cent of {total} examples, with 95 % intervals" + "".join(
        f"; {text}" for text in wording.few_images(result)
    )
    return "\n\n".join([*_trust(result), f"{told}.", "\n".join(lines)])


def _trust(result: dict[str, Any]) -> list[str]:
    """Returns what must be read before the figures: the verdict, what it rests on, and the attacks' notes."""
    verdict = result["verdict"]
    told = [f"**Can the attack be believed? {verdict['status']}.** {wording.VERDICTS[verdict['status']]}"]
    told += [
        f"* {check['name']} ({check['outcome']}): {check['message']}"
        for check in verdict["checks"]
        if check["outcome"] in ("warn", "fail")
    ]
    told += [f"* {name}: {a['note']}" for name, a in result["attacks"].items() if a.get("note")]
    told = ["\n".join(told)] if len(told) < 2 else [told[0], "\n".join(told[1:])]
    return [wording.NO_ATTACK, *told] if set(result["attacks"]) == {"clean"} else told


def _limits(parts: Parts, tested: bool) -> str:
    own = parts.dataset.validation is not None
    several = parts.config.run.keep_last > 0
    times = "after it, once for each network that was kept" if several else "once, after it"
    return _LIMITS.format(
        validation="the data's own validation split" if own else "a validation split of the training set",
        test="the test split was not read" if not tested else f"the test split was read {times}",
    )


def _cell(value: dict[str, Any]) -> str:
    if value["accuracy"] is None:
        return "no examples"
    low, high = value["ci95"]
    return f"{100 * value['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
