"""Augmented views beside plain examples, with BatchNorm of their own where `split_bn` asks for it.

    class Mine(WithViews):
        def training_batch(self, batch, seed):
            attacked = self.attacked(views, labels, seed, self.view_logits)
            return Examples(..., views=which_rows_are_views)

See `methods.split_norm` for what is shared and what is not. The moving average, AWP, weight decay and
checkpoints cover the views' own variables like all others; validation, saving and export never see them.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fairat_tf import optimization
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Examples
from fairat_tf.methods.split_norm import SplitNetwork

LogitsFn = Callable[[tf.Tensor], tf.Tensor]


class WithViews(Method):
    """A method whose `Options` have `split_bn`, and whose examples say which rows are views."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.split = SplitNetwork(self.network) if self.options.split_bn else None
        averaged = self.split and self.ema_network is not None
        self.split_average = SplitNetwork(self.ema_network) if averaged else None
        # attributes of their own, so that Keras counts their variables
        self.split_network = self.split and self.split.network
        self.split_average_network = self.split_average and self.split_average.network

    @property
    def training_network(self) -> keras.Model:
        """The network with both sets of BatchNorm, where there are two."""
        return self.split_network or self.network

    @property
    def view_logits(self) -> LogitsFn | None:
        """Images -> logits of a batch of views alone, in inference mode; None: as any other batch."""
        split = self.split
        return None if split is None else lambda images: split.views(images, training=False)

    def evaluated_view_logits(self, logits_fn: LogitsFn) -> LogitsFn:
        """Returns how the evaluated network reads views: `logits_fn`, where nothing is split."""
        split = self.split_average or self.split
        return logits_fn if split is None else lambda images: split.views(images, training=False)

    def forward(self, images: tf.Tensor, examples: Examples) -> tf.Tensor:
        """Returns the logits [M, K] of the pass that is differentiated, each row by its own BatchNorm."""
        if self.split is None:
            return super().forward(images, examples)
        return self.split(images, examples.views, examples.present, training=True)

    def _update_ema(self) -> None:
        super()._update_ema()
        if self.split and self.split_average:
            averages, now = self.split_average.own_variables, self.split.own_variables
            optimization.ema_update(averages, now, self.average_decay())

    def no_views_yet(self) -> None:
        """Lets the views' BatchNorm follow the main one, while nothing is known of views."""
        for split in (self.split, self.split_average):
            if split is not None:
                split.follow()
