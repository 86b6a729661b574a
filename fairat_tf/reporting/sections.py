"""The sections of the page, each a function `result -> HTML`; "" where there is nothing to show.

sections.headline(result), sections.by_class(result)
"""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fairat_tf.evaluation.summary import few, strongest
from fairat_tf.reporting import charts, wording
from fairat_tf.reporting.gallery import Shown
from fairat_tf.reporting.wording import bounds, percent, points

_MOST_CELLS = 20
_SIGNS = {"pass": "✓ passed", "warn": "! warning", "fail": "✗ failed", "not run": "– not run"}


def title(result: Mapping[str, Any]) -> str:
    """Returns the page's title, as text."""
    return f"Class-wise robustness on {result['dataset'].get('name') or 'the given examples'}"


def headline(result: Mapping[str, Any]) -> str:
    """The title and the sentence that says who is protected."""
    status = result["verdict"]["status"]
    kind = {"unreliable": " broken", "suspicious": " doubt"}.get(status, "")
    sentences = "".join(f"<p>{_unbroken(text)}</p>" for text in wording.summary(result))
    return f'<h1>{escape(title(result))}</h1><div class="lead{kind}">{sentences}</div>'


def _unbroken(text: str) -> str:
    """Returns text as HTML whose numbers keep their per cent sign beside them."""
    return escape(text).replace(" %", "&nbsp;%")


def tiles(result: Mapping[str, Any]) -> str:
    """The main figures."""
    clean, name = result["attacks"]["clean"], strongest(result)
    attack, spread = result["attacks"][name], result["fairness"][name]
    worst = attack["worst_class"]
    rows = [(percent(clean["accuracy"]), f"right without an attack ({bounds(clean['ci95'])})")]
    if name != "clean":
        rows.append((percent(attack["accuracy"]), f"right under {name} ({bounds(attack['ci95'])})"))
    rows += [
        (percent(worst["accuracy"]), f"worst class, {worst['name']} ({bounds(worst['ci95'])})"),
        (f"{100 * spread['gap']:.1f}", f"points from worst to best class ({bounds(spread['gap_ci95'])})"),
        (result["verdict"]["status"], "can the attack be believed?"),
    ]
    rho = spread.get("rho")
    if rho is not None and math.isfinite(rho):
        rows.append((f"{rho:+.3f}", "rho: relative change of the average plus that of the worst class"))
    cells = "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in rows)
    note = "In brackets: 95 % intervals."
    chance = wording.worse_by_chance(spread["worst_class"]["bootstrap"])
    if chance:
        note += f" By chance alone, the worst class looks about {100 * chance:.1f} points worse than it is."
    return f'<div class="tiles">{cells}</div><p class="soft small">{note}</p>'


def gates(result: Mapping[str, Any]) -> str:
    """The required bounds and whether they are met."""
    if not result.get("gates"):
        return ""
    rows = "".join(
        f"<tr><td><code>{_breakable(row['gate'])}</code></td><td class={'pass' if row['passed'] else 'fail'}>"
        f"{'✓ met' if row['passed'] else '✗ missed'}</td><td>{escape(row['message'])}</td></tr>"
        for row in result["gates"]
    )
    note = "" if result["verdict"]["status"] != "unreliable" else (
        "<p>The evaluation is not reliable, so a gate that looks met proves nothing.</p>"
    )  # fmt: skip
    return f'<h2>Required bounds</h2>{note}<div class="wide"><table class="text">{rows}</table></div>'


def _breakable(gate: str) -> str:
    """Returns a gate as HTML that may break before its sign."""
    return escape(gate).replace("&gt;=", "<wbr>&gt;=").replace("&lt;=", "<wbr>&lt;=")


def by_class(result: Mapping[str, Any]) -> str:
    """Bars by class, clean beside robust, with intervals."""
    name = strongest(result)
    clean, robust = result["attacks"]["clean"], result["attacks"][name]
    parts, lines = [], "name single" if name == "clean" else "name"
    for label in result["dataset"]["class_names"]:
        own, natural = robust["per_class"][label], clean["per_class"][label]
        if own["accuracy"] is None:
            parts.append(
                f'<div class="row"><span class="name single">{escape(label)}</span>'
                '<span class="soft">no examples</span></div>'
            )
            continue
        worst = label == robust["worst_class"]["name"]
        extra = " <small>(worst)</small>" if worst else ""
        bars = charts.pair(natural, own, worst, robust["accuracy"], alone=name == "clean")
        parts.append(f'<div class="row"><span class="{lines}">{escape(label)}{extra}</span>{bars}</div>')
    return f"<h2>Accuracy by class</h2>{charts.pair_legend(name, 'class')}{''.join(parts)}"


