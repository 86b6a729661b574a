"""Options that several methods share.

@dataclasses.dataclass(frozen=True)
class Options(WithLoss):
    loss: str = loss_option("trades")
"""

import dataclasses
from typing import Any

from fairat_tf.config import option
from fairat_tf.objectives import robust


def loss_option(default: str) -> Any:
    """Returns the field `loss` of `WithLoss` with another default."""
    return option(
        default,
        "what is minimised: cross-entropy of the adversarial examples (PGD-AT), TRADES or MART; the attack "
        "in training follows it",
        choices=("cross_entropy", "trades", "mart"),
    )


def beta_option(default: float, help: str = "weight of the boundary term of TRADES and MART") -> Any:
    """Returns the field `beta` of `WithLoss` with another default."""
    return option(default, help, low=0.0)


@dataclasses.dataclass(frozen=True)
class Plain:
    """A method without options of its own."""

    def objective(self) -> robust.CrossEntropy:
        """Returns the loss of one example; here: cross-entropy of what is trained on."""
        return robust.CrossEntropy()


@dataclasses.dataclass(frozen=True)
class WithLoss(Plain):
    """A method that stands on any loss of adversarial training."""

    loss: str = loss_option("cross_entropy")
    beta: float = beta_option(6.0)

    def objective(self) -> robust.CrossEntropy:
        """Returns the chosen loss."""
        return robust.get(self.loss)(beta=self.beta)
