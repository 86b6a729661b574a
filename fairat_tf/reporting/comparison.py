"""A comparison as Markdown, CSV and a page.

print(comparison.markdown(found))
comparison.write(found, "comparison")       # comparison.md, .csv, .json, .html, .png
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fairat_tf import errors
from fairat_tf.reporting import charts, files, forest, page

_LABELS = {
    "average": "average",
    "worst_class": "worst class",
    "worst_three": "worst three",
    "gap": "gap",
    "nsd": "NSD",
}
_POWER = "found with 80 % power from"
_EACH = (
    "Intervals are of each class for itself, p is corrected for looking at all of them. Where no example "
    "differs, an interval has no width: that few examples agree does not show that the classes are alike."
)
_COLUMNS = (
    "attack",
    "model",
    "quantity",
    "value",
    "ci95_low",
    "ci95_high",
    "p_holm",
    "t95_low",
    "t95_high",
    "detectable",
)


def write(found: Mapping[str, Any], directory: str | Path) -> list[Path]:
    """Writes the comparison in five forms; returns the paths.

    Raises:
      StorageError: the directory cannot be written.
    """
    folder = Path(directory)
    contents = {
        "comparison.md": markdown(found).encode(),
        "comparison.csv": table(found).encode(),
        "comparison.json": json.dumps(files.finite(found), indent=1, allow_nan=False).encode(),
        "comparison.html": html(found).encode(),
        "comparison.png": forest.comparison_png(found),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            files.replace(folder / name, content)
    except OSError as error:
        raise errors.StorageError(f"{folder} cannot be written: {error.strerror or error}") from error
    return [folder / name for name in contents]


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the tables: each model under each attack, then the differences to the first, by class.

    All in per cent: accuracies of classes, their gap, their standard deviation divided by their mean (NSD).
    """
    lines = [f"# Comparison ({found['dataset']})", "", *(f"* {note}" for note in found["notes"])]
    for attack, block in found["attacks"].items():
        lines += ["", f"## {attack} ({block['examples']} examples)", ""]
        lines += ["| model | " + " | ".join(_LABELS.values()) + " |", "|---|" + "---|" * len(_LABELS)]
        for name, row in block["models"].items():
            lines.append(f"| {files.cell(name)} | " + " | ".join(_figure(row[key]) for key in _LABELS) + " |")
        for name, row in block["differences"].items():
            pair = f"{files.cell(name)} minus {files.cell(found['reference'])}"
            title = f"{pair}, in points (rho {_rho(row['rho'])}):"
            lines += ["", title, "", *_differences(row)]
    return "\n".join(lines) + "\n"


def _differences(row: Mapping[str, Any]) -> list[str]:
    """Returns the table of differences: with McNemar's test of one run each, or t over the seeds."""
    seeds = "t95" in row["average"]
    last = f"95 % interval, t over seeds | {_POWER}" if seeds else "better / worse | p (McNemar, Holm)"
    lines = [f"| | difference | 95 % interval | {last} |", "|---|---|---|---|---|"]
    for key, label in _LABELS.items():
        runs = f"{_range(row[key].get('t95'))} | {_found_from(row[key])}" if seeds else "|"
        lines.append(f"| **{label}** | {_points(row[key])} | {runs} |")
    for label, own in row["per_class"].items():
        counts = f"{own['better']} / {own['worse']}" if "better" in own else ""
        last = f"{_range(own['t95'])} | |" if seeds else f"{counts} | {_p(own)} |"
        lines.append(f"| {files.cell(label)} | {_points(own)} | {last}")
    return lines if seeds else [*lines, "", _EACH]