def table(result: Mapping[str, Any]) -> str:
    """All attacks by class, and the figures that sum them up."""
    attacks = result["attacks"]
    head = "".join(f"<th>{escape(name)}</th>" for name in attacks)
    rows, scarce = [], few(result)
    for label in result["dataset"]["class_names"]:
        cells = []
        for attack in attacks.values():
            row = attack["per_class"][label]
            low = ' class="low"' if attack["worst_class"]["name"] == label else ""
            cells.append(
                f"<td{low} title='{row['correct']} of {row['total']}'>{points(row['accuracy'])}</td>"
            )
        count = f' <small class="soft">({scarce[label]} images)</small>' if label in scarce else ""
        rows.append(f"<tr><th>{escape(label)}{count}</th>{''.join(cells)}</tr>")
    spread = result["fairness"]
    figures = {
        "average": [points(a["accuracy"]) for a in attacks.values()],
        "worst class": [points(a["worst_class"]["accuracy"]) for a in attacks.values()],
        "its 95 % interval": [bounds(a["worst_class"]["ci95"], "–") for a in attacks.values()],
        "worst 10 % of classes": [points(spread[n]["worst_10"]) for n in attacks],
        "worst 20 % of classes": [points(spread[n]["worst_20"]) for n in attacks],
        "worst 30 % of classes": [points(spread[n]["worst_30"]) for n in attacks],
        "gap best to worst": [f"{100 * spread[n]['gap']:.1f}" for n in attacks],
        "standard deviation": [f"{100 * spread[n]['sd']:.1f}" for n in attacks],
        "NSD (SD / mean class accuracy)": [_number(spread[n]["nsd"]) for n in attacks],
        "examples": [str(a["total"]) for a in attacks.values()],
    }
    for place, (label, values) in enumerate(figures.items()):
        mark = ' class="total"' if place == 0 else ""
        rows.append(f"<tr{mark}><th>{label}</th>{''.join(f'<td>{value}</td>' for value in values)}</tr>")
    head = f"<thead><tr><th>class</th>{head}</tr></thead>"
    body = f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"
    lead = f'<h2>All attacks</h2><p class="soft">Accuracy in %.</p>{_notes(result)}'
    return f'{lead}<div class="wide">{body}</div>'


def _notes(result: Mapping[str, Any]) -> str:
    """Returns what the attacks' notes say, each once with the attacks it is about."""
    about: dict[str, list[str]] = {}
    for name, attack in result["attacks"].items():
        if attack.get("note"):
            about.setdefault(attack["note"], []).append(name)
    return "".join(f"<p>{escape(', '.join(names))}: {escape(note)}.</p>" for note, names in about.items())


def curve(result: Mapping[str, Any]) -> str:
    """Accuracy against epsilon."""
    found = result.get("curve")
    if not found:
        return ""
    found_points = found["points"]
    scale = 255 if result["threat_model"]["norm"] == "linf" else 1
    label = "epsilon × 255" if scale == 255 else "epsilon (L2)"
    series = {
        "average": [(p["epsilon"] * scale, p["accuracy"]) for p in found_points],
        "worst class": [(p["epsilon"] * scale, p["worst_class"]) for p in found_points],
    }
    bands = {"average": [(p["epsilon"] * scale, *p["ci95"]) for p in found_points]}
    chart = charts.lines(series, label, bands, result["threat_model"]["epsilon"] * scale)
    text = f"{found['attack']} on {found['examples']} examples; dashed: the epsilon of this evaluation."
    return f"<h2>How far does the protection reach?</h2><p class='soft'>{escape(text)}</p>{chart}"


def confusion(result: Mapping[str, Any]) -> str:
    """Into which class the attack turns each class."""
    name = strongest(result)
    matrix, names = result["attacks"][name].get("confusion"), result["dataset"]["class_names"]
    if not matrix:
        return ""
    text = f"Rows: the true class; columns: what {name} makes of it, in % of the row."
    body = _heat(matrix, names) if len(names) <= _MOST_CELLS else _largest(matrix, names)
    return f"<h2>What each class is turned into</h2><p class='soft'>{escape(text)}</p>{body}"


def _heat(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in names)
    rows = []
    for r, counts in enumerate(matrix):
        total = max(sum(counts), 1)
        cells = []
        for c, count in enumerate(counts):
            share = count / total
            kinds = [k for k, on in (("right", r == c), ("strong", share > 0.55)) if on]
            kind = f' class="{" ".join(kinds)}"' if kinds else ""
            cells.append(f'<td{kind} style="--v:{share:.3f}">{f"{100 * share:.0f}" if count else ""}</td>')
        rows.append(f"<tr><th scope=row>{escape(names[r])}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table class="heat"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _largest(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    pairs = [
        (count / max(sum(counts), 1), r, c)
        for r, counts in enumerate(matrix)
        for c, count in enumerate(counts)
        if r != c and count
    ]
    rows = "".join(
        f"<tr><td>{escape(names[r])}</td><td>{escape(names[c])}</td><td>{percent(share)}</td></tr>"
        for share, r, c in sorted(pairs, reverse=True)[:_MOST_CELLS]
    )
    head = "<tr><th>true class</th><th>turned into</th><th>share</th></tr>"
    return f'<div class="wide"><table class="text">{head}{rows}</table></div>'


