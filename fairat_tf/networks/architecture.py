"""What all networks share: input, normalisation, the layers' conventions, and the linear head.

    def body(layers, images, width):
        return layers.activate(layers.norm(layers.conv(images, width, "conv"), "bn"), "relu")

    tiny = Architecture("tiny", default_width=16, body=body)
    model = tiny(num_classes=10)        # keras.Model, images [B, 32, 32, 3] -> logits [B, 10]

The conventions are PyTorch's, so that published recipes carry over:

* 3x3 convolutions pad one pixel on every side, also with stride 2 (Keras' "same" would pad (0, 1)).
* No convolution has a bias. BatchNorm: momentum 0.9 (PyTorch's 0.1), epsilon 1e-5. One difference
  stays: PyTorch's running variance takes the unbiased variance of the batch, Keras' the biased one,
  a factor of n / (n - 1) with n = batch * height * width.
* Initial weights: convolution and linear kernels uniform in +-1/sqrt(fan_in), linear bias uniform in
  +-1/sqrt(fan_in of the linear layer), unless the family says otherwise.
* Normalisation and the head (pooling, linear layer) are float32 under every dtype policy; what is
  between them computes in the policy's compute dtype.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

UNIFORM_FAN_IN = {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}
"""`VarianceScaling` options for U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default."""

NORMAL_FAN_OUT = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}
"""`VarianceScaling` options for N(0, sqrt(2 / (k^2 C_out))): Wide ResNet's convolutions."""


def layer_seed(seed: int, layer: str) -> int:
    """Returns the initialiser's seed of a layer: a 31-bit hash of (run seed, layer name)."""
    return zlib.crc32(f"{seed}/{layer}".encode()) & 0x7FFFFFFF


@dataclasses.dataclass(frozen=True)
class Layers:
    """Makes named layers with the conventions of this module and applies them.

    Attributes:
      seed: run seed of the initial weights.
      synchronized_bn: BatchNorm statistics over all replicas of a distribution strategy.
      conv_init: `keras.initializers.VarianceScaling` options of the convolution kernels.
    """

    seed: int = 0
    synchronized_bn: bool = False
    conv_init: dict[str, Any] = dataclasses.field(default_factory=lambda: UNIFORM_FAN_IN)

    def conv(self, x: Any, filters: int, name: str, kernel: int = 3, stride: int = 1) -> Any:
        """Returns the convolution of `x` [B, H, W, C] without bias, padding (kernel - 1) / 2 on all sides.

        Args:
          x: symbolic Keras tensor [B, H, W, C].
          filters: number of output channels.
          name: of the layer; its padding layer is called `<name>_pad`.
          kernel: 1 or 3.
          stride: in both directions.
        """
        if stride > 1 and kernel > 1:
            x = keras.layers.ZeroPadding2D((kernel - 1) // 2, name=f"{name}_pad")(x)
        init = keras.initializers.VarianceScaling(**self.conv_init, seed=layer_seed(self.seed, name))
        padding = "same" if stride == 1 else "valid"
        return keras.layers.Conv2D(
            filters, kernel, stride, padding, use_bias=False, kernel_initializer=init, name=name
        )(x)

    def norm(self, x: Any, name: str) -> Any:
        """Returns BatchNorm of `x` over batch and place: momentum 0.9, epsilon 1e-5, gamma 1, beta 0."""
        return keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, synchronized=self.synchronized_bn, name=name
        )(x)

    def activate(self, x: Any, name: str) -> Any:
        """Returns max(x, 0)."""
        return keras.layers.Activation("relu", name=name)(x)

    def linear(self, x: Any, units: int, zero_bias: bool) -> Any:
        """Returns the float32 logits [B, units] of the features `x` [B, C]."""
        bound = 1 / math.sqrt(x.shape[-1])
        kernel = keras.initializers.VarianceScaling(**UNIFORM_FAN_IN, seed=layer_seed(self.seed, "logits"))
        bias = keras.initializers.RandomUniform(-bound, bound, seed=layer_seed(self.seed, "logits/bias"))
        return keras.layers.Dense(
            units,
            kernel_initializer=kernel,
            bias_initializer="zeros" if zero_bias else bias,
            dtype="float32",
            name="logits",
        )(x)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network that can be built: calling it returns a functional `keras.Model`.

    Attributes:
      name: of the built model.
      default_width: width of the first stage when none is asked for.
      body: (layers, normalised images, width) -> feature maps [B, h, w, C], any h and w.
      conv_init: see `Layers`.
      zero_bias: the linear layer's bias starts at 0 instead of PyTorch's default distribution.
    """

    name: str
    default_width: int
    body: Callable[[Layers, Any, int], Any]
    conv_init: dict[str, Any] = dataclasses.field(default_factory=lambda: UNIFORM_FAN_IN)
    zero_bias: bool = False

    def __call__(
        self,
        num_classes: int = 10,
        image_shape: Sequence[int] = (32, 32, 3),
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        width: int | None = None,
        synchronized_bn: bool = False,
        seed: int = 0,
    ) -> keras.Model:
        """Returns the model: input "image" float32 [B, H, W, C] in [0, 1], output "logits" float32 [B, K].

        Args:
          num_classes: K, at least 2.
          image_shape: (H, W, C); any size that survives the strides, any number of channels.
          mean: subtracted from the images, one number or one for each channel; None is 0.
          std: the images are divided by it, likewise; None is 1.
          width: channels of the first stage (64 for ResNets, 32 for small_cnn; for Wide ResNets the
            base that the widening factor multiplies, 16). Small values give tiny variants.
          synchronized_bn: BatchNorm statistics over all replicas. Switch it on under a distribution
            strategy: plain BatchNorm keeps different statistics on each replica and saves one of them.
          seed: of the initial weights. The same (network, seed) gives the same weights.

        Raises:
          ValueError: an argument out of its range; the message says what is expected.
        """
        shape, width = tuple(image_shape), self.default_width if width is None else width
        _check(num_classes, shape, width)
        layers = Layers(seed, synchronized_bn, self.conv_init)
        images = keras.Input(shape, dtype="float32", name="image")
        x = self.body(layers, _normalise(images, mean, std, shape[-1]), width)
        x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
        return keras.Model(images, layers.linear(x, num_classes, self.zero_bias), name=self.name)


def _normalise(images: Any, mean: Any, std: Any, channels: int) -> Any:
    means, stds = _by_channel("mean", mean, 0.0, channels), _by_channel("std", std, 1.0, channels)
    if min(stds) <= 0:
        raise ValueError(f"std must be positive, received {std}.")
    return keras.layers.Normalization(
        mean=means, variance=[s * s for s in stds], dtype="float32", name="normalise"
    )(images)


def _by_channel(what: str, value: Any, default: float, channels: int) -> list[float]:
    given = default if value is None else value
    values = [float(given)] * channels if isinstance(given, (int, float)) else [float(v) for v in given]
    if len(values) != channels:
        raise ValueError(f"{what} must be one number or {channels}, one for each channel, received {value}.")
    return values


def _check(num_classes: int, shape: tuple[int, ...], width: int) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, received {num_classes}.")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"image_shape must be (height, width, channels), all positive, received {shape}.")
    if width < 1:
        raise ValueError(f"width must be at least 1, received {width}.")
