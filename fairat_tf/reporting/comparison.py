"""A comparison as Markdown, CSV and a page.

print(comparison.markdown(found))
comparison.write(found, "comparison")       # comparison.md, .csv, .json, .html
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fairat_tf import errors
from fairat_tf.reporting import charts, files, page

_LABELS = {
    "average": "average",
    "worst_class": "worst class",
    "worst_three": "worst three",
    "gap": "gap",
    "nsd": "NSD",
}
_COLUMNS = ("attack", "model", "quantity", "value", "ci95_low", "ci95_high", "p_holm")


def write(found: Mapping[str, Any], directory: str | Path) -> list[Path]:
    """Writes the comparison in four forms; returns the paths.

    Raises:
      StorageError: the directory cannot be written.
    """
    folder = Path(directory)
    texts = {
        "comparison.md": markdown(found),
        "comparison.csv": table(found),
        "comparison.json": json.dumps(files.finite(found), indent=1, allow_nan=False),
        "comparison.html": html(found),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            files.replace(folder / name, text.encode())
    except OSError as error:
        raise errors.StorageError(f"{folder} cannot be written: {error.strerror or error}") from error
    return [folder / name for name in texts]


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the tables: each model under each attack, then the differences to the first, by class.

    All in per cent: accuracies of classes, their gap, their standard deviation divided by their mean (NSD).
    """
    lines = [f"# Comparison ({found['dataset']})", "", *(f"* {note}" for note in found["notes"])]
    for attack, block in found["attacks"].items():
        lines += ["", f"## {attack} ({block['examples']} examples)", ""]
        lines += ["| model | " + " | ".join(_LABELS.values()) + " |", "|---|" + "---|" * len(_LABELS)]
        for name, row in block["models"].items():
            lines.append(f"| {_cell(name)} | " + " | ".join(_figure(row[key]) for key in _LABELS) + " |")
        for name, row in block["differences"].items():
            title = f"{_cell(name)} minus {_cell(found['reference'])}, in points (rho {_rho(row['rho'])}):"
            lines += ["", title, "", *_differences(row)]
    return "\n".join(lines) + "\n"


def _differences(row: Mapping[str, Any]) -> list[str]:
    """Returns the table of differences: with McNemar's test of one run each, or t over the seeds."""
    seeds = "t95" in row["average"]
    last = "95 % interval, t over seeds" if seeds else "better / worse | p (McNemar, Holm)"
    lines = [
        f"| | difference | 95 % interval | {last} |",
        "|---|---|---|" + ("---|" if seeds else "---|---|"),
    ]
    for key, label in _LABELS.items():
        lines.append(f"| **{label}** | {_points(row[key])} | {_range(row[key]['t95']) if seeds else '|'} |")
    for label, own in row["per_class"].items():
        counts = f"{own['better']} / {own['worse']}" if "better" in own else ""
        p = f"{own['p_holm']:.3g}" if "p_holm" in own else ""
        lines.append(f"| {_cell(label)} | {_points(own)} | " + ("|" if seeds else f"{counts} | {p} |"))
    return lines


def table(found: Mapping[str, Any]) -> str:
    """Returns the CSV: values of the models (quantity `average`) and differences (`average - NAME`)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for attack, block in found["attacks"].items():
        for name, row in block["models"].items():
            for key in _LABELS:
                writer.writerow((attack, name, key, row[key]["value"], *row[key]["ci95"], ""))
        for name, row in block["differences"].items():
            for key in _LABELS:
                quantity = f"{key} - {found['reference']}"
                writer.writerow((attack, name, quantity, row[key]["value"], *row[key]["ci95"], ""))
            for label, own in row["per_class"].items():
                quantity = f"{label} - {found['reference']}"
                writer.writerow((attack, name, quantity, own["value"], *own["ci95"], own.get("p_holm", "")))
    return text.getvalue()


def html(found: Mapping[str, Any]) -> str:
    """Returns a page with bars for every model and the differences by class."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in found["notes"])
    body = "".join(_section(found, attack, block) for attack, block in found["attacks"].items())
    title = f"Comparison on {found['dataset']}"
    return page.document(title, f"<h1>{escape(title)}</h1><ul>{notes}</ul>{body}")


def _section(found: Mapping[str, Any], attack: str, block: Mapping[str, Any]) -> str:
    parts = [f"<h2>{escape(attack)}</h2>"]
    for key, label in _LABELS.items():
        kind = "worst" if key == "worst_class" else "robust"
        rows = "".join(
            f'<div class="row"><span class="name single">{escape(name)}</span>'
            f"{charts.bar(row[key]['value'], row[key]['ci95'], kind)}"
            f'<span class="value">{100 * row[key]["value"]:.1f}</span></div>'
            for name, row in block["models"].items()
        )
        parts.append(f"<h3>{label}, in %</h3>{rows}")
    for name, row in block["differences"].items():
        head = "<tr><th>class</th><th>points</th><th>95 % interval</th><th>p (Holm)</th></tr>"
        cells = "".join(
            _row(label, own)
            for label, own in {**{v: row[k] for k, v in _LABELS.items()}, **row["per_class"]}.items()
        )
        parts.append(
            f"<h3>{escape(name)} minus {escape(found['reference'])}</h3>"
            f'<div class="wide"><table>{head}{cells}</table></div>'
        )
    return "".join(parts)


def _row(label: str, own: Mapping[str, Any]) -> str:
    low, high = own["ci95"]
    beyond_chance = own["p_holm"] < 0.05 if "p_holm" in own else high < 0 or low > 0
    clear = ' class="low"' if beyond_chance else ""
    p = f"{own['p_holm']:.3g}" if "p_holm" in own else ""
    return (
        f"<tr><th>{escape(label)}</th><td{clear}>{100 * own['value']:+.1f}</td>"
        f"<td>{100 * low:+.1f} to {100 * high:+.1f}</td><td>{p}</td></tr>"
    )


def _figure(row: Mapping[str, Any]) -> str:
    low, high = row["ci95"]
    seeds = f", SD {100 * row['sd_over_seeds']:.1f}" if row["sd_over_seeds"] is not None else ""
    return f"{100 * row['value']:.1f} ({100 * low:.1f} to {100 * high:.1f}{seeds})"


def _points(row: Mapping[str, Any]) -> str:
    return f"{100 * row['value']:+.1f} | {_range(row['ci95'])}"


def _range(bounds: Sequence[float]) -> str:
    return f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"


def _rho(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:+.3f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
