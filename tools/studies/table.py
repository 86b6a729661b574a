"""The table of a study, from a comparison of its runs.

text = summary(study, evaluation.comparing.compare(entries), diverged={}, costs={"pgd_at": 0.37})
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from definition import Study

_MEASURES = ("average", "worst_class")


def summary(
    study: Study, found: dict[str, Any], diverged: Mapping[str, str], costs: Mapping[str, float] | None = None
) -> str:
    """Returns two Markdown tables of a comparison (`evaluation.comparing.compare`): a row for each variant.

    The first has the accuracies, the second the differences from the reference and the cost. `costs` are the
    seconds of a training step of the variants; the table has their ratio to the reference's.
    """
    costs, attacks = costs or {}, found["attacks"]
    shown = [attack for attack in study.attacks if attack in attacks]
    robust = [attack for attack in shown if attack != "clean"] or shown
    accuracy, change = [], []
    for name in (model["name"] for model in found["models"]):
        rows = [attacks[attack]["models"][name] for attack in shown]
        accuracy.append([name, *(_interval(row[key]) for row in rows for key in _MEASURES)])
        cost = costs.get(name, math.nan) / costs.get(study.reference, math.nan)
        rows = [attacks[attack]["differences"].get(name) for attack in robust]
        cells = [_interval(row[key], "+") if row else "" for row in rows for key in _MEASURES]
        change.append([name, *cells, "" if math.isnan(cost) else f"{cost:.2f}"])
    notes = [f"* {note}" for note in found["notes"]]
    if any("t95" in row["average"] for row in attacks[robust[-1]]["differences"].values()):
        notes.append("* in brackets: the bootstrapped interval, then after t Student's over the seeds")
    notes += [f"* {name}: {reason}; not in the table" for name, reason in diverged.items()]
    first = _table(["variant", *_columns(shown)], accuracy)
    second = _table([f"minus {study.reference}", *_columns(robust), "cost"], change)
    return "\n".join([*first, "", *second, "", *notes]) + "\n"


def _columns(attacks: Sequence[str]) -> list[str]:
    return [f"{attack}: {column}" for attack in attacks for column in ("average", "worst class")]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return [f"| {line} |" for line in lines]


def _interval(row: dict[str, Any], sign: str = "") -> str:
    spans = [_span(row["ci95"], sign), *([f"t {_span(row['t95'], sign)}"] if "t95" in row else [])]
    return f"{100 * row['value']:{sign}.1f} ({'; '.join(spans)})"


def _span(bounds: Sequence[float], sign: str) -> str:
    return " to ".join(f"{100 * bound:{sign}.1f}" for bound in bounds)
