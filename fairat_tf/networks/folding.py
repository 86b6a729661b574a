"""A network prepared for many passes in inference mode, by which only the images change.

    logits_fn = prepared(network)            # once: BatchNorm folded, kernels in the compute type
    adversarial = attack(logits_fn, images, labels, seed)

What a call of the network repeats in every pass is done once: reading the weights, casting them, turning
BatchNorm's four vectors into one scale and one offset. Where a BatchNorm is the only user of a convolution,
scale and offset go into its kernel and bias, and where a convolution is the only user of `Normalization`
(with zeros padded or not), the division by the standard deviation does. Other BatchNorms become one op that
does not pass through float32. Layers that are not known here are called as they are, and so is a model that
is no graph of layers.

The weights are those of the moment of the call: prepare again after they have changed. Gradients flow to the
images alone. In float32 the logits are the network's to about 1e-6 of their size; in bfloat16 kernels are
rounded after folding instead of before, with errors of the same size.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fairat_tf.networks.graph import Graph

Function = Callable[[tf.Tensor], tf.Tensor]


def prepared(network: keras.Model) -> Function:
    """Returns `images -> network(images, training=False)` with the weights as they are now.

    Args:
      network: any Keras model; functional and sequential ones are prepared.

    Returns:
      Images [B, H, W, C] -> what the network returns, in its dtype; differentiable by the images. It may be
      called in the graph (or eagerly) where `prepared` was called, and in the loops inside.
    """
    graph = Graph.of(network)
    if graph is None:
        return lambda images: network(images, training=False)
    replaced = _replacements(graph)
    return lambda images: graph.run(images, replaced, training=False)


def _replacements(graph: Graph) -> dict[Any, Function]:
    """Returns layer -> what to call in its place."""
    replaced: dict[Any, Function] = {}
    factors: dict[Any, tf.Tensor] = {}
    for layer in graph.users:
        user = graph.only_user(layer)
        if type(user) is keras.layers.ZeroPadding2D and user in graph.users:
            user = graph.only_user(user)
        if _is_normalization(layer) and user in graph.users and _is_convolution(user):
            replaced[layer], factors[user] = _centred(layer)
    for layer in graph.users:
        if _is_convolution(layer):
            user = graph.only_user(layer)
            norm = user if user in graph.users and is_batch_norm(user) and _is_linear(layer) else None
            replaced[layer] = _convolution(layer, factors.get(layer), norm)
            if norm is not None:
                replaced[norm] = _unchanged
    for layer in graph.users:
        if is_batch_norm(layer) and layer not in replaced:
            replaced[layer] = _batch_norm(layer)
    return replaced


def _unchanged(x: tf.Tensor) -> tf.Tensor:
    return x


# ---- BatchNorm -----------------------------------------------------------------------------------------


def is_batch_norm(layer: Any) -> bool:
    """Returns whether the layer is plain BatchNorm of feature maps [B, H, W, C] with float32 variables."""
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.axis in (-1, 3)
        and len(layer.input.shape) == 4
        and not layer.renorm
        and layer.activity_regularizer is None
        and layer.compute_dtype != "float64"
        and layer.variable_dtype == "float32"  # what the fused operation takes
    )


def scale_and_offset(layer: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns BatchNorm's gamma (1 where it has none) and beta (0), float32 [C]."""
    ones = tf.ones_like(tf.convert_to_tensor(layer.moving_mean))
    gamma = tf.convert_to_tensor(layer.gamma) if layer.scale else ones
    beta = tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros_like(ones)
    return gamma, beta


def _folded(layer: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (s, b) with BatchNorm in inference mode = x * s + b, float32 [C]."""
    gamma, beta = scale_and_offset(layer)
    scale = gamma * tf.math.rsqrt(tf.convert_to_tensor(layer.moving_variance) + layer.epsilon)
    offset = beta - tf.convert_to_tensor(layer.moving_mean) * scale
    return tf.stop_gradient(scale), tf.stop_gradient(offset)


def _batch_norm(layer: Any) -> Function:
    scale, offset = _folded(layer)
    zeros = tf.zeros_like(offset)
    dtype = layer.compute_dtype

    @tf.custom_gradient
    def function(x: tf.Tensor) -> tuple[tf.Tensor, Function]:
        return _affine(tf.cast(x, dtype), scale, offset), lambda dy: tf.cast(
            _affine(dy, scale, zeros), x.dtype
        )

    return function


def _affine(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Returns x * scale + offset in the dtype of x, reckoned in float32: one op, which fuses with ReLU."""
    one = tf.ones_like(scale)
    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=tf.zeros_like(one), variance=one, epsilon=0.0, is_training=False
    ).y


# ---- convolutions and the normalisation of images ----------------------------------------------------------


def _is_convolution(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and not getattr(layer, "lora_enabled", False)
        and not getattr(layer, "quantization_mode", None)
    )


def _is_linear(layer: Any) -> bool:
    return layer.activation in (None, keras.activations.linear)


def _convolution(layer: Any, factor: tf.Tensor | None, norm: Any) -> Function:
    """Returns the convolution with `factor` [Cin] of its input and the BatchNorm behind it in its kernel."""
    kernel = tf.convert_to_tensor(layer.kernel)
    bias = tf.convert_to_tensor(layer.bias) if layer.use_bias else None
    if factor is not None:
        kernel *= tf.cast(factor, kernel.dtype)[:, None]
    if norm is not None:
        scale, offset = _folded(norm)
        kernel *= tf.cast(scale, kernel.dtype)
        bias = tf.cast(offset, kernel.dtype) + (0.0 if bias is None else bias * tf.cast(scale, bias.dtype))
    dtype = layer.compute_dtype
    kernel = tf.stop_gradient(tf.cast(kernel, dtype))
    bias = None if bias is None else tf.stop_gradient(tf.cast(bias, dtype))

    def function(x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.convolution(  # not conv2d: its gradient on a CPU without AVX-512 knows no dilation
            tf.cast(x, dtype), kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate
        )
        x = x if bias is None else tf.nn.bias_add(x, bias)
        return x if _is_linear(layer) else layer.activation(x)

    return function


def _is_normalization(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Normalization
        and not layer.invert
        and layer.axis in ((-1,), (3,))
        and len(layer.input.shape) == 4
    )


def _centred(layer: Any) -> tuple[Function, tf.Tensor]:
    """Returns `x - mean`, and the factor [C] that is left: unlike the mean it commutes with padding by 0."""
    mean = tf.cast(layer.mean, layer.compute_dtype)
    deviation = tf.maximum(tf.sqrt(tf.cast(layer.variance, layer.compute_dtype)), keras.backend.epsilon())
    return lambda x: tf.cast(x, layer.compute_dtype) - mean, tf.reshape(1.0 / deviation, [-1])
