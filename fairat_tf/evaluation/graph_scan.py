"""What operations a model is made of, seen in its traced graph.

    suspicious_operations(logits_fn, (1, 32, 32, 3))     # ["AssignAddVariableOp", "RandomUniform"]

Used by the verdict (operations that hide a model from an attack) and for SavedModels, which are programs
(operations that touch files or run Python).
"""

import re
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

_OUTSIDE = re.compile(
    "File|Reader|Summary|Save|Restore|Snapshot|Checkpoint|Dataset|LMDB|Sql|Rpc|Server|PyFunc|Generator"
    "|ImmutableConst|DebugIdentity|Print|Collective"
)
"""Families of operations that touch files or the network, or run Python; no layer is made of any."""
_STATE = ("Assign", "ResourceScatter", "ResourceApply")
_GRADIENT = ("Backprop", "Grad")


def operations(functions: Iterable[Any]) -> set[str]:
    """Returns the types of all operations in the concrete functions and in what they call."""
    found: set[str] = set()
    for function in functions:
        definition = function.graph.as_graph_def()
        found |= {node.op for node in definition.node}
        found |= {node.op for inner in definition.library.function for node in inner.node_def}
    return found


def suspicious_operations(logits_fn: Any, shape: tuple[int, ...]) -> list[str]:
    """Returns the random, state-changing and gradient operations in the graph of `logits_fn`, sorted."""
    spec = tf.TensorSpec(shape, tf.float32)
    traced = tf.function(lambda images: logits_fn(images), autograph=False).get_concrete_function(spec)
    found = operations([traced])
    return sorted(op for op in found if _random(op) or op.startswith(_STATE) or op.endswith(_GRADIENT))


def dangerous_operations(names: Iterable[str]) -> list[str]:
    """Returns those of the operation types that touch files or the network, or run Python, sorted."""
    return sorted(name for name in set(names) if _OUTSIDE.search(name))


def _random(op: str) -> bool:
    return ("Random" in op or op in ("Multinomial", "TruncatedNormal")) and "Dataset" not in op
