"""What can be timed: a case says it all, and goes to a worker as JSON.

case = Case("ours", side="tensorflow", what="step", network="preact_resnet18", precision="bfloat16")
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
      name: how it is called in tables.
      side: "tensorflow" or "torch", the worker that runs it.
      what: "step" (a training step of a method), "attack" (PGD alone), "pass" (forward and backward in
        training mode with the gradient of the weights), "forward", or the name of another library whose PGD
        is to run ("cleverhans", "art", "foolbox").
      method: training method and its options, "fairat+hard_score=start"; for "step".
      network, width, classes: as for `fairat_tf.networks`; width 0 is the network's own.
      batch, steps: examples, and steps of PGD.
      precision: "float32" or "bfloat16".
      replicas: devices that share the batch (tensorflow only).
      channels_last, compiled, folded: settings of the PyTorch peer. For TensorFlow `compiled` is XLA, and
        `folded` false runs the attack on the plain network.
      compiled_attack: whether the peer's step compiles its attack; None is as `compiled`.
      threads: of the computation, 0 is all.
    """

    name: str
    side: str = "tensorflow"
    what: str = "step"
    method: str = "pgd_at"
    network: str = "preact_resnet18"
    width: int = 0
    classes: int = 10
    batch: int = 128
    steps: int = 10
    precision: str = "float32"
    replicas: int = 1
    channels_last: bool = True
    compiled: bool = False
    folded: bool = True
    compiled_attack: bool | None = None
    threads: int = 0

    def but(self, **changes: Any) -> "Case":
        """Returns the case with other values."""
        return dataclasses.replace(self, **changes)


def method_and_options(text: str) -> tuple[str, dict[str, Any]]:
    """Returns ("fairat", {"hard_score": "start"}) for "fairat+hard_score=start"; numbers become numbers."""
    name, *options = text.split("+")
    return name, {key: _value(value) for key, _, value in (option.partition("=") for option in options)}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
