"""What an evaluation will cost, before it is started.

    plan = estimate(logits_fn, images, labels, ("fgsm", "pgd20", "autoattack"), batch_size=128)
    plan["seconds"]["pgd20"], plan["autoattack_examples"]

A gradient and a forward pass are timed on one batch; an attack is the number of passes it makes on an
example that withstands it. AutoAttack is therefore an upper bound: what falls early costs less.
"""

import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import attacks
from fairat_tf.attacks.search import Search
from fairat_tf.evaluation.attacking import SUITE, to_float
from fairat_tf.evaluation.probes import gradient_step


def passes(attack: str, classes: int) -> tuple[int, int]:
    """Returns (gradient passes, forward passes) of an attack on an example that withstands it.

    AutoAttack: APGD-CE and nine targets of APGD-T with 101 gradients, nine of FAB-T with two for each of
    100 steps, 5000 queries of Square. Other attacks in rounds count their own passes, gradients as two.
    """
    if attack == "clean":
        return 0, 1
    if attack == SUITE:
        targets = min(9, classes - 1)
        return 101 + targets * 101 + 2 * targets * 100, 5000
    made = attacks.get(attack)()
    if isinstance(made, Search):
        return 0, round(made.rounds(classes) * (made.passes(classes) + 1)) + 1
    steps = re.search(r"(\d+)$", attack)
    return getattr(made, "steps", int(steps[1]) if steps else 100), 2


def estimate(
    logits_fn: Any,
    images: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    classes: int,
    batch_size: int,
    budget: float | None = None,
) -> dict[str, Any]:
    """Returns {"seconds": {attack: upper bound for all examples}, "autoattack_examples": how many fit}."""
    batch = tf.constant(to_float(images[:batch_size]))
    target = tf.constant(np.asarray(labels[:batch_size], np.int32))
    gradient = _seconds(gradient_step(logits_fn, batch.shape[1:]), batch, target) / len(batch)
    forward = _seconds(tf.function(lambda x: logits_fn(x), autograph=False), batch) / len(batch)
    cost = {name: np.dot(passes(name, classes), (gradient, forward)) for name in names}
    seconds = {name: float(each * len(labels)) for name, each in cost.items()}
    plan: dict[str, Any] = {"seconds": seconds, "budget": budget}
    if budget is not None and SUITE in names:
        left = max(budget - sum(value for name, value in seconds.items() if name != SUITE), 0.0)
        plan["autoattack_examples"] = int(min(left / cost[SUITE], len(labels)))
    return plan


def _seconds(step: Any, *arguments: tf.Tensor) -> float:
    """Returns the time of a call, after one that traces and prepares."""
    _wait_for(step(*arguments))
    begun = time.monotonic()
    _wait_for(step(*arguments))
    return time.monotonic() - begun


def _wait_for(results: Any) -> None:
    for result in tf.nest.flatten(results):
        result.numpy()