def examples(result: Mapping[str, Any], shown: Sequence[Shown]) -> str:
    """Examples with their perturbation."""
    if not shown:
        return ""
    figures = "".join(
        f'<figure class="shown"><div><img src="{one.natural}" '
        f'alt="natural image of {escape(one.true, quote=True)}">'
        f'<img src="{one.perturbation}" alt="perturbation, amplified"><img src="{one.adversarial}" '
        f'alt="adversarial image"></div><figcaption>{escape(one.true)} → <b>{escape(one.taken_for)}</b>'
        "</figcaption></figure>"
        for one in shown
    )
    text = "Natural image, perturbation (amplified; grey: no change), adversarial image; true class → answer."
    return f'<h2>Examples</h2><p class="soft">{text}</p><div class="gallery">{figures}</div>'


def training(run: str | Path | None) -> str:
    """Training curves from a run directory's `metrics.jsonl`."""
    path = Path(run) / "metrics.jsonl" if run else None
    if path is None or not path.is_file():
        return ""
    rows = list(_json_lines(path))
    shares = _series(rows, ("accuracy", "worst_class"))
    losses = _series(rows, ("loss",))
    body = charts.lines(shares, "epoch") + charts.lines(losses, "epoch", percent=False)
    return f"<h2>Training</h2>{body}" if body else ""


def _json_lines(path: Path) -> Sequence[Mapping[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _series(
    rows: Sequence[Mapping[str, Any]], endings: tuple[str, ...]
) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for place, row in enumerate(rows):
        epoch = float(row.get("epoch", place)) + 1
        for key, value in row.items():
            usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if usable and key.endswith(endings):
                series.setdefault(key, []).append((epoch, float(value)))
    return series


def checks(result: Mapping[str, Any]) -> str:
    """The checks behind the verdict."""
    verdict = result["verdict"]
    rows = "".join(
        f"<tr><td>{escape(c['question'])}<br><small class=soft>{escape(c['name'])}</small></td>"
        f"<td class={c['outcome'].replace('not run', 'soft')}>{_SIGNS[c['outcome']]}</td>"
        f"<td>{escape(c['message'])}{escape(_where(c))}</td></tr>"
        for c in verdict["checks"]
    )
    text = wording.VERDICTS[verdict["status"]]
    return (
        f"<h2>Can the attack be believed? {escape(verdict['status'])}</h2><p>{escape(text)}</p>"
        f'<div class="wide"><table class="text">{rows}</table></div>'
    )


def _where(check: Mapping[str, Any]) -> str:
    return f" — classes: {', '.join(check['classes'])}" if check["classes"] else ""


def threat_model(result: Mapping[str, Any]) -> str:
    """What the adversary may do, what was evaluated, and with what."""
    threat, data, model = result["threat_model"], result["dataset"], result["model"]
    rows = {
        "may change": wording.allowed(threat["norm"], threat["epsilon"]),
        "knows": wording.knows(result["attacks"]),
        "counts as robust": "right on the natural image and on the adversarial one",
        "attacks": ", ".join(f"{n} ({a['seconds']:.0f} s)" for n, a in result["attacks"].items()),
        "data": f"{data.get('name')} {data.get('split') or ''}, {data['examples']} examples",
        "drawn": data.get("sampling"),
        "examples' SHA-256": data.get("fingerprint"),
        "model": model.get("path"),
        "parameters": model.get("parameters"),
        "model's SHA-256": model.get("sha256"),
        "seed": result["seed"],
        "software": ", ".join(f"{k} {v}" for k, v in result["environment"].items() if k != "devices"),
        "devices": ", ".join(result["environment"]["devices"]),
    }
    items = "".join(
        f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in rows.items() if v is not None
    )
    return f"<h2>Threat model and data</h2><dl>{items}</dl>"


def repeat(result: Mapping[str, Any]) -> str:
    """How to repeat the evaluation."""
    command = result.get("command")
    shown = f"<pre>{escape(command)}</pre>" if command else ""
    text = "Same seed, examples and versions give the same figures; floats may differ between devices."
    return f"<h2>How to repeat it</h2>{shown}<p class='soft'>{text}</p>"


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
