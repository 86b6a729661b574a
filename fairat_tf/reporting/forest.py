"""A comparison as a PNG: the differences with their intervals, and what each model gets right of each class.

png = comparison_png(comparing.compare(entries))
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

_MEASURES = {"average": "average", "worst_class": "worst class"}
_MARKS = "osD^vP"
_COLOURS = ("#222222", "#c0392b", "#1f6fa8", "#d98e04", "#3b8f4f", "#8456a8")


def comparison_png(found: Mapping[str, Any]) -> bytes:
    """Returns a PNG with a row of panels for each attack.

    The first two panels hold the differences from the reference in average and worst class, in points: a
    mark, a thick bar for the bootstrapped 95 % interval and, where seeds were paired, a thin one for
    Student's. With six models or fewer a third has the accuracy of each class, in per cent.

    Args:
      found: what `evaluation.comparing.compare` returns.
    """
    from matplotlib.figure import Figure

    models = [model["name"] for model in found["models"]]
    panels = 2 + (len(models) <= len(_MARKS))
    rows = max(len(models), len(found["class_names"]) if panels == 3 else 0)
    size = (2.2 + 3.5 * panels, (1.3 + 0.24 * rows) * len(found["attacks"]))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    grid = figure.subplots(len(found["attacks"]), panels, squeeze=False)
    for axes, (attack, block) in zip(grid, found["attacks"].items(), strict=True):
        for axis, (key, label) in zip(axes, _MEASURES.items(), strict=False):
            _differences(axis, block["differences"], key)
            axis.set_title(f"{attack}: {label} minus {found['reference']}", fontsize=10, parse_math=False)
        axes[1].set_yticklabels([])
        if panels == 3:
            _classes(axes[2], block["models"], found["class_names"])
            axes[2].set_title(f"{attack}: accuracy of each class", fontsize=10, parse_math=False)
    if panels == 3:
        handles, labels = grid[0][2].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(models), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _differences(axis: Any, differences: Mapping[str, Any], key: str) -> None:
    for place, row in enumerate(differences.values()):
        own = row[key]
        colour = _COLOURS[1] if own["beyond_chance"] else _COLOURS[0]
        axis.plot(_points(own["ci95"]), [place, place], color=colour, linewidth=3.5, solid_capstyle="butt")
        axis.plot(_points(own.get("t95", own["ci95"])), [place, place], color=colour, linewidth=1)
        axis.plot(100 * own["value"], place, "o", color="white", markeredgecolor=colour, markersize=5)
    axis.axvline(0, color="#888888", linewidth=1)
    axis.set_yticks(range(len(differences)), list(differences), parse_math=False)
    axis.set_ylim(len(differences) - 0.5, -0.5)
    axis.set_xlabel("points (red: beyond chance)")
    axis.grid(axis="x", alpha=0.3)


def _classes(axis: Any, models: Mapping[str, Any], names: list[str]) -> None:
    places = np.arange(len(names))
    for i, (model, row) in enumerate(models.items()):
        values = [row["per_class"].get(name) for name in names]
        shown = [np.nan if value is None else 100 * value for value in values]
        shift = 0.12 * (i - (len(models) - 1) / 2)
        label = (
            model if not model.startswith("_") else f" {model}"
        )  # matplotlib hides labels that begin with _
        axis.plot(shown, places + shift, _MARKS[i], color=_COLOURS[i], markersize=4, label=label)
    axis.set_yticks(places, names, parse_math=False)
    axis.set(xlim=(0, 100), xlabel="accuracy (%)")
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(alpha=0.3)


def _points(bounds: Any) -> list[float]:
    return [100 * bound for bound in bounds]
