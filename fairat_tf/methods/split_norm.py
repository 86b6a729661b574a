"""Split BatchNorm: augmented views get statistics and affine parameters of their own, all else is shared.

    split = SplitNetwork(network)
    logits = split(images, views, present, training=True)      # views bool [M]: which rows are such
    logits = split.views(images, training=False)                # a batch of views alone

After AdvProp (Xie et al., "Adversarial Examples Improve Image Recognition", CVPR 2020: adversarial beside
natural examples) and DAJAT (Addepalli, Jain, Venkatesh Babu, "Efficient and Effective Augmentation Strategy
for Adversarial Training", NeurIPS 2022: strongly beside simply augmented ones). Strong augmentation moves the
statistics of a layer, and a network that is evaluated on plain images should not have learned with them.

Every BatchNormalization of the network is kept, with its variables, for the plain rows, and gets a twin for
the views; every other layer is the very same object. So the network itself stays what it is, plain Keras, and
is evaluated, saved and exported without a trace of the twins. Differences from these papers: rows of both
kinds pass together, in one batch of a fixed shape, whatever their number; a kind that is absent from a batch
moves nothing; with several replicas the statistics are those of the global batch, where the layer is
synchronised.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from fairat_tf.objectives.classwise import over_replicas
from fairat_tf.objectives.losses import at_least_float32


class _Rows(NamedTuple):
    """Which rows of the batch at hand are views, int32 [M] of 0 and 1, and which are there, float [M]."""

    views: tf.Tensor
    present: tf.Tensor


class _Current(threading.local):
    """The rows that this thread's pass is about: each replica runs in a thread of its own."""

    rows: _Rows | None = None

    @contextlib.contextmanager
    def set(self, rows: _Rows) -> Iterator[None]:
        self.rows, before = rows, self.rows
        try:
            yield
        finally:
            self.rows = before


_current = _Current()


