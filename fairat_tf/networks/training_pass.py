"""The pass in training mode, with each BatchNorm as one op.

    logits = training_pass(network)(images)      # = network(images, training=True)

Keras takes BatchNorm apart into moments, differences and products, in float32 whatever the compute type is.
The fused op reads its input twice, keeps it in the compute type and reckons in float32 inside. The moving
statistics are updated by Keras' rule, that is with the biased variance of the batch.

A BatchNorm that shares its statistics among several replicas is called as it is, and so are layers that are
not known here and models that are no graph of layers.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fairat_tf.networks.folding import is_batch_norm, scale_and_offset
from fairat_tf.networks.graph import Graph

Function = Callable[[tf.Tensor], tf.Tensor]


def training_pass(network: keras.Model) -> Function:
    """Returns `images -> network(images, training=True)`; moving statistics change with every call.

    Args:
      network: any Keras model; functional and sequential ones are made faster.
    """
    graph = Graph.of(network)
    if graph is None:
        return lambda images: network(images, training=True)

    def forward(images: tf.Tensor) -> tf.Tensor:
        replaced = {layer: _fused(layer) for layer in graph.users if _uses_own_batch(layer)}
        return graph.run(images, replaced, training=True)

    return forward


def _uses_own_batch(layer: Any) -> bool:
    """Returns whether the layer is BatchNorm that takes the moments of this replica's batch."""
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    return is_batch_norm(layer) and layer.trainable and (alone or not layer.synchronized)


def _fused(layer: Any) -> Function:
    def function(x: tf.Tensor) -> tf.Tensor:
        gamma, beta = scale_and_offset(layer)
        nothing = tf.zeros([0])
        out = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(x, layer.compute_dtype),
            scale=gamma,
            offset=beta,
            mean=nothing,
            variance=nothing,
            epsilon=layer.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
        biased = out.batch_variance * ((count - 1.0) / count)
        _move(layer.moving_mean, out.batch_mean, layer.momentum)
        _move(layer.moving_variance, biased, layer.momentum)
        return out.y

    return function


def _move(average: Any, value: tf.Tensor, momentum: float) -> None:
    average.assign(tf.convert_to_tensor(average) * momentum + value * (1.0 - momentum))
