"""Functions of a run as XLA programs: what its training step and its validation step are written as.

state = State(parts.method)
facts = write(folder / "step.hlo", state, *training(parts))

The parameters of a program are the arguments of a batch, then what the function captures; `facts` say which
place in the state each of these has, and which outputs are new values of them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairat_tf import errors


class State:
    """Names for all that programs capture: variables of a method by their place, and constants."""

    def __init__(self, method: Any):
        self.variables = [_variable(variable) for variable in method.state]
        self._place_of = {v.handle._id: f"{i:04d}" for i, v in enumerate(self.variables)}
        self._constants: dict[str, np.ndarray] = {}

    def name_of(self, tensor: Any) -> str:
        """Returns the name of what a program captures: a variable's place in the state, or a constant."""
        if tensor.dtype != "resource":
            name = f"constant-{len(self._constants):03d}"
            self._constants[name] = np.asarray(tensor)
            return name
        if tensor._id not in self._place_of:
            raise errors.UsageError(f"the step uses {tensor}, which is not part of the method's state")
        return self._place_of[tensor._id]

    def places(self, variables: Sequence[Any]) -> list[str]:
        """Returns the places of variables in the state."""
        return [self._place_of[_variable(variable).handle._id] for variable in variables]

    def sums(self, metrics: Sequence[Any]) -> list[str]:
        """Returns the places of what the metrics sum up."""
        return self.places([variable for metric in metrics for variable in metric.variables])

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all that the programs capture, and the rest of the state: name -> values."""
        return {f"{i:04d}": v.numpy() for i, v in enumerate(self.variables)} | self._constants


def _variable(variable: Any) -> Any:
    """Returns TensorFlow's variable of a Keras variable."""
    return getattr(variable, "value", variable)


def training(parts: Any) -> tuple[Any, list[Any]]:
    """Returns the training step of a run for XLA, and its arguments: pixels, labels, rows and number."""
    import tensorflow as tf

    from fairat_tf.data import pipeline

    size = parts.config.data.batch_size

    @tf.function(jit_compile=True, autograph=False)
    def step(pixels: Any, labels: Any, rows: Any, number: Any) -> Any:
        batch = {"image": tf.cast(pixels, tf.float32) / 255.0, "label": labels, "index": rows}
        seed = parts.config.run.seed
        return parts.method.train_step(
            pipeline.varied(batch, number, seed=seed, augment=parts.weak, mix=parts.mix)
        )

    rows = tf.TensorSpec([size], tf.int32, "rows")
    return step, [*_images_and_labels(parts), rows, tf.TensorSpec([], tf.int32, "number")]


def validation(parts: Any) -> tuple[Any, list[Any]]:
    """Returns the validation step of a run for XLA, and its arguments: pixels, labels, mask and number."""
    import tensorflow as tf

    size = parts.config.data.batch_size

    @tf.function(jit_compile=True, autograph=False)
    def step(pixels: Any, labels: Any, mask: Any, number: Any) -> Any:
        images = tf.cast(pixels, tf.float32) / 255.0
        return parts.method.test_step(
            {"image": images, "label": labels, "mask": mask, "number": tf.fill([size], number)}
        )

    mask = tf.TensorSpec([size], tf.float32, "mask")
    return step, [*_images_and_labels(parts), mask, tf.TensorSpec([], tf.int32, "number")]


def _images_and_labels(parts: Any) -> list[Any]:
    import tensorflow as tf

    size, shape = parts.config.data.batch_size, parts.train.images.shape[1:]
    pixels = tf.TensorSpec([size, *shape], tf.uint8, "pixels")
    return [pixels, tf.TensorSpec([size], tf.int32, "labels")]


def write(path: Path, state: State, function: Any, arguments: Sequence[Any]) -> dict[str, Any]:
    """Writes the program of a function for XLA; returns what `program.json` says of it."""
    import tensorflow as tf

    zeros = [tf.zeros(spec.shape, spec.dtype) for spec in arguments]
    concrete = function.get_concrete_function(*zeros)
    program = function.experimental_get_compiler_ir(*zeros)
    path.write_bytes(program(stage="hlo_serialized"))
    header = program(stage="hlo").split("entry_computation_layout")[0]
    pairs = re.findall(r"\{(\d+)\}: \((\d+), \{\}", header)
    return {
        "arguments": [[s.name, s.shape.as_list(), s.dtype.name] for s in arguments],
        "results": sorted(concrete.structured_outputs),
        "alias": [[int(output), int(parameter)] for output, parameter in pairs],
        "captured": [state.name_of(tensor) for tensor in concrete.captured_inputs],
    }
