"""The page's part about groups: bars by group, and a table by class and group.

    group_sections.groups(result)        # HTML, "" without groups

Every group is there with its size, however small.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

from fairat_tf.evaluation.summary import strongest
from fairat_tf.reporting import charts, wording
from fairat_tf.reporting.wording import points, span

_MOST_COLUMNS = 12


def groups(result: Mapping[str, Any]) -> str:
    """Accuracy by group, clean beside robust, and robust accuracy by class and group."""
    found = result.get("groups")
    if not found:
        return ""
    name = strongest(result)
    gap = found["attacks"][name]["disparity"]
    text = (
        f"Best minus worst group: {100 * gap['value']:.1f} points, {span(gap['ci95'], '')}, under {name}. "
        f"Groups of fewer than {found['few']} images are marked: their intervals are wide."
    )
    legend = charts.pair_legend(name, "group")
    bars = "".join(_bars(found, name, group) for group in found["sizes"])
    return (
        f"<h2>Accuracy by {escape(found['by'])}</h2><p>{escape(text)}</p>{legend}"
        f"{bars}{_table(result, found, name)}"
    )


def _bars(found: Mapping[str, Any], attack: str, group: str) -> str:
    natural, own = (found["attacks"][a]["per_group"][group] for a in ("clean", attack))
    few = ", few" if own["total"] < found["few"] else ""
    size = f'<br><small class="soft">{own["total"]} images{few}</small>'
    label = f"{escape(wording.group_label(found['by'], group))}{size}"
    if own["accuracy"] is None:
        empty = '<span class="soft">no images</span>'
        return f'<div class="row"><span class="name single">{label}</span>{empty}</div>'
    worst = group == found["attacks"][attack]["worst_group"]["name"]
    bars = charts.pair(natural, own, worst, alone=attack == "clean")
    lines = "name single" if attack == "clean" else "name"
    return f'<div class="row"><span class="{lines}">{label}</span>{bars}</div>'


def _table(result: Mapping[str, Any], found: Mapping[str, Any], attack: str) -> str:
    """Classes down and groups across, or the other way round where there are many groups."""
    cells = found["attacks"][attack]["per_class_and_group"]
    classes, columns = result["dataset"]["class_names"], list(found["sizes"])
    turned = len(columns) > _MOST_COLUMNS and len(classes) < len(columns)
    across, down = (classes, columns) if turned else (columns, classes)
    head = "".join(f"<th>{escape(str(name))}</th>" for name in across)
    rows = []
    for line in down:
        own = (cells[other][line] if turned else cells[line][other] for other in across)
        rows.append(f"<tr><th>{escape(str(line))}</th>{''.join(map(_cell, own))}</tr>")
    corner = f"{escape(found['by'])} / class" if turned else f"class / {escape(found['by'])}"
    return (
        f'<h3>By class and group</h3><p class="soft">Accuracy in % under {escape(attack)}; below it the '
        'number of images.</p><div class="wide"><table class="groups">'
        f"<thead><tr><th>{corner}</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(row: Mapping[str, Any]) -> str:
    return f'<td>{points(row["accuracy"])}<br><small class="soft">{row["total"]}</small></td>'
