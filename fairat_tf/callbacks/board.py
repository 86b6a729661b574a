"""TensorBoard: scalars, one chart with all classes, the adversarial confusion matrix, the run's facts.

    model.fit(batches, callbacks=[history, Board(log_dir, history, config_text, hyper_parameters)])

Tabs: Scalars (loss, accuracies, worst class, gap, the leak diagnostic, the paper's premise), Custom
scalars (each class-wise metric with all classes in one chart), Images (confusion matrix under
attack), HParams, Text (the whole configuration).
"""

import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf.callbacks.classwise_history import ClasswiseHistory
from fairat_tf.callbacks.pictures import confusion_picture


class Board(keras.callbacks.Callback):
    """Writes one event file below `log_dir`; others may use its `writer` while training goes on.

    Args:
      log_dir: directory for the event file.
      history: the run's class-wise history, earlier in the list of callbacks.
      configuration: text shown as it is.
      hyper_parameters: name -> bool, int, float or str, for the HParams tab.
    """

    def __init__(
        self,
        log_dir: pathlib.Path,
        history: ClasswiseHistory,
        configuration: str = "",
        hyper_parameters: dict[str, Any] | None = None,
    ):
        super().__init__()
        self._log_dir, self._history = log_dir, history
        self._configuration, self._hyper_parameters = configuration, hyper_parameters or {}
        self.writer: Any = None
        self._laid_out: set[tuple[str, str]] = set()

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the event file and writes what does not change."""
        from tensorboard.plugins.hparams import api as hparams

        self.writer = tf.summary.create_file_writer(str(self._log_dir))
        with self.writer.as_default(step=0):
            indented = "\n".join("    " + line for line in self._configuration.splitlines())
            tf.summary.text("configuration", indented)
            if self._hyper_parameters:
                hparams.hparams(self._hyper_parameters)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the epoch."""
        with self.writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                measured = name.startswith(("val_", "premise_"))  # the premise is that of validation, too
                split, short = "validation" if measured else "train", name.removeprefix("val_")
                tf.summary.scalar(f"{split}/{short}", float(value))
            for row in self._history.table():
                tf.summary.scalar(f"classwise/{row['split']}_{row['metric']}/{row['class']}", row["value"])
            if self._history.validation:
                picture = confusion_picture(self._history.confusion, self._history.class_names)
                tf.summary.image("adversarial confusion (validation)", picture[None])
        self._write_layout()
        self.writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the event file."""
        self.writer.close()

    def _write_layout(self) -> None:
        metrics = {(row["split"], row["metric"]) for row in self._history.table()}
        if metrics <= self._laid_out:
            return
        self._laid_out |= metrics
        from tensorboard.plugins.custom_scalar import layout_pb2, summary

        charts = {
            split: [
                layout_pb2.Chart(
                    title=f"{metric} by class",
                    multiline=layout_pb2.MultilineChartContent(tag=[rf"^classwise/{split}_{metric}/"]),
                )
                for chart_split, metric in sorted(self._laid_out)
                if chart_split == split
            ]
            for split in ("validation", "train")
        }
        categories = [
            layout_pb2.Category(title=split, chart=chart) for split, chart in charts.items() if chart
        ]
        layout = summary.pb(layout_pb2.Layout(category=categories))
        tensor = tf.constant(layout.value[0].tensor.string_val[0])
        with self.writer.as_default(step=0):
            tf.summary.write(layout.value[0].tag, tensor, metadata=_metadata(layout))


def _metadata(layout: Any) -> Any:
    return layout.value[0].metadata


def shown(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries that the HParams tab can show, None as the word "default"."""
    plain = {k: "default" if v is None else v for k, v in values.items()}
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in plain.items()}
