"""Pictures for TensorBoard and the run directory, as uint8 arrays.

picture = confusion_picture(counts, class_names)      # [H, W, 3]
"""

import io
import json
import pathlib
from typing import Any

import numpy as np


def confusion_picture(counts: np.ndarray, class_names: tuple[str, ...]) -> np.ndarray:
    """Returns a heat map of counts [K, K]: true class by predicted class, in per cent of the true class."""
    from matplotlib.figure import Figure

    total = counts.sum(1, keepdims=True)
    share = 100 * np.divide(counts, total, out=np.zeros_like(counts, dtype=float), where=total > 0)
    figure = Figure(figsize=(6, 5.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    places, size = range(len(class_names)), 14 if len(class_names) <= 10 else 8
    if len(class_names) <= 25:
        axes.set_xticks(places, class_names, rotation=45, ha="right", fontsize=size, parse_math=False)
        axes.set_yticks(places, class_names, fontsize=size, parse_math=False)
        for row, column in np.ndindex(*share.shape):
            if not total[row, 0]:
                continue  # a class without examples
            shade = "white" if share[row, column] > 50 else "black"
            axes.text(
                column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=shade, fontsize=size
            )
    axes.set_title("% of each true class", fontsize=14)
    axes.set_xlabel("predicted under attack", fontsize=14)
    axes.set_ylabel("true class", fontsize=14)
    return rendered(figure)


def curves_png(metrics: pathlib.Path) -> bytes:
    """Returns a PNG with the curves of a run's `metrics.jsonl`: validation accuracy and training loss."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for name in ("clean_accuracy", "robust_accuracy", "clean_worst_class", "robust_worst_class"):
        values = [row.get(f"val_{name}") for row in rows]
        if None not in values:
            style = "--" if "worst" in name else "-"
            axes.plot(range(1, len(rows) + 1), 100 * np.array(values), style, label=name.replace("_", " "))
    axes.set(xlabel="epoch", ylabel="validation accuracy (%)", ylim=(0, 100))
    axes.grid(alpha=0.3)
    loss = axes.twinx()
    loss.plot(range(1, len(rows) + 1), [row["loss"] for row in rows], color="grey", label="training loss")
    loss.set_ylabel("training loss")
    handles = [*axes.get_lines(), *loss.get_lines()]
    figure.legend(handles=handles, fontsize=8, loc="outside upper center", ncols=len(handles), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def rendered(figure: Any) -> np.ndarray:
    """Returns a matplotlib figure as uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def gallery_picture(rows: list[np.ndarray], titles: list[str]) -> np.ndarray:
    """Returns rows of images (each [n, H, W, C] in [0, 1]) with a title before each row."""
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(1.0 * columns + 1.8, 1.1 * len(rows)), dpi=100, layout="constrained")
    for i, (row, title) in enumerate(zip(rows, titles, strict=True)):
        for j, image in enumerate(row):
            axes = figure.add_subplot(len(rows), columns, i * columns + j + 1)
            shown = np.clip(image, 0, 1)
            axes.imshow(shown[..., 0] if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            if j == 0:
                axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=18, parse_math=False)
    return rendered(figure)
