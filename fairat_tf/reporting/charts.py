"""Small charts as inline SVG: they take the width there is and keep their text readable at any.

    charts.bar(0.42, (0.39, 0.45), "robust")                        # one bar with its interval
    charts.lines({"average": points}, x_label="epsilon x 255")      # points: [(x, y in [0, 1]), ...]

Positions are in per cent, text in pixels, colours by class names of the page's style sheet (so that light
and dark both work). Nothing is interactive and nothing is loaded.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fairat_tf.reporting import wording

_LEFT, _RIGHT, _TOP, _BOTTOM = 9.0, 3.0, 6.0, 14.0

Points = Sequence[tuple[float, float]]


def bar(value: float, interval: Sequence[float], kind: str, mark: float | None = None) -> str:
    """Returns a horizontal bar of `value` in [0, 1] with its interval; `mark`: a reference line."""
    low, high = (100 * bound for bound in interval)
    reference = (
        f'<line class="mark" x1="{100 * mark:.2f}%" x2="{100 * mark:.2f}%" y1="0" y2="100%"/>' if mark else ""
    )
    return (
        f'<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="100%"/>'
        f'<rect class="{kind}" width="{100 * value:.2f}%" height="100%"/>{reference}'
        f'<line class="halo" x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>'
        f'<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>'
        f'<line class="whisker" x1="{low:.2f}%" x2="{low:.2f}%" y1="25%" y2="75%"/>'
        f'<line class="whisker" x1="{high:.2f}%" x2="{high:.2f}%" y1="25%" y2="75%"/></svg>'
    )


def pair(
    natural: Mapping[str, Any],
    robust: Mapping[str, Any],
    worst: bool,
    mark: float | None = None,
    alone: bool = False,
) -> str:
    """Returns the bars of a class or group, without an attack and under it; `alone`: no attack was run."""
    bars: list[tuple[Mapping[str, Any], str, float | None]] = [] if alone else [(natural, "clean", None)]
    bars.append((robust, "worst" if worst else "robust", mark))
    return "".join(
        f"{bar(row['accuracy'], row['ci95'], kind, line)}"
        f'<span class="value">{wording.percent(row["accuracy"])}</span>'
        for row, kind, line in bars
    )


def pair_legend(attack: str, what: str) -> str:
    """Returns the legend of `pair`s; `what`: "class" or "group"."""
    keys = [("robust", f"under {attack}"), ("worst", f"the worst {what} under it")]
    if attack == "clean":
        keys = [("robust", "without an attack"), ("worst", f"the worst {what}")]
    else:
        keys.insert(0, ("clean", "without an attack"))
    shown = "".join(f'<span><i class="key {kind}"></i>{escape(text)}</span>' for kind, text in keys)
    dashed = "; dashed: the average" if what == "class" else ""
    return f'<p class="legend">{shown}<span>whiskers: 95 % intervals{dashed}</span></p>'


def lines(
    series: Mapping[str, Points],
    x_label: str,
    bands: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
    vertical: float | None = None,
    percent: bool = True,
) -> str:
    """Returns a line chart with a legend.

    Args:
      series: name -> points (x, y).
      x_label: what x is.
      bands: name -> (x, low, high), drawn as whiskers.
      vertical: x of a reference line.
      percent: y is a fraction, shown from 0 to 100 %; otherwise the axis fits the values.
    """
    points = [point for own in series.values() for point in own]
    if not points:
        return ""
    x_low, x_high = min(p[0] for p in points), max(p[0] for p in points)
    y_high = 1.0 if percent else _round_up(max(p[1] for p in points))
    frame = _Frame(x_low, x_high if x_high > x_low else x_low + 1.0, y_high)
    parts = [*_axes(frame, percent), _label(frame, x_label)]
    if vertical is not None:
        x = frame.x(vertical)
        parts.append(f'<line class="mark" x1="{x:.2f}%" x2="{x:.2f}%" y1="{_TOP}%" y2="{100 - _BOTTOM}%"/>')
    for place, (name, own) in enumerate(series.items()):
        parts += _series(frame, own, place)
        parts += [_whisker(frame, band, place) for band in (bands or {}).get(name, ())]
    described = escape(f"{', '.join(series)} by {x_label}", quote=True)
    chart = f'<svg class="lines" role="img" aria-label="{described}">{"".join(parts)}</svg>'
    return f'<figure>{chart}<figcaption class="legend">{_legend(series)}</figcaption></figure>'


class _Frame:
    """From values to per cent of the drawing."""

    def __init__(self, x_low: float, x_high: float, y_high: float):
        self.x_low, self.x_high, self.y_high = x_low, x_high, y_high

    def x(self, value: float) -> float:
        return _LEFT + (100 - _LEFT - _RIGHT) * (value - self.x_low) / (self.x_high - self.x_low)

    def y(self, value: float) -> float:
        share = min(max(value / self.y_high, 0.0), 1.0)
        return 100 - _BOTTOM - (100 - _TOP - _BOTTOM) * share


def _axes(frame: _Frame, percent: bool) -> list[str]:
    parts = []
    for step in range(5):
        value = frame.y_high * step / 4
        y = frame.y(value)
        text = f"{100 * value:.0f} %" if percent else f"{value:.3g}"
        parts.append(f'<line class="grid" x1="{_LEFT}%" x2="{100 - _RIGHT}%" y1="{y:.2f}%" y2="{y:.2f}%"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 1}%" y="{y:.2f}%" dy="4" text-anchor="end">{text}</text>'
        )
    for step in range(5):
        value = frame.x_low + (frame.x_high - frame.x_low) * step / 4
        x = frame.x(value)
        parts.append(
            f'<text class="tick" x="{x:.2f}%" y="{100 - _BOTTOM}%" dy="16" text-anchor="middle">'
            f"{value:.3g}</text>"
        )
    return parts


def _label(frame: _Frame, text: str) -> str:
    return f'<text class="tick" x="55%" y="99%" text-anchor="middle">{escape(text)}</text>'


def _series(frame: _Frame, points: Points, place: int) -> list[str]:
    known = [(frame.x(x), frame.y(y)) for x, y in points]
    parts = [
        f'<line class="s{place % 6}" x1="{a[0]:.2f}%" y1="{a[1]:.2f}%" x2="{b[0]:.2f}%" y2="{b[1]:.2f}%"/>'
        for a, b in zip(known, known[1:], strict=False)
    ]
    radius = 3 if len(known) <= 40 else 0
    return parts + [
        f'<circle class="s{place % 6}" cx="{x:.2f}%" cy="{y:.2f}%" r="{radius}"/>' for x, y in known
    ]


def _whisker(frame: _Frame, band: tuple[float, float, float], place: int) -> str:
    x, low, high = frame.x(band[0]), frame.y(band[1]), frame.y(band[2])
    return f'<line class="s{place % 6} thin" x1="{x:.2f}%" x2="{x:.2f}%" y1="{low:.2f}%" y2="{high:.2f}%"/>'


def _legend(series: Mapping[str, Points]) -> str:
    return "".join(
        f'<span><svg class="key" aria-hidden="true"><line class="s{place % 6}" x1="0" x2="100%" y1="50%" '
        f'y2="50%"/></svg>{escape(name)}</span>'
        for place, name in enumerate(series)
    )


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)
