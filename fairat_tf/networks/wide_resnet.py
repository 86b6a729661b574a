"""Wide ResNets: pre-activation ResNets of three stages with many channels.

    network = wide_resnet(28, 10)(num_classes=10)          # WRN-28-10
    tiny = wide_resnet(10, 1)(num_classes=10, width=4)

Source: Zagoruyko and Komodakis 2016, "Wide residual networks", in the form of TRADES: no dropout;
where channels change, both branches take the activated input; convolutions start as
N(0, sqrt(2 / (k^2 C_out))), the linear bias at 0. TRADES' file holds an unused extra block, which is
not built here; parameter counts of that file include it.
"""

from typing import Any

from fairat_tf.networks import resnet
from fairat_tf.networks.architecture import NORMAL_FAN_OUT, Architecture, Layers


def wide_resnet(depth: int, widening: int) -> Architecture:
    """Returns the Wide ResNet WRN-`depth`-`widening`.

    Args:
      depth: 6n + 4: n blocks in each stage (28: 4, 34: 5).
      widening: stages have 1, 2, 4 times `widening` * `width` channels; `width`, that of the stem, is 16.

    Raises:
      ValueError: another depth, or a widening below 1.
    """
    blocks = (depth - 4) // 6
    if depth != 6 * blocks + 4 or blocks < 1 or widening < 1:
        raise ValueError(
            f"wrn_D_W needs a depth D = 6n + 4 (10, 16, 22, 28, 34) and a widening W >= 1, "
            f"received D = {depth}, W = {widening}."
        )

    def body(layers: Layers, x: Any, width: int) -> Any:
        x = layers.conv(x, width, "stem_conv")
        w = width * widening
        x = resnet.stages(layers, x, resnet.preact_block, (blocks,) * 3, (w, 2 * w, 4 * w))
        return layers.activate(layers.norm(x, "final_bn"), "final_relu")

    return Architecture(f"wrn_{depth}_{widening}", 16, body, NORMAL_FAN_OUT, zero_bias=True)


wrn_28_10 = wide_resnet(28, 10)
wrn_34_10 = wide_resnet(34, 10)
