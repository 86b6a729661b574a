"""Fair adversarial training and class-wise robustness evaluation for TensorFlow and Keras.

    import fairat_tf
    network = fairat_tf.networks.get("preact_resnet18")(num_classes=10)
    attack = fairat_tf.attacks.get("pgd")(epsilon=8/255, step_size=2/255, steps=10)
    model = fairat_tf.methods.get("fairat")(network, attack=attack, num_classes=10)

Sub-packages are imported when they are first used, so that `import fairat_tf` stays fast.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PACKAGES = ("attacks", "augment", "data", "metrics", "methods", "networks", "objectives")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"fairat_tf.{name}")
    if name == "load_logits":
        return importlib.import_module("fairat_tf.model_files").load_logits
    raise AttributeError(f"module 'fairat_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_PACKAGES, "__version__", "load_logits"]
