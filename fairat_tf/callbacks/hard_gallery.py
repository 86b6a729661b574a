"""Shows in TensorBoard which examples were hard, and what augmentation made of them.

model.fit(batches, callbacks=[board, HardGallery(board, batch)])
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.callbacks.board import Board
from fairat_tf.callbacks.pictures import gallery_picture
from fairat_tf.methods.batches import Batch, Examples, unpack

_COLUMNS = 8


class HardGallery(keras.callbacks.Callback):
    """Writes a picture an epoch for methods that mark hard examples; nothing for others.

    Rows: the hard examples of a fixed batch with the highest scores; what they were replaced by before
    the attack; what was trained on. Nothing is trained by it.

    Args:
      board: earlier in the list of callbacks; its event file is written to, since TensorBoard may leave a
        file of a run for good once it has found a later one.
      batch: a training batch; its first 32 examples are used (with `hard_group`: whole groups).
    """

    def __init__(self, board: Board, batch: dict[str, tf.Tensor]):
        super().__init__()
        self._board = board
        self._batch = batch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the picture."""
        group = getattr(self.model.options, "hard_group", 0) or 1
        size = max(32 // group, 1) * group
        batch = unpack({name: values[:size] for name, values in self._batch.items()})
        examples = self.model.training_batch(batch, rng.key(self.model.seed, "hard gallery"))
        hard = np.flatnonzero(examples.hard)
        if not len(hard):
            return
        shown = self._columns(batch, examples, hard)
        picture = gallery_picture(shown, ["hard", "new view", "attacked"])
        with self._board.writer.as_default(step=epoch):
            tf.summary.image("hard examples", picture[None])
        self._board.writer.flush()

    def _columns(self, batch: Batch, examples: Examples, hard: np.ndarray) -> list[np.ndarray]:
        """Returns the rows of the picture: appended views stand behind the batch, the hard ones first."""
        size = len(batch.labels)
        if len(examples.images) > size:
            old, new = hard[:_COLUMNS], size + np.arange(min(_COLUMNS, len(hard)))
        else:
            old = new = hard[np.argsort(-examples.scores.numpy()[hard], kind="stable")][:_COLUMNS]
        return [batch.images.numpy()[old], examples.natural.numpy()[new], examples.images.numpy()[new]]
