"""The evaluation as one HTML file: opens offline, nothing is loaded, every text escaped.

    page.write(result, "runs/a/evaluation", shown=gallery.examples(...), run="runs/a")

The order is that of a reader who is not from the field: a sentence, the figures, the classes, what goes
wrong with them, whether the attack can be believed, and how to repeat it.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fairat_tf import errors
from fairat_tf.reporting import group_sections, sections, style
from fairat_tf.reporting.files import replace
from fairat_tf.reporting.gallery import Shown

REPORT = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write(
    result: Mapping[str, Any],
    directory: str | Path,
    shown: Sequence[Shown] = (),
    run: str | Path | None = None,
) -> Path:
    """Writes `report.html` into `directory`; returns its path.

    Args:
      result: of an evaluation, as written or as returned.
      directory: where to; made if missing.
      shown: examples for the gallery.
      run: a training run directory, whose `metrics.jsonl` is drawn.

    Raises:
      StorageError: the file cannot be written.
    """
    path = Path(directory) / REPORT
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, render(result, shown, run).encode())
    except OSError as error:
        raise errors.StorageError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def render(result: Mapping[str, Any], shown: Sequence[Shown] = (), run: str | Path | None = None) -> str:
    """Returns the page; arguments as for `write`."""
    makers: list[Callable[[], str]] = [
        lambda: sections.headline(result),
        lambda: sections.tiles(result),
        lambda: sections.gates(result),
        lambda: sections.by_class(result),
        lambda: sections.table(result),
        lambda: group_sections.groups(result),
        lambda: sections.curve(result),
        lambda: sections.confusion(result),
        lambda: sections.examples(result, shown),
        lambda: sections.training(run),
        lambda: sections.checks(result),
        lambda: sections.threat_model(result),
        lambda: sections.repeat(result),
    ]
    return document(sections.title(result), "\n".join(make() for make in makers))


def document(title: str, body: str) -> str:
    """Returns a whole HTML document; `title` is text, `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{style.CSS}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
