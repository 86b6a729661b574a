"""Class-wise accuracy, its intervals and its spread over the classes.

from fairat_tf import metrics
metrics.fairness(correct, labels, num_classes=10)["worst_class"]
"""

from fairat_tf.metrics.fairness import fairness

__all__ = ["fairness"]
