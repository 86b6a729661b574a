"""ResNets of basic blocks for small images, pre-activation and post-activation.

    network = preact_resnet(18)(num_classes=10)            # keras.Model
    tiny = preact_resnet(18)(num_classes=10, width=8)

Sources: He et al. 2016, "Deep residual learning" and "Identity mappings in deep residual networks",
in the form that the adversarial training literature uses: a 3x3 stem without pooling, four stages of
width 1, 2, 4, 8 times `width` (64) with strides 1, 2, 2, 2.

* `preact_resnet(N)`: as in Rice et al. 2020 (also CFA, AWP, FAAL), with a final BatchNorm and ReLU,
  which FRL's copy leaves out. The shortcut convolution takes the activated input and has no BatchNorm.
* `resnet18`: as in TRADES and DAFA, the shortcut is a 1x1 convolution with BatchNorm.
"""

from typing import Any

import keras

from fairat_tf.networks.architecture import Architecture, Layers

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def preact_block(layers: Layers, x: Any, filters: int, stride: int, name: str) -> Any:
    """Returns the pre-activation basic block of `x`: a = ReLU(BN(x)); shortcut + conv(ReLU(BN(conv(a)))).

    The shortcut is `x`, or a 1x1 convolution of `a` where stride or channels change the shape.
    """
    a = layers.activate(layers.norm(x, f"{name}_bn1"), f"{name}_relu1")
    if stride != 1 or x.shape[-1] != filters:
        x = layers.conv(a, filters, f"{name}_shortcut", kernel=1, stride=stride)
    y = layers.conv(a, filters, f"{name}_conv1", stride=stride)
    y = layers.activate(layers.norm(y, f"{name}_bn2"), f"{name}_relu2")
    y = layers.conv(y, filters, f"{name}_conv2")
    return keras.layers.Add(name=f"{name}_add")([x, y])


def basic_block(layers: Layers, x: Any, filters: int, stride: int, name: str) -> Any:
    """Returns the post-activation basic block of `x`: ReLU(shortcut + BN(conv(ReLU(BN(conv(x))))))."""
    y = layers.norm(layers.conv(x, filters, f"{name}_conv1", stride=stride), f"{name}_bn1")
    y = layers.conv(layers.activate(y, f"{name}_relu1"), filters, f"{name}_conv2")
    y = layers.norm(y, f"{name}_bn2")
    if stride != 1 or x.shape[-1] != filters:
        x = layers.conv(x, filters, f"{name}_shortcut", kernel=1, stride=stride)
        x = layers.norm(x, f"{name}_shortcut_bn")
    return layers.activate(keras.layers.Add(name=f"{name}_add")([x, y]), f"{name}_relu2")


def stages(layers: Layers, x: Any, block: Any, blocks: tuple[int, ...], widths: tuple[int, ...]) -> Any:
    """Returns `x` after stages of `blocks[i]` blocks, `widths[i]` wide; all but the first halve the size."""
    for stage, (count, filters) in enumerate(zip(blocks, widths, strict=True), start=1):
        for i in range(1, count + 1):
            stride = 2 if stage > 1 and i == 1 else 1
            x = block(layers, x, filters, stride, f"stage{stage}_block{i}")
    return x


def preact_resnet(depth: int) -> Architecture:
    """Returns the pre-activation ResNet of `depth` layers.

    Args:
      depth: 18, 34 (blocks 3, 4, 6, 3), or any 2 + 8k: k basic blocks in each of the four stages.

    Raises:
      ValueError: another depth.
    """
    blocks = _BLOCKS.get(depth, ((depth - 2) // 8,) * 4)
    if depth != 2 + 2 * sum(blocks) or depth < 10:
        raise ValueError(
            f"A pre-activation ResNet has depth 18, 34 or 2 + 8k (10, 18, 26), received {depth}."
        )

    def body(layers: Layers, x: Any, width: int) -> Any:
        x = layers.conv(x, width, "stem_conv")
        x = stages(layers, x, preact_block, blocks, (width, 2 * width, 4 * width, 8 * width))
        return layers.activate(layers.norm(x, "final_bn"), "final_relu")

    return Architecture(f"preact_resnet{depth}", 64, body)


def _resnet18(layers: Layers, x: Any, width: int) -> Any:
    x = layers.activate(layers.norm(layers.conv(x, width, "stem_conv"), "stem_bn"), "stem_relu")
    return stages(layers, x, basic_block, _BLOCKS[18], (width, 2 * width, 4 * width, 8 * width))


resnet18 = Architecture("resnet18", 64, _resnet18)
preact_resnet18 = preact_resnet(18)
