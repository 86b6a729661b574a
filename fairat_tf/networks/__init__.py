"""Image classifiers as plain Keras models: float32 images in [0, 1] in, float32 logits out.

    from fairat_tf import networks
    network = networks.get("preact_resnet18")(num_classes=10, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    logits = network(images, training=False)   # images [B, 32, 32, 3], logits [B, 10]

Every name gives a `architecture.Architecture`, whose call builds the model; only stock Keras layers
are used, so a saved network loads with Keras alone.
"""

import importlib
import re
from typing import Any

from fairat_tf.lookup import Table

_FAMILIES = (
    (r"preact_resnet_?(\d+)", "fairat_tf.networks.resnet:preact_resnet"),
    (r"wrn_(\d+)_(\d+)", "fairat_tf.networks.wide_resnet:wide_resnet"),
)


def _from_family(name: str) -> Any | None:
    for pattern, entry in _FAMILIES:
        found = re.fullmatch(pattern, name)
        if found:
            module, attribute = entry.split(":")
            return getattr(importlib.import_module(module), attribute)(*map(int, found.groups()))
    return None


_TABLE = Table(
    "network",
    {
        "small_cnn": "fairat_tf.networks.small_cnn:small_cnn",
        "resnet18": "fairat_tf.networks.resnet:resnet18",
        "preact_resnet18": "fairat_tf.networks.resnet:preact_resnet18",
        "wrn_28_10": "fairat_tf.networks.wide_resnet:wrn_28_10",
        "wrn_34_10": "fairat_tf.networks.wide_resnet:wrn_34_10",
    },
    fallback=_from_family,
    family="preact_resnet_N (N = 18, 34, or 2 + 8k), wrn_D_W (depth D = 6n + 4, widening W)",
)


def names() -> list[str]:
    """Returns the listed network names; `get` knows the families `preact_resnet_N` and `wrn_D_W` as well."""
    return _TABLE.names()


def get(name: str) -> Any:
    """Returns the `Architecture` called `name`: call it to build the Keras model.

    Args:
      name: a listed name, `preact_resnet_N` or `wrn_D_W`.

    Raises:
      UnknownNameError (a ValueError): no such name; the message lists the known ones.
      ValueError: a family's name with a depth that the family does not have.
    """
    return _TABLE.get(name)
