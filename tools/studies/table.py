"""The table of a study, from a comparison of its runs.

text = summary(study, evaluation.comparing.compare(entries), diverged={}, costs={"pgd_at": 0.37})
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from definition import Study

_MEASURES = ("average", "worst_class")


def summary(
    study: Study,
    found: dict[str, Any],
    diverged: Mapping[str, str],
    costs: Mapping[str, float] | None = None,
    validated: Mapping[str, Mapping[int, Sequence[float]]] | None = None,
) -> str:
    """Returns Markdown tables of a comparison (`evaluation.comparing.compare`): a row for each variant.

    The first has the accuracies, the second the differences from the reference and the cost. `costs` are the
    seconds of a training step of the variants; the table has their ratio to the reference's. Where there are
    seeds to pair, a third has the differences that they would find, and with `validated` (variant -> seed ->
    average, worst class) a last one what the variants reach on validation, where choices are made.
    """
    names, shown = [model["name"] for model in found["models"]], _shown(study, found)
    robust = [attack for attack in shown if attack != "clean"] or shown
    tables = [
        _table(["variant", *_columns(shown)], [_accuracies(found, name, shown) for name in names]),
        _changes(study, found, names, robust, costs or {}),
        _detectable(found, names[1:], robust),
        _validation(study, validated or {}),
    ]
    return (
        "\n".join([line for rows in tables if rows for line in [*rows, ""]] + _notes(found, diverged)) + "\n"
    )


def _shown(study: Study, found: Mapping[str, Any]) -> list[str]:
    return [attack for attack in study.attacks if attack in found["attacks"]]


def _accuracies(found: Mapping[str, Any], name: str, attacks: Sequence[str]) -> list[str]:
    rows = [found["attacks"][attack]["models"][name] for attack in attacks]
    return [name, *(_interval(row[key]) for row in rows for key in _MEASURES)]


def _differences(found: Mapping[str, Any], name: str, attacks: Sequence[str]) -> list[dict[str, Any] | None]:
    return [found["attacks"][attack]["differences"].get(name) for attack in attacks]


def _changes(
    study: Study,
    found: Mapping[str, Any],
    names: Sequence[str],
    attacks: Sequence[str],
    costs: Mapping[str, float],
) -> list[str]:
    rows = []
    for name in names:
        cost = costs.get(name, math.nan) / costs.get(study.reference, math.nan)
        own = _differences(found, name, attacks)
        cells = [_interval(row[key], "+") if row else "" for row in own for key in _MEASURES]
        rows.append([name, *cells, "" if math.isnan(cost) else f"{cost:.2f}"])
    return _table([f"minus {study.reference}", *_columns(attacks), "cost"], rows)


def _detectable(found: Mapping[str, Any], names: Sequence[str], attacks: Sequence[str]) -> list[str]:
    """Returns the table of differences that as many seeds would find with 80 % power; [] without seeds."""
    rows = []
    for name in names:
        own = [
            row[key].get("detectable")
            for row in _differences(found, name, attacks)
            if row
            for key in _MEASURES
        ]
        if any(value is not None for value in own):
            rows.append([name, *("" if value is None else f"{100 * value:.1f}" for value in own)])
    return _table(["found with 80 % power from", *_columns(attacks)], rows) if rows else []


def _validation(study: Study, validated: Mapping[str, Mapping[int, Sequence[float]]]) -> list[str]:
    """Returns the table of what the variants reach on validation; differences are over their own seeds."""
    reference, rows = validated.get(study.reference, {}), []
    for name, seeds in validated.items():
        average, worst = (100 * statistics.mean(values) for values in zip(*seeds.values(), strict=True))
        paired = [100 * (sum(seeds[seed]) - sum(reference[seed])) for seed in seeds if seed in reference]
        change = f"{statistics.mean(paired):+.1f}" if paired and name != study.reference else ""
        rows.append(
            [name, f"{len(seeds)}", f"{average:.1f}", f"{worst:.1f}", f"{average + worst:.1f}", change]
        )
    heads = ["on validation", "seeds", "average", "worst class", "sum", f"sum minus {study.reference}"]
    return _table(heads, rows) if rows else []


def logged(found: Mapping[str, Mapping[int, Sequence[float]]], keys: Sequence[str]) -> str:
    """Returns the Markdown table of variant -> seed -> values of `keys`: their means; empty if not logged."""
    rows = [
        [
            name,
            f"{len(seeds)}",
            *(
                "" if any(map(math.isnan, v)) else f"{statistics.mean(v):.3f}"
                for v in zip(*seeds.values(), strict=True)
            ),
        ]
        for name, seeds in found.items()
    ]
    return "\n".join(_table(["logged", "seeds", *keys], rows)) + "\n"


def _notes(found: Mapping[str, Any], diverged: Mapping[str, str]) -> list[str]:
    notes = [f"* {note}" for note in found["notes"]]
    rows = [row for block in found["attacks"].values() for row in block["differences"].values()]
    if any("t95" in row["average"] for row in rows):
        notes.append(
            "* differences, in brackets: the bootstrapped interval, then after t Student's over the seeds"
        )
    return notes + [f"* {name}: {reason}; not in the table" for name, reason in diverged.items()]


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
