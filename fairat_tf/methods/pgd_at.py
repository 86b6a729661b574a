"""Training without fairness: on natural examples, and on PGD examples (PGD-AT).

    model = PGDAT(network, attack=attack, num_classes=10)

PGD-AT: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
equation 2.1: minimise over the weights the mean of max over the ball of the cross-entropy.
"""

from fairat_tf import rng
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Batch, Examples, plain_examples


class Standard(Method):
    """Training on natural examples; the attack serves validation alone."""

    adversarial = False

    def training_batch(self, batch: Batch, seed: rng.Seed) -> Examples:
        """Returns the natural examples."""
        return plain_examples(batch, batch.images)

    @property
    def passes(self) -> float:
        """What is differentiated alone."""
        return self.training_passes


class PGDAT(Method):
    """PGD adversarial training: the base class as it is."""
