"""SavedModels are programs: what is in one, which endpoint takes images, and how to call it.

dangerous("export")                              # ["ReadFile"]; [] for an ordinary model
name, function = endpoint(tf.saved_model.load("export"), "", "export")
call, shape = caller(function, name)             # call(images) -> first output
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from fairat_tf import errors
from fairat_tf.evaluation import graph_scan

_PREFERRED = ("serve", "serving_default")
_SAVER = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"}
_SAVER_FUNCTIONS = ("__inference__traced_save", "__inference__traced_restore")


def dangerous(path: str | Path) -> list[str]:
    """Returns the operations in `saved_model.pb` that touch files or run Python, before anything is loaded.

    The functions by which TensorFlow saves and restores variables hold four of them and are let pass, as long
    as nothing else in the model calls them.

    Raises:
      UsageError: the file is not a SavedModel.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    program = saved_model_pb2.SavedModel()
    try:
        program.ParseFromString((Path(path) / "saved_model.pb").read_bytes())
    except Exception as error:
        raise errors.UsageError(f"{path}: saved_model.pb cannot be read: {error}") from error
    found: set[str] = set()
    for meta in program.meta_graphs:
        found |= {node.op for node in meta.graph_def.node}
        called = _called(meta)
        for function in meta.graph_def.library.function:
            own, name = {node.op for node in function.node_def}, function.signature.name
            saves = name.startswith(_SAVER_FUNCTIONS) and name not in called
            found |= own - _SAVER if saves else own
    return graph_scan.dangerous_operations(found)


def _called(meta: Any) -> set[str]:
    """Returns the functions that belong to objects of the model, or that another function calls."""
    nodes = [node for function in meta.graph_def.library.function for node in function.node_def]
    attributes = [value for node in nodes for value in node.attr.values()]
    names = {value.func.name for value in attributes} | {f.name for v in attributes for f in v.list.func}
    return names | set(meta.object_graph_def.concrete_functions)


def dangerous_in(function: Any) -> list[str]:
    """Returns the operations of an endpoint, and of what it calls, that touch files or run Python."""
    return graph_scan.dangerous_operations(graph_scan.operations(_concrete(function)))


def endpoint(loaded: Any, wanted: str, path: str | Path) -> tuple[str, Any]:
    """Returns (name, function) of the endpoint `wanted`, or of the one that serves float32 images.

    Raises:
      UsageError: there is none; the message lists those that exist.
    """
    candidates = {name: getattr(loaded, name) for name in _PREFERRED[:1] if hasattr(loaded, name)}
    candidates |= dict(loaded.signatures)
    if wanted and hasattr(loaded, wanted):
        candidates[wanted] = getattr(loaded, wanted)
    names = [wanted] if wanted else sorted(candidates, key=lambda name: name not in _PREFERRED)
    for name in names:
        if name in candidates and _image_input(candidates[name]) is not None:
            return name, candidates[name]
    described = ", ".join(f"{n} ({_inputs(f)})" for n, f in candidates.items()) or "none"
    asked = f"endpoint {wanted!r}" if wanted else "an endpoint"
    raise errors.UsageError(
        f"{path}: expected {asked} with one float32 input [batch, height, width, channels], "
        f"found: {described}"
    )


def caller(function: Any, name: str) -> tuple[Callable[[tf.Tensor], tf.Tensor], tuple[int | None, ...]]:
    """Returns (images -> first output of the endpoint, (H, W, C) with None where any size goes)."""
    spec = _specs(function)[0]
    keyword = spec.name if isinstance(function, tf.types.experimental.ConcreteFunction) else None

    def call(images: tf.Tensor) -> tf.Tensor:
        outputs = function(**{keyword: images}) if keyword else function(images)
        flat = tf.nest.flatten(outputs)
        if len(flat) != 1:
            raise errors.UsageError(f"endpoint {name}: expected one output (logits), got {len(flat)}")
        return flat[0]

    return call, tuple(spec.shape[1:])


def _concrete(function: Any) -> list[Any]:
    if hasattr(function, "graph"):
        return [function]
    return list(getattr(function, "concrete_functions", []))


def _specs(function: Any) -> list[Any]:
    concrete = _concrete(function)
    if not concrete:
        return []
    arguments, keywords = concrete[0].structured_input_signature
    flat = tf.nest.flatten((arguments, keywords))
    return [spec for spec in flat if isinstance(spec, tf.TensorSpec)]


def _image_input(function: Any) -> Any | None:
    specs = _specs(function)
    fits = len(specs) == 1 and specs[0].dtype == tf.float32 and specs[0].shape.rank == 4
    return specs[0] if fits else None


def _inputs(function: Any) -> str:
    return " ".join(f"{spec.dtype.name}{spec.shape.as_list()}" for spec in _specs(function)) or "no tensors"
