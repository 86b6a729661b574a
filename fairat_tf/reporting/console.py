"""The evaluation as text for a terminal of 80 columns.

print(console.classwise_table(result))
"""

import textwrap
from collections.abc import Mapping
from typing import Any

from fairat_tf.evaluation.summary import strongest
from fairat_tf.reporting import wording
from fairat_tf.units import pixels

WIDTH = 80
_NAME, _COLUMN = 14, 10


def classwise_table(result: Mapping[str, Any]) -> str:
    """Returns the table of accuracy (%) by class and attack, the worst class marked `<`."""
    blocks = _tables(result)
    parts = (_head(result), blocks, _summary(result), _groups(result), _verdict(result), _gates(result))
    return "\n".join(line for part in parts for line in part)


def _head(result: Mapping[str, Any]) -> list[str]:
    data, threat = result["dataset"], result["threat_model"]
    name = f"{data.get('name') or 'data'} {data.get('split') or ''}".strip()
    text = (
        f"{name}: {data['examples']} examples, {len(data['class_names'])} classes; "
        f"{threat['norm']}, epsilon {pixels(threat['epsilon'])}"
    )
    return [*textwrap.wrap(text, WIDTH), "accuracy in %, by true class; < marks the worst class of a column"]


def _tables(result: Mapping[str, Any]) -> list[str]:
    """Attacks side by side as far as 80 columns go, then the next ones below."""
    names = list(result["attacks"])
    room = (WIDTH - _NAME) // (_COLUMN + 1)
    return [_table(result, names[start : start + room]) for start in range(0, len(names), room)]


def _table(result: Mapping[str, Any], attacks: list[str]) -> str:
    classes = result["dataset"]["class_names"]
    lines = ["", f"{'class':<{_NAME}}" + "".join(f"{_cut(name, _COLUMN):>{_COLUMN}} " for name in attacks)]
    for name in classes:
        cells = [_cell(result["attacks"][attack], name) for attack in attacks]
        lines.append(f"{_cut(name, _NAME - 1):<{_NAME}}" + "".join(cells))
    lines.append("-" * (_NAME + (_COLUMN + 1) * len(attacks)))
    rows = {
        "average": [result["attacks"][a]["accuracy"] for a in attacks],
        "worst class": [result["attacks"][a]["worst_class"]["accuracy"] for a in attacks],
        "gap": [result["fairness"][a]["gap"] for a in attacks],
    }
    for label, values in rows.items():
        lines.append(f"{label:<{_NAME}}" + "".join(f"{100 * value:>{_COLUMN}.1f} " for value in values))
    return "\n".join(line.rstrip() for line in lines)


def _cell(attack: Mapping[str, Any], name: str) -> str:
    row = attack["per_class"][name]
    if row["accuracy"] is None:
        return f"{'-':>{_COLUMN}} "
    mark = "<" if attack["worst_class"]["name"] == name else " "
    return f"{100 * row['accuracy']:>{_COLUMN}.1f}{mark}"


def _summary(result: Mapping[str, Any]) -> list[str]:
    lines = ["", "95 % intervals:"]
    for name, attack in result["attacks"].items():
        worst = attack["worst_class"]
        lines.append(
            f"  {_cut(name, 10):<11}average {_range(attack['ci95'])}   "
            f"worst class {_range(worst['ci95'])} ({_cut(worst['name'], 13)})"
        )
        if attack.get("note"):
            lines += _wrapped(f"({attack['note']})", 13)
    absent = next(iter(result["fairness"].values()))["absent"]
    lines += _wrapped(f"no examples of: {', '.join(absent)}", 2) if absent else []
    return lines + [line for told in wording.few_images(result) for line in _wrapped(told, 2)]


def _groups(result: Mapping[str, Any]) -> list[str]:
    """Every group with its size, under the strongest attack."""
    found = result.get("groups")
    if not found:
        return []
    name = strongest(result)
    lines = ["", f"by {_cut(found['by'], 40)}, under {name}: accuracy, 95 % interval, examples"]
    for group, row in found["attacks"][name]["per_group"].items():
        value = "-" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}"
        few = "  (few)" if row["total"] < found["few"] else ""
        lines.append(f"  {_cut(group, 24):<25}{value:>6}  {_range(row['ci95'])}  {row['total']:>7}{few}")
    gap = found["attacks"][name]["disparity"]
    return [*lines, f"  best minus worst group   {100 * gap['value']:>6.1f}  {_range(gap['ci95'])}"]


def _verdict(result: Mapping[str, Any]) -> list[str]:
    verdict = result["verdict"]
    means = "no known sign of failure" if verdict["status"] == "reliable" else ""
    lines = ["", f"can the attack be believed? {verdict['status']}" + (f" ({means})" if means else "")]
    for check in verdict["checks"]:
        if check["outcome"] in ("warn", "fail"):
            where = f" [{', '.join(check['classes'][:5])}]" if check["classes"] else ""
            lines += _wrapped(f"{check['outcome']}: {check['name']}: {check['message']}{where}", 2)
    return lines


def _gates(result: Mapping[str, Any]) -> list[str]:
    rows = result.get("gates") or []
    lines = [""] * bool(rows)
    for row in rows:
        lines += _wrapped(f"gate {'met' if row['passed'] else 'missed'}: {row['message']}", 0)
    if rows and result["verdict"]["status"] == "not checked":
        lines += _wrapped("note: no check was made of whether these attacks work (--checks=none)", 0)
    return lines


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))


def _range(bounds: list[float]) -> str:
    return f"{100 * bounds[0]:5.1f} to {100 * bounds[1]:5.1f}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
