"""Devices, arithmetic and determinism of a run.

strategy = devices.strategy("all")
with strategy.scope(), devices.precision("bfloat16"):
    network = networks.get("small_cnn")(num_classes=10)
"""

import contextlib
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from fairat_tf.workers import Cluster

_MESSAGES = 1_000_000  # more than a strategy sends under different numbers


def available() -> list[str]:
    """Returns the names of the devices to train on: all GPUs, or where there is none all (logical) CPUs."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return [f"{kind}:{i}" for i in range(len(tf.config.list_logical_devices(kind)))]


def strategy(devices: str = "1") -> tf.distribute.Strategy:
    """Returns the strategy for "1", another number, or "all": one device, or MirroredStrategy over several.

    Where TF_CONFIG names several workers it is MultiWorkerMirroredStrategy over the devices of all of them.

    Raises:
      ValueError: not a number of devices that this machine has.
    """
    if Cluster.from_environment():
        return multi_worker(devices)
    names = available()
    count = len(names) if devices == "all" else int(devices) if devices.isdigit() else 0
    if not 1 <= count <= len(names):
        raise ValueError(
            f"devices must be 1 to {len(names)} on this machine, or all; received {devices!r} "
            "(--cpu_devices makes several of a CPU, to try things out)"
        )
    if count == 1:
        return tf.distribute.get_strategy()
    return mirrored(tuple(names[:count]))


@functools.cache
def mirrored(names: tuple[str, ...]) -> tf.distribute.Strategy:
    """Returns the process's MirroredStrategy over the devices."""
    return _apart(tf.distribute.MirroredStrategy)(list(names))


@functools.cache
def multi_worker(devices: str) -> tf.distribute.Strategy:
    """Returns the process's MultiWorkerMirroredStrategy, over `devices` GPUs of each worker or its CPU.

    Must be called before TensorFlow computes anything; the other workers must have been started.

    Raises:
      ValueError: not a number of devices that this worker has.
    """
    gpus = tf.config.list_physical_devices("GPU")
    count = max(len(gpus), 1) if devices == "all" else int(devices) if devices.isdigit() else 0
    if not 1 <= count <= max(len(gpus), 1):
        raise ValueError(
            f"devices must be 1 to {max(len(gpus), 1)} on this worker, or all; received {devices!r} "
            "(of a CPU each worker uses one device)"
        )
    if gpus:
        tf.config.set_visible_devices(gpus[:count], "GPU")
    return tf.distribute.MultiWorkerMirroredStrategy()


_made = itertools.count()


def _apart(kind: type) -> type:
    """Returns the kind of strategy with message numbers of its own.

    TensorFlow numbers the messages between replicas from the same start in every strategy, so that two
    strategies of one process take each other's messages; it has this attribute for its own tests.
    """
    return type(kind.__name__, (kind,), {"_collective_key_base": _MESSAGES * next(_made)})


def split_cpu(count: int) -> None:
    """Makes `count` logical devices of the CPU, as if they were several, before TensorFlow computes.

    They share the cores: nothing gets faster, but everything that happens between devices happens.

    Raises:
      ValueError: TensorFlow has computed already, with another number of them.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise ValueError(f"cpu_devices must be set before TensorFlow computes: {error}") from error


def make_deterministic() -> None:
    """Makes ops give equal bits for equal input on the same device; an op that cannot raises when it runs.

    That is all it promises: another kind of device or number of devices, another TensorFlow, XLA instead of
    the graph, or another number of threads add in another order and round differently.
    """
    tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Builds layers for "float32" or "bfloat16" (weights and logits stay float32)."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if name == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def emulates_bfloat16() -> bool:
    """Returns whether what is computed here in bfloat16 takes many times as long as in float32.

    That is so on an x86 processor with neither AVX-512 nor AVX-NE-CONVERT, where oneDNN leaves convolutions
    in bfloat16 to plain loops. False where there is a GPU, and where nothing is known.
    """
    features = _processor_features()
    return bool(features) and not features & _COMPUTE_BFLOAT16 and not tf.config.list_physical_devices("GPU")


_COMPUTE_BFLOAT16 = {"avx512f", "avx_ne_convert"}


def _processor_features() -> set[str]:
    """Returns what an x86 processor says of itself under Linux; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()[2:]) for line in lines if line.startswith("flags")), set())
