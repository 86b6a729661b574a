"""Random numbers: stateless, named by purpose, and the same for any number of replicas.

    seed = rng.key(run_seed=0, purpose="train", step=iterations)
    noise = rng.uniform(rng.fold(seed, "attack"), images.shape, -1.0, 1.0)

The rules, which the whole package keeps:

* A seed is an int32 tensor `[2]` made by `key` from (run seed, purpose, step); `fold` derives
  further ones. There is no stateful random op in the package.
* The first axis of everything drawn is the example's place in the *global* batch. Inside a
  replica of N, the draw is made for the whole global batch and the replica takes its rows, so
  one device and N devices draw the same for the same example.
* `take` names the rows of a sub-batch: the examples keep what their places in the batch give.
* Floats are made from integer bits: stateless float draws differ between graph and XLA,
  integer draws do not.
"""

import zlib
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf


class Rows(NamedTuple):
    """A seed for chosen rows of a batch: `key` int32 [2], `rows` int32 [b], `batch` the global size."""

    key: tf.Tensor
    rows: tf.Tensor
    batch: Any


Seed: TypeAlias = tf.Tensor | Rows


def _purpose_code(purpose: str | int | tf.Tensor) -> int | tf.Tensor:
    if tf.is_tensor(purpose):
        return purpose
    code = purpose if isinstance(purpose, int) else zlib.crc32(purpose.encode())
    return code - (1 << 32) if code >= 1 << 31 else code


def _mix(key: Any, data: Any) -> tf.Tensor:
    key = tf.cast(key, tf.int32)
    entry = tf.stack([key[0], tf.bitwise.bitwise_xor(key[1], tf.cast(data, tf.int32))])
    return tf.random.stateless_uniform([2], entry, None, None, tf.int32, alg="philox")


def key(run_seed: int, purpose: str, step: Any = 0) -> tf.Tensor:
    """Returns the seed int32 [2] of (run seed, purpose, step); `step` may be a tensor."""
    start = tf.constant([run_seed & 0x7FFFFFFF, _purpose_code("fairat_tf")], tf.int32)
    return _mix(_mix(start, _purpose_code(purpose)), step)


def fold(seed: Seed, purpose: str | int | tf.Tensor) -> Seed:
    """Returns another seed for the same examples, for a further purpose (a number may be a tensor)."""
    if isinstance(seed, Rows):
        return seed._replace(key=_mix(seed.key, _purpose_code(purpose)))
    return _mix(seed, _purpose_code(purpose))


def _placed(seed: Seed, size: Any) -> tuple[tf.Tensor, tf.Tensor | None, Any]:
    """Returns (key, rows of the global batch or None for all, size of the global batch)."""
    if isinstance(seed, Rows):
        return seed
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed, None, size
    rows = context.replica_id_in_sync_group * size + tf.range(size)
    return seed, rows, context.num_replicas_in_sync * size


def take(seed: Seed, indices: tf.Tensor, size: Any) -> Rows:
    """Returns the seed for rows `indices` (int32 [b]) of a (replica's) batch of `size` examples."""
    placed, rows, batch = _placed(seed, size)
    return Rows(placed, indices if rows is None else tf.gather(rows, indices), batch)


def common(seed: Seed) -> Rows:
    """Returns the seed for what all examples share: draw with `shape[0] == 1`, equal on every replica."""
    shared = seed.key if isinstance(seed, Rows) else seed
    return Rows(shared, tf.zeros([1], tf.int32), 1)


def bits(seed: Seed, shape: Any) -> tf.Tensor:
    """Returns uniform int32 of `shape` (over all 2**32 values); `shape[0]` is the batch."""
    placed, rows, batch = _placed(seed, shape[0])
    whole = tf.concat([tf.reshape(batch, [1]), tf.cast(shape[1:], tf.int32)], 0)
    if all(isinstance(n, int) for n in (batch, *_as_list(shape[1:]))):
        whole = [batch, *_as_list(shape[1:])]
    drawn = tf.random.stateless_uniform(whole, placed, None, None, tf.int32, alg="philox")
    return drawn if rows is None else tf.gather(drawn, rows)


def _as_list(shape: Any) -> list[Any]:
    return list(shape) if isinstance(shape, (list, tuple, tf.TensorShape)) else [None]


def uniform(
    seed: Seed, shape: Any, low: float = 0.0, high: float = 1.0, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Returns floats of `shape`, uniform in [low, high), 24 bits each; `shape[0]` is the batch."""
    unsigned = tf.bitwise.right_shift(tf.bitcast(bits(seed, shape), tf.uint32), tf.constant(8, tf.uint32))
    unit = tf.cast(tf.bitcast(unsigned, tf.int32), dtype) * (2.0**-24)
    return unit * (high - low) + low


def normal(seed: Seed, shape: Any, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Returns standard normal floats of `shape`, by inversion of `uniform`; all are finite."""
    return _inverted(uniform(seed, shape, dtype=dtype))


def _inverted(unit: tf.Tensor) -> tf.Tensor:
    """Returns the normal quantiles of multiples of 2**-24 in [0, 1), half a step up.

    The half is lost to rounding near 1, where the last of them would become 1 and its quantile infinite.
    """
    return tf.math.ndtri(tf.minimum(unit + 2.0**-25, 1.0 - 2.0**-24))


def integers(seed: Seed, shape: Any, maximum: int) -> tf.Tensor:
    """Returns int32 of `shape`, uniform in [0, maximum), maximum at most 2**16."""
    unsigned = tf.bitwise.right_shift(tf.bitcast(bits(seed, shape), tf.uint32), tf.constant(16, tf.uint32))
    scaled = tf.bitcast(unsigned, tf.int32) * tf.constant(maximum, tf.int32)
    high = tf.bitwise.right_shift(tf.bitcast(scaled, tf.uint32), tf.constant(16, tf.uint32))
    return tf.bitcast(high, tf.int32)
