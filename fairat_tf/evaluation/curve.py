"""Accuracy against epsilon, on a sample: how far the protection reaches.

result["curve"] = curve.measure(bench, num_classes=10)
result["curve"]["points"][3]         # {"epsilon", "accuracy", "ci95", "worst_class"}
"""

from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import attacks, rng
from fairat_tf.attacks.pgd import misclassified
from fairat_tf.evaluation.attacking import Bench, to_float
from fairat_tf.evaluation.sampling import by_class, per_class_for
from fairat_tf.metrics import intervals

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SAMPLE = 256
_ATTACK = "pgd20"


def measure(bench: Bench, num_classes: int, factors: tuple[float, ...] = FACTORS) -> dict[str, Any]:
    """Returns {"attack", "examples", "points"}: accuracy at multiples of the bench's epsilon.

    Balls are nested, so an example that falls at one radius counts as fallen at every larger one.
    """
    places = by_class(bench.labels, num_classes, per_class_for(bench.labels, num_classes, SAMPLE), bench.seed)
    images, labels = to_float(bench.images[places]), bench.labels[places]
    attack = attacks.get(_ATTACK)(epsilon=bench.epsilon, norm=bench.norm, scale_step=True)

    @tf.function(autograph=False)
    def right(points: tf.Tensor, target: tf.Tensor, seed: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        changed = attack(bench.logits_fn, points, target, seed, epsilon=epsilon)
        return ~misclassified(bench.logits_fn(changed), target)

    standing = np.ones(len(labels), bool)
    points = []
    for factor in factors:
        epsilon = tf.constant(factor * bench.epsilon, tf.float32)
        parts = [
            right(
                tf.constant(images[start : start + bench.batch_size]),
                tf.constant(labels[start : start + bench.batch_size]),
                rng.key(bench.seed, "curve", start),
                epsilon,
            ).numpy()
            for start in range(0, len(labels), bench.batch_size)
        ]
        standing &= np.concatenate(parts)
        points.append(_point(factor * bench.epsilon, standing, labels, num_classes))
    return {"attack": _ATTACK, "examples": len(labels), "points": points}


def _point(epsilon: float, standing: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, Any]:
    right = np.bincount(labels[standing], minlength=num_classes)
    total = np.bincount(labels, minlength=num_classes)
    low, high = intervals.wilson(standing.sum(), len(standing))
    return {
        "epsilon": epsilon,
        "accuracy": float(standing.mean()),
        "ci95": [float(low), float(high)],
        "worst_class": float((right[total > 0] / total[total > 0]).min()),
    }
