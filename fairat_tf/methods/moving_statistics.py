"""BatchNorm's moving statistics, where each replica normalises by its own part of the batch.

    kept_apart = kept_apart_in(network)
    share(kept_apart)                       # in every step, after the weights were updated

A BatchNorm that is not synchronised updates the moving statistics on each replica from what that replica saw;
they drift apart, and Keras saves and validates with the first replica's. Here every step ends with their
mean over the replicas on all of them, so that there is one set of statistics at any moment: what is attacked,
validated, averaged, saved and resumed is the same on each. The mean of the replicas' variances leaves out the
variance between their means, as each of them does.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from fairat_tf.objectives.classwise import over_replicas


def kept_apart_in(network: keras.Model) -> list[Any]:
    """Returns the moving statistics of the BatchNorm layers of `network` that are not synchronised."""
    layers = [
        layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
    ]
    apart = [layer for layer in layers if not layer.synchronized]
    return [variable for layer in apart for variable in (layer.moving_mean, layer.moving_variance)]


def share(variables: Sequence[Any]) -> None:
    """Gives each variable its mean over the replicas; nothing to do on one device."""
    count = tf.distribute.get_strategy().num_replicas_in_sync
    if count == 1 or not variables:
        return
    totals = over_replicas([tf.convert_to_tensor(variable) for variable in variables])
    for variable, total in zip(variables, totals, strict=True):
        variable.assign(total / count)
