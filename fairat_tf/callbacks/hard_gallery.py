"""Shows in TensorBoard which examples were hard, and what augmentation made of them.

model.fit(batches, callbacks=[HardGallery(log_dir, batch)])
"""

import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.callbacks.pictures import gallery_picture
from fairat_tf.methods.batches import Batch, Examples, unpack

_COLUMNS = 8


class HardGallery(keras.callbacks.Callback):
    """Writes a picture an epoch for methods that mark hard examples; nothing for others.

    Rows: the hard examples of a fixed batch with the highest scores; what they were replaced by before
    the attack; what was trained on. Nothing is trained by it.

    Args:
      log_dir: directory for the event file.
      batch: a training batch; its first 32 examples are used.
    """

    def __init__(self, log_dir: pathlib.Path, batch: dict[str, tf.Tensor]):
        super().__init__()
        self._log_dir = log_dir
        self._batch = {name: values[:32] for name, values in batch.items()}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the picture."""
        batch = unpack(self._batch)
        examples = self.model.training_batch(batch, rng.key(self.model.seed, "hard gallery"))
        hard = np.flatnonzero(examples.hard)
        if not len(hard):
            return
        shown = self._columns(batch, examples, hard)
        picture = gallery_picture(shown, ["hard", "new view", "attacked"])
        with tf.summary.create_file_writer(str(self._log_dir)).as_default(step=epoch):
            tf.summary.image("hard examples", picture[None])

    def _columns(self, batch: Batch, examples: Examples, hard: np.ndarray) -> list[np.ndarray]:
        """Returns the rows of the picture; appended views stand behind the batch's own rows, in order."""
        size = len(batch.labels)
        if len(examples.images) > size:
            old, new = hard[:_COLUMNS], size + np.arange(min(_COLUMNS, len(hard)))
        else:
            old = new = hard[np.argsort(-examples.scores.numpy()[hard], kind="stable")][:_COLUMNS]
        return [batch.images.numpy()[old], examples.natural.numpy()[new], examples.images.numpy()[new]]
