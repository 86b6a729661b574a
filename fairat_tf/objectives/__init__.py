"""Per-example objectives: what training minimises and attacks maximise.

    loss = objectives.get("cross_entropy")(logits, labels)    # float32 [B]

Each takes logits float [B, K] and labels int32 [B]; `cross_entropy` takes soft labels [B, K] too.
"""

from collections.abc import Callable

import tensorflow as tf

from fairat_tf.lookup import Table

Objective = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

TABLE = Table(
    "objective",
    {
        "cross_entropy": "fairat_tf.objectives.losses:cross_entropy",
        "margin": "fairat_tf.objectives.losses:margin",
        "dlr": "fairat_tf.objectives.losses:dlr",
    },
)


def get(name: str) -> Objective:
    """Returns the objective called `name`: (logits [B, K], labels [B]) -> loss [B], for attacks to raise."""
    return TABLE.get(name)


def names() -> list[str]:
    """Returns the names of all objectives."""
    return TABLE.names()
