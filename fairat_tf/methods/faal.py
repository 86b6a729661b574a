"""FAAL: fairness-aware adversarial learning, a worst case over class weights inside every batch.

    network = ...                                # a robust one, for example by PGD-AT or TRADES (--init_from)
    model = FAAL(network, attack=attack, num_classes=10, epochs=2)

Zhang, Zhang, Gu, Wang, Xu, "Towards Fairness-Aware Adversarial Learning", CVPR 2024: a minimum over the
network of a maximum over class distributions p near the equal one of the adversarial loss. In each
batch

    m_i = max over j != y of q_j - q_y                  (q: probabilities of the adversarial example)
    p*  = argmax over p of sum over i of p_(y_i) m_i    subject to sum p = 1, p >= 0, KL(u || p) <= r
    loss = K / B * sum over i of p*_(y_i) l_i           (l: PGD-AT, TRADES or MART)

with u the equal distribution over the K classes. The sum over i is sum over k of p_k a_k with a_k the
sum of class k's margins; the maximum has a closed form but for one number (`objectives.worst_weights`).
r = 0 is the base loss. With several replicas the margins are those of the global batch.

Defaults of the authors' code on CIFAR-10: r = 0.5; two epochs from a robust network, learning rate
0.01, in the second 0.001; AWP (`--awp_gamma=0.005`) in their best results.

Differences from the authors' code: bisection in the graph (theirs: a conic solver on the host, every
batch); the start of the attack is uniform in the ball. As there, an absent class has a_k = 0 and takes
a share of the weight, and the margins come from the pass that is differentiated. Their choice of
checkpoint looks at the test set; here it is validation.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Examples
from fairat_tf.methods.options import WithLoss
from fairat_tf.objectives import losses
from fairat_tf.objectives.classwise import class_sums, over_replicas
from fairat_tf.objectives.robust import Terms
from fairat_tf.objectives.worst_weights import worst_weights


class FAAL(Method):
    """Fairness-aware adversarial learning; see the module."""

    fine_tunes = True

    @dataclasses.dataclass(frozen=True)
    class Options(WithLoss):
        """The base loss and the radius of the class distributions."""

        faal_radius: float = option(
            0.5, "how far class weights may be from equal ones: KL(equal || weights) in nats", low=0.0
        )

    def term_weights(self, examples: Examples, logits: tf.Tensor, terms: Terms) -> tuple[Any, Any]:
        """Returns K p*_y for both terms, [M]."""
        if not self.options.faal_radius:
            return 1.0, 1.0
        margins = losses.probability_margin(tf.stop_gradient(logits), examples.labels)
        margins *= tf.cast(examples.present, margins.dtype)
        gains = over_replicas(class_sums(margins, examples.truth, self.num_classes))
        weights = self.num_classes * worst_weights(gains, self.options.faal_radius)
        weight = self.of_class(weights, examples.truth)
        return weight, weight
