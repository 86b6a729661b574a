"""TRADES: natural cross-entropy, and a divergence between natural and adversarial prediction.

    model = TRADES(network, attack=attack, num_classes=10, beta=6.0)

Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically Principled Trade-off between Robustness and
Accuracy", ICML 2019, equation 5:

    minimise the mean of CE(f(x), y) + beta * max over x' in the ball of KL(p(x) || p(x'))

Natural and adversarial examples pass the network one after the other in training mode (each batch with its
own BatchNorm statistics); the gradient flows through both. beta = 1 / lambda of the paper: 6 on CIFAR-10.

Differences from the authors' code: the attack starts at a uniform point of the ball (theirs: x + 0.001 *
N(0, 1)); the natural batch passes once (theirs: twice, with the same numbers, so that its statistics count
twice in the moving ones). Their recipe: WRN-34-10, 76 epochs with drops at 75 and 90, weight decay 2e-4,
epsilon 0.031, step 0.007, 10 steps.
"""

import dataclasses

from fairat_tf.methods.base import Method
from fairat_tf.methods.options import Plain, beta_option
from fairat_tf.objectives import robust


class TRADES(Method):
    """TRADES; see the module."""

    @dataclasses.dataclass(frozen=True)
    class Options(Plain):
        """What TRADES leaves open."""

        beta: float = beta_option(6.0, "weight of the divergence, 1 / lambda in the paper")

        def objective(self) -> robust.CrossEntropy:
            """Returns the TRADES loss."""
            return robust.Trades(self.beta)