class SplitNorm(keras.layers.Layer):
    """Normalises every row by one of two BatchNormalization layers, in a pass of `SplitNetwork`."""

    def __init__(self, main: Any, views: Any):
        super().__init__(name=f"{main.name}_split", dtype=main.dtype_policy)
        self.pair = [main, views]
        self.built = True

    def compute_output_shape(self, shape: Any) -> Any:
        """Returns the shape of the input."""
        return shape

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the rows [M, ..., C] normalised, in the layer's compute dtype."""
        if _current.rows is None:
            raise ValueError("a split network is called as SplitNetwork(images, views, present)")
        kind, x = _current.rows.views, at_least_float32(inputs)
        if training and self.pair[0].trainable:
            mean, variance = self._batch_statistics(x, *_current.rows)
        else:
            mean, variance = (self._both(name, x) for name in ("moving_mean", "moving_variance"))
        scale = self._both("gamma", x) * tf.math.rsqrt(variance + self.pair[0].epsilon)
        shift = self._both("beta", x) - mean * scale
        scale, shift = (_wide(tf.gather(values, kind), x) for values in (scale, shift))
        return tf.cast(x * scale + shift, self.compute_dtype)

    def _both(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Returns a variable of both layers, [2, C]; a layer without scale or centre has 1 or 0."""
        found = [getattr(norm, name, None) for norm in self.pair]
        if found[0] is None:
            return tf.fill([2, x.shape[-1]], tf.cast(name == "gamma", x.dtype))
        return tf.stack([tf.cast(tf.convert_to_tensor(variable), x.dtype) for variable in found])

    def _batch_statistics(
        self, x: tf.Tensor, kind: tf.Tensor, present: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns mean and variance of both kinds of rows, [2, C] each, and moves the moving ones."""
        member = tf.one_hot(kind, 2, dtype=x.dtype) * tf.cast(present, x.dtype)[:, None]
        places = list(range(1, len(x.shape) - 1))
        area = tf.cast(tf.size(x[0, ..., 0]), x.dtype)
        sums, count = self._shared([_by_kind(member, tf.reduce_sum(x, places)), tf.reduce_sum(member, 0)])
        count = area * count[:, None]
        mean = tf.math.divide_no_nan(sums, count)
        away = tf.square(x - _wide(tf.gather(mean, kind), x))
        squares = self._shared([_by_kind(member, tf.reduce_sum(away, places))])[0]
        variance = tf.math.divide_no_nan(squares, count)
        self._move(mean, variance, count)
        return mean, variance

    def _shared(self, sums: list[tf.Tensor]) -> list[tf.Tensor]:
        return over_replicas(sums) if self.pair[0].synchronized else sums

    def _move(self, mean: tf.Tensor, variance: tf.Tensor, count: tf.Tensor) -> None:
        """Moves the moving statistics of each kind of which there were rows."""
        for i, norm in enumerate(self.pair):
            keep = tf.where(count[i, 0] > 0, tf.cast(norm.momentum, mean.dtype), 1.0)
            for variable, now in ((norm.moving_mean, mean[i]), (norm.moving_variance, variance[i])):
                old = tf.cast(tf.convert_to_tensor(variable), mean.dtype)
                variable.assign(tf.cast(keep * old + (1.0 - keep) * now, variable.dtype))


def _by_kind(member: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns the sums of rows [M, C] over the members of each kind, [2, C]; a matmul may round more."""
    return tf.reduce_sum(member[:, :, None] * rows[:, None, :], 0)


def _wide(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Returns [M, C] as [M, 1, ..., 1, C], to stand beside `like`."""
    return tf.reshape(values, [tf.shape(like)[0], *[1] * (len(like.shape) - 2), like.shape[-1]])


class SplitNetwork:
    """A functional network with a second set of BatchNormalization layers for some of its rows.

    Attributes:
      network: a `keras.Model` with all variables: the shared ones and both sets.
      views: a `keras.Model` [M, H, W, C] -> [M, K] that normalises every row as a view.
      norms: the second set, in the order of the network's layers, starting as copies of the first.
      originals: the first set.

    Raises:
      ValueError: the network is not functional, or has no BatchNormalization that can be split.
    """

    def __init__(self, network: keras.Model):
        self.originals = [layer for layer in _layers(network) if _is_norm(layer)]
        _check(network, self.originals)
        self.norms = [_twin(norm) for norm in self.originals]
        twin = dict(zip(map(id, self.originals), self.norms, strict=True))
        pairs = {id(norm): SplitNorm(norm, twin[id(norm)]) for norm in self.originals}
        self.network = _with_layers(network, pairs)
        self.views = _with_layers(network, twin)

    def __call__(
        self, images: tf.Tensor, views: tf.Tensor, present: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Returns the logits [M, K].

        Args:
          images: [M, H, W, C].
          views: bool [M], which rows are views.
          present: float [M], 0 for a row that only fills the shape and counts in no statistics.
          training: whether the rows are normalised by their own statistics (and these are remembered).
        """
        with _current.set(_Rows(tf.cast(views, tf.int32), present)):
            return self.network(images, training=training)

    @property
    def own_variables(self) -> list[Any]:
        """The variables of the second set."""
        return [variable for norm in self.norms for variable in norm.variables]

    def follow(self) -> None:
        """Makes the second set equal to the first."""
        for norm, original in zip(self.norms, self.originals, strict=True):
            norm.set_weights(original.get_weights())


def _is_norm(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _layers(network: Any) -> list[Any]:
    """Returns the layers of a network and of the networks inside it."""
    found = []
    for layer in network.layers:
        found += _layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _check(network: Any, norms: list[Any]) -> None:
    if not norms:
        raise ValueError(
            f"split_bn needs a network with BatchNormalization layers; {network.name!r} has none"
        )
    nested = [layer.name for layer in network.layers if isinstance(layer, keras.Model)]
    if nested or isinstance(network, keras.Sequential) or not hasattr(network, "inputs"):
        raise ValueError(
            "split_bn needs a functional keras.Model without models inside it; received "
            f"{type(network).__name__} {network.name!r}"
            + (f" with {', '.join(nested)} inside" if nested else "")
        )
    for norm in norms:
        if norm.renorm or norm.axis not in (-1, norm.input_spec.ndim - 1):
            raise ValueError(
                f"split_bn takes layers over the last axis, without renorm; {norm.name!r} is another"
            )


def _twin(norm: Any) -> Any:
    """Returns another layer like `norm`, with its values."""
    twin = type(norm).from_config(norm.get_config() | {"name": f"{norm.name}_views"})
    twin.build((*[None] * (norm.input_spec.ndim - 1), norm.moving_mean.shape[0]))
    twin.set_weights(norm.get_weights())
    twin.trainable = norm.trainable
    return twin


def _with_layers(network: keras.Model, replaced: dict[int, Any]) -> keras.Model:
    """Returns the network with some layers replaced, by their id, and all others the same objects."""
    return keras.models.clone_model(
        network,
        clone_function=lambda layer: replaced.get(id(layer), layer),
        call_function=_call,
    )


def _call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls a layer as before, but for the mask (None) that BatchNormalization was given."""
    return layer(args[0]) if isinstance(layer, SplitNorm) else layer(*args, **kwargs)
