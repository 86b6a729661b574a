"""A class-wise result as a PNG: what the network gets right of each class, clean and under attack.

png = classwise_png({"PGD-AT": files.read("runs/a"), "FairAT": files.read("runs/b")}, ("clean", "pgd20"))
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_SHADES = ("#c9d6e4", "#5b8db8", "#1f4466")  # from the attack named first to the last
_WORST = "#c0392b"


def classwise_png(results: Mapping[str, Mapping[str, Any]], attacks: Sequence[str]) -> bytes:
    """Returns a PNG with one panel for each result.

    Classes stand from the top in their own order, each with a bar for every attack and a whisker for its 95 %
    interval (neither for a class without examples). The class that is worst under the last attack has a red
    bar, and its accuracy is in the title.

    Args:
      results: title -> evaluation result (`reporting.files.read`), all of the same classes.
      attacks: one to three names of attacks that all results hold.

    Raises:
      ValueError: no result, no attack or more than three, an attack that a result does not hold, or other
        classes in one of the results.
    """
    _check(results, attacks)
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    classes = list(next(iter(results.values()))["attacks"][attacks[0]]["per_class"])
    height = 1.5 + 0.12 * len(classes) * (1 + len(attacks))
    figure = Figure(figsize=(1.5 + 3.9 * len(results), height), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for panel, (title, result) in zip(panels, results.items(), strict=True):
        _draw(panel, title, result, attacks, classes)
    keys = [Patch(color=shade, label=attack) for shade, attack in zip(_SHADES, attacks, strict=False)]
    worst = Patch(color=_WORST, label=f"{attacks[-1]}, worst class")
    figure.legend(handles=[*keys, worst], loc="outside lower center", ncols=4, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(panel: Any, title: str, result: Mapping[str, Any], attacks: Sequence[str], classes: list) -> None:
    places, thickness = np.arange(len(classes)), 0.8 / len(attacks)
    last = result["attacks"][attacks[-1]]
    worst = last["worst_class"]["name"]
    for i, attack in enumerate(attacks):
        red = worst if attack == attacks[-1] else None
        values = [result["attacks"][attack]["per_class"][name] for name in classes]
        known = np.array([value["accuracy"] is not None for value in values])
        shown = np.array([100 * (value["accuracy"] or 0.0) for value in values])
        low, high = np.array([[100 * bound for bound in value["ci95"]] for value in values]).T
        low, high = np.where(known, low, 0), np.where(known, high, 0)
        panel.barh(
            places + (i - (len(attacks) - 1) / 2) * thickness,
            shown,
            thickness,
            xerr=[np.maximum(shown - low, 0), np.maximum(high - shown, 0)],
            color=[_WORST if name == red else _SHADES[i] for name in classes],
            error_kw={"elinewidth": 1.0, "ecolor": "#222222"},
        )
    panel.set_yticks(places, classes, parse_math=False)
    average, lowest = 100 * last["accuracy"], 100 * last["worst_class"]["accuracy"]
    heading = f"{title}\n{attacks[-1]}: average {average:.1f}, worst {lowest:.1f} ({worst})"
    panel.set_title(heading, fontsize=10, parse_math=False)
    panel.set(xlim=(0, 100), xlabel="accuracy (%)")
    panel.set_ylim(len(classes) - 0.4, -0.6)
    panel.set_axisbelow(True)
    panel.grid(axis="x", alpha=0.3)


def _check(results: Mapping[str, Mapping[str, Any]], attacks: Sequence[str]) -> None:
    if not results or not 1 <= len(attacks) <= len(_SHADES):
        raise ValueError(
            f"expected a result and one to three attacks, received {len(results)}, {len(attacks)}"
        )
    classes = None
    for title, result in results.items():
        for attack in attacks:
            if attack not in result["attacks"]:
                held = ", ".join(result["attacks"])
                raise ValueError(f"{title} holds no attack {attack!r}; it holds {held}")
            own = list(result["attacks"][attack]["per_class"])
            if classes not in (None, own):
                raise ValueError(f"{title} is about other classes than the results before it")
            classes = own
