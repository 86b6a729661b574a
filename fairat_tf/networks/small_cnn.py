"""A small convolutional network for two CPU cores.

    network = small_cnn(num_classes=10)                    # keras.Model

Four 3x3 convolutions, each followed by BatchNorm and ReLU. The first already has stride 2, since the
cost of a step lies in the full-size feature maps: a training step on 32x32 images at width 32 takes
about 0.3 ms an image on two CPU cores, a step of the attack 0.2 ms. The capacity goes into the last,
small maps, whose receptive field is the whole digit.
"""

from typing import Any

from fairat_tf.networks.architecture import Architecture, Layers

_PLAN = ((1, 2), (2, 2), (4, 2), (4, 1))


def _body(layers: Layers, x: Any, width: int) -> Any:
    for i, (multiple, stride) in enumerate(_PLAN, start=1):
        x = layers.conv(x, multiple * width, f"conv{i}", stride=stride)
        x = layers.activate(layers.norm(x, f"bn{i}"), f"relu{i}")
    return x


small_cnn = Architecture("small_cnn", 32, _body)