def table(found: Mapping[str, Any]) -> str:
    """Returns the CSV: values of the models (quantity `average`) and differences (`average - NAME`)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for attack, block in found["attacks"].items():
        for name, row in block["models"].items():
            for key in _LABELS:
                writer.writerow((attack, name, key, row[key]["value"], *row[key]["ci95"], "", "", "", ""))
        for name, row in block["differences"].items():
            for key in _LABELS:
                writer.writerow((attack, name, f"{key} - {found['reference']}", *_numbers(row[key])))
            for label, own in row["per_class"].items():
                quantity = f"class {label} - {found['reference']}"
                writer.writerow((attack, name, quantity, *_numbers(own)))
    return text.getvalue()


def _numbers(own: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        own["value"],
        *own["ci95"],
        own.get("p_holm", ""),
        *own.get("t95", ("", "")),
        own.get("detectable", ""),
    )


def html(found: Mapping[str, Any]) -> str:
    """Returns a page with bars for every model and the differences by class."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in found["notes"])
    body = "".join(_section(found, attack, block) for attack, block in found["attacks"].items())
    title = f"Comparison on {found['dataset']}"
    return page.document(title, f"<h1>{escape(title)}</h1><ul>{notes}</ul>{body}")


def _section(found: Mapping[str, Any], attack: str, block: Mapping[str, Any]) -> str:
    parts = [f"<h2>{escape(attack)}</h2>"]
    for key, label in _LABELS.items():
        values = {name: row[key] for name, row in block["models"].items()}
        whole = max([1.0, *(own["ci95"][1] for own in values.values() if own["value"] is not None)])
        scale = f"; the whole length is {100 * whole:.0f} %" if whole > 1 else ""
        kind = "worst" if key == "worst_class" else "robust"
        rows = "".join(_bar(name, own, kind, whole) for name, own in values.items())
        parts.append(f"<h3>{label}, in %{scale}</h3>{rows}")
    for name, row in block["differences"].items():
        seeds = "t95" in row["average"]
        last = f"t over seeds, 95 %</th><th>{_POWER}" if seeds else "p (McNemar, Holm)"
        head = f"<tr><th></th><th>points</th><th>95 % interval</th><th>{last}</th></tr>"
        lines = [(label, row[key]) for key, label in _LABELS.items()] + list(row["per_class"].items())
        cells = "".join(_row(label, own, seeds) for label, own in lines)
        parts.append(
            f"<h3>{escape(name)} minus {escape(found['reference'])}</h3>"
            f'<div class="wide"><table>{head}{cells}</table></div>'
            "<p class='soft small'>Bold: beyond chance at 5 %, for the classes all at once."
            f"{'' if seeds else f' {_EACH}'}</p>"
        )
    return "".join(parts)


def _bar(name: str, own: Mapping[str, Any], kind: str, whole: float) -> str:
    if own["value"] is None:
        bar, value = '<span class="soft">undefined: nothing is right</span>', ""
    else:
        bar = charts.bar(own["value"] / whole, [end / whole for end in own["ci95"]], kind)
        value = f"{100 * own['value']:.1f}"
    return (
        f'<div class="row"><span class="name single">{escape(name)}</span>{bar}'
        f'<span class="value">{value}</span></div>'
    )


def _row(label: str, own: Mapping[str, Any], seeds: bool) -> str:
    clear = ' class="clear"' if own["beyond_chance"] else ""
    last = f"{_range(own.get('t95'))}</td><td>{_found_from(own)}" if seeds else _p(own)
    difference, interval = _points(own).split(" | ")
    return f"<tr><th>{escape(label)}</th><td{clear}>{difference}</td><td>{interval}</td><td>{last}</td></tr>"


def _p(own: Mapping[str, Any]) -> str:
    return f"{own['p_holm']:.3g}" if "p_holm" in own else ""


def _found_from(own: Mapping[str, Any]) -> str:
    return f"{100 * own['detectable']:.1f}" if "detectable" in own else ""


def _figure(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "–"
    low, high = row["ci95"]
    seeds = f", SD {100 * row['sd_over_seeds']:.1f}" if row["sd_over_seeds"] is not None else ""
    return f"{100 * row['value']:.1f} ({100 * low:.1f} to {100 * high:.1f}{seeds})"


def _points(row: Mapping[str, Any]) -> str:
    return "– | –" if row["value"] is None else f"{100 * row['value']:+.1f} | {_range(row['ci95'])}"


def _range(bounds: Sequence[float] | None) -> str:
    if bounds is None:
        return "–"
    return f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"


def _rho(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:+.3f}"
