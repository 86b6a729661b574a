"""Timings as tables of Markdown."""

from collections.abc import Iterable

from benchmarks.timing import Timing, spread


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    lines = [list(header), *[list(row) for row in rows]]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_spread(values: tuple[float, float, float], digits: int = 2) -> str:
    """Returns "1.23 (1.20 to 1.31)" from median and quartiles."""
    middle, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})"


def times(timings: dict[str, Timing], reference: str = "") -> str:
    """Returns seconds of each case, and their ratio to the case `reference`, by wall and processor time."""
    base = timings.get(reference)
    known = base is not None and not base.error and bool(base.wall)
    header = ["case", "wall, s", "processor, s"]
    header += [f"wall / {reference}", f"processor / {reference}"] if known else []
    rows = []
    for name, timing in timings.items():
        if timing.error or not timing.wall:
            rows.append([name, timing.error or "not run", *[""] * (len(header) - 2)])
            continue
        row = [name, with_spread(spread(timing.wall), 3), with_spread(spread(timing.cpu), 3)]
        if known and base is not None:
            row += [with_spread(timing.against(base, clock)) for clock in ("wall", "cpu")]
        rows.append(row)
    return table(header, rows)
