"""A program that `export.py` wrote, compiled for the first device here; JAX is used in this file alone.

program = Program(folder / "step.hlo")
outputs = program([pixels, labels, *weights])        # arrays of the device in, arrays of the device out
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_ENABLE_X64"] = "1"  # counters are 64 bits wide

import jax
import jax.extend
import numpy as np


class Program:
    """Arrays in the order of the program's parameters -> its outputs, on the device.

    Args:
      path: the program.
      compiled: a folder that keeps it compiled, for the next start on such a device; None keeps nothing.
    """

    def __init__(self, path: Path, compiled: Path | None = None):
        from jax._src import compiler
        from jaxlib import _jax

        self._backend = jax.extend.backend.get_backend()
        self._options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
        self._devices = _jax.DeviceList(tuple(self._backend.local_devices()[:1]))
        place = compiled / f"{path.stem}-{self._key(path)}.bin" if compiled else None
        self._program = self._known(place) if place and place.is_file() else None
        if self._program is None:
            print(f"run_step: compiling {path.name}", file=sys.stderr, flush=True)
            module = portable(_jax.mlir.hlo_to_stablehlo(path.read_bytes()))
            self._program = self._backend.compile_and_load(module, self._devices, self._options)
            if place:
                place.parent.mkdir(parents=True, exist_ok=True)
                temporary = place.with_suffix(".writing")
                temporary.write_bytes(self._backend.serialize_executable(self._program))
                os.replace(temporary, place)

    def _key(self, path: Path) -> str:
        """Returns what a compiled program is good for: this program, JAX, kind of device, XLA's flags."""
        device, flags = self._backend.local_devices()[0].device_kind, os.environ.get("XLA_FLAGS", "")
        about = f"{jax.__version__} {self._backend.platform_version} {device} {flags}"
        return hashlib.sha256(path.read_bytes() + about.encode()).hexdigest()[:16]

    def _known(self, place: Path) -> Any:
        """Returns the program that was kept; None if it cannot be used."""
        try:
            data = place.read_bytes()
            return self._backend.deserialize_executable(data, self._devices, self._options)
        except Exception as error:  # JAX has no one class for what may be wrong with it
            print(f"run_step: {place.name} cannot be used: {error}", file=sys.stderr)
            return None

    def __call__(self, arguments: Sequence[Any]) -> list[Any]:
        """Returns the outputs; NumPy arrays are put on the device first."""
        done = self._program.execute_sharded([on_device(argument) for argument in arguments])
        return [output[0] for output in done.disassemble_into_single_device_arrays()]


def portable(module: bytes) -> bytes:
    """Returns the StableHLO module without the copies that TensorFlow writes: a plug-in takes none."""
    from jax._src.interpreters import mlir

    with mlir.make_ir_context() as context:
        parsed = mlir.ir.Module.parse(module, context)
        copies: list[Any] = []

        def collect(operation: Any) -> Any:
            if operation.name == "mhlo.copy":
                copies.append(operation)
            return mlir.ir.WalkResult.ADVANCE

        parsed.operation.walk(collect)
        for operation in copies:
            operation.results[0].replace_all_uses_with(operation.operands[0])
            operation.erase()
        return mlir.module_to_bytecode(parsed)


def on_device(array: Any) -> Any:
    """Returns the array on the device; one that is there already as it is."""
    return array if isinstance(array, jax.Array) else jax.device_put(np.asarray(array))


def wait_for(arrays: Sequence[Any]) -> None:
    """Returns when the device has made these arrays."""
    jax.block_until_ready(list(arrays))
