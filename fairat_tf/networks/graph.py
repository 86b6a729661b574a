"""The graph of layers of a Keras model, for passes that run some of its layers in another way.

    graph = Graph.of(network)                   # None where the model is no graph of layers
    graph.run(images, {layer: function}, training=False)

`Graph.run` is `network(images, training=...)` except that a layer with a function of its own is not called:
the function is, with the layer's input.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

Replacements = Mapping[Any, Callable[[tf.Tensor], tf.Tensor]]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A model of one input, floating-point images, and one output, made of layers.

    Attributes:
      model: the functional Keras model.
      users: layer -> the layers that take its output, for every layer that stands in one place of the graph.
    """

    model: Any
    users: dict[Any, list[Any]]

    @classmethod
    def of(cls, network: keras.Model) -> "Graph | None":
        """Returns the graph of a functional or sequential model, None for any other."""
        if isinstance(network, keras.Sequential) and network.built:
            network = keras.Model(network.inputs, network.outputs)
        functional = type(network).__name__ == "Functional" and hasattr(network, "_run_through_graph")
        if not functional or len(network.inputs) != 1 or len(network.outputs) != 1:
            return None
        images = network.inputs[0]
        if len(images.shape) != 4 or not keras.backend.is_float_dtype(images.dtype):
            return None  # Keras would change their rank or type first
        return cls(network, _users(network))

    def only_user(self, layer: Any) -> Any:
        """Returns the one layer that takes the output of `layer`; None where something else does as well."""
        users = self.users.get(layer, [])
        return users[0] if len(users) == 1 else None

    def run(self, images: tf.Tensor, replaced: Replacements, training: bool) -> tf.Tensor:
        """Returns the model's output, with `replaced[layer](input)` in place of those layers."""

        def operation(layer: Any) -> Callable[..., tf.Tensor]:
            function = replaced.get(layer)
            if function is not None:
                return lambda x, **_: function(x)
            if "training" in getattr(layer, "_call_context_args", ()):
                return lambda *args, **kwargs: layer(*args, **{**kwargs, "training": training})
            return layer

        outputs = self.model._run_through_graph([images], operation_fn=operation)
        return outputs[0] if isinstance(outputs, list | tuple) else outputs


def _users(model: Any) -> dict[Any, list[Any]]:
    """Returns layer -> what takes its output (the model itself for the last); no layer that is used twice."""
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]
    counts = collections.Counter(node.operation for node in nodes)
    found: dict[Any, list[Any]] = {node.operation: [] for node in nodes if counts[node.operation] == 1}
    for user, tensors in [(node.operation, node.input_tensors) for node in nodes] + [(model, model.outputs)]:
        for tensor in tensors:
            found.get(tensor._keras_history.operation, []).append(user)
    return found
