"""MART: misclassified examples count more.

    model = MART(network, attack=attack, num_classes=10, beta=5.0)

Wang, Zou, Yi, Bailey, Ma, Gu, "Improving Adversarial Robustness Requires Revisiting Misclassified
Examples", ICLR 2020, equations 9 to 11:

    BCE(x', y) + beta * KL(p(x) || p(x')) * (1 - p_y(x))
    BCE(x', y) = -log p_y(x') - log(1 - max over j != y of p_j(x'))

with x' from PGD on the cross-entropy. beta (lambda in the paper) is 5 in the authors' script and 6 in their
function; here 5, on every data set. Both batches pass the network in training mode, gradients flow through
all terms, the factor 1 - p_y(x) included, as in the authors' code.

Differences from the authors' code: the attack starts at a uniform point of the ball (theirs: x + 0.001 *
N(0, 1)); the divergence is taken of log-softmax pairs, without their + 1e-12. Their recipe: ResNet-18,
learning rate 0.01, weight decay 3.5e-3, 120 epochs with drops at 75, 90 and 100.
"""

import dataclasses

from fairat_tf.methods.base import Method
from fairat_tf.methods.options import Plain, beta_option
from fairat_tf.objectives import robust


class MART(Method):
    """MART; see the module."""

    @dataclasses.dataclass(frozen=True)
    class Options(Plain):
        """What MART leaves open."""

        beta: float = beta_option(5.0, "weight of the divergence, lambda in the paper")

        def objective(self) -> robust.CrossEntropy:
            """Returns the MART loss."""
            return robust.Mart(self.beta)
