"""Optimisation with PyTorch's rules: SGD, learning-rate schedules, moving average of the weights.

    rate = schedule("piecewise", learning_rate=0.1, steps_per_epoch=390, epochs=110)
    model.compile(optimizer=SGD(rate, momentum=0.9, weight_decay=5e-4))

Published recipes of adversarial training are written for PyTorch. Keras' own SGD differs from its
rule twice: weight decay is applied to the weights apart from the momentum (decoupled), and the
momentum buffer holds learning rate times gradient, so that after a drop of the rate the steps stay
long for a while. `SGD` here follows PyTorch.
"""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf.lookup import Table

_register = keras.saving.register_keras_serializable(package="fairat_tf")


@_register
class SGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent as in `torch.optim.SGD` (dampening 0).

    For gradient g and weight w of every trainable variable, BatchNorm's and biases included:

        g   <- g + weight_decay * w
        buf <- momentum * buf + g            (first step: buf = g)
        w   <- w - learning_rate * buf       (nesterov: g + momentum * buf in place of buf)

    Gradients are clipped, where asked for, before the weight decay is added; `global_clipnorm` on one device
    is PyTorch's `clip_grad_norm_` before `step`. On several each replica clips its own share of the gradient.
    Variables of `exclude_from_weight_decay` do not decay.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        weight_decay: float | None = None,
        nesterov: bool = False,
        name: str = "sgd",
        **kwargs: Any,
    ):
        """Makes the optimizer.

        Args:
          learning_rate: float, or a `keras.optimizers.schedules.LearningRateSchedule`.
          momentum: in [0, 1); 0 keeps no buffer.
          weight_decay: coupled, at least 0; None is 0. All trainable variables decay.
          nesterov: looks ahead along the buffer; needs a momentum.
          name: of the optimizer.
          **kwargs: of `keras.optimizers.Optimizer`: `global_clipnorm`, `clipvalue`, ...

        Raises:
          ValueError: momentum or weight decay out of range, nesterov without momentum, or gradients that are
            accumulated: the draws of a training step go by `iterations`, which then stands still.
        """
        if kwargs.get("gradient_accumulation_steps"):
            raise ValueError("gradient_accumulation_steps is not supported: batches would share their draws.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), received {momentum}.")
        if weight_decay is not None and weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, received {weight_decay}.")
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, received momentum 0.")
        super().__init__(learning_rate=learning_rate, weight_decay=None, name=name, **kwargs)
        self.momentum = momentum
        self.coupled_weight_decay = weight_decay
        self.nesterov = nesterov

    def build(self, variables: Sequence[Any]) -> None:
        """Makes the momentum buffers, zero, one for each of `variables`, and `rate_factor`, 1.

        The learning rate is multiplied by the factor, which is part of the optimizer's state: a rate that was
        lowered after a divergence stays lower in a run that is resumed.
        """
        if self.built:
            return
        super().build(variables)
        self.buffers = self.add_optimizer_variables(variables, "momentum") if self.momentum else []
        self.rate_factor = self.add_variable((), initializer="ones", name="rate_factor")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Applies the rule to one variable; Keras calls this with the gradient summed over replicas."""
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        if self.coupled_weight_decay and self._use_weight_decay(variable):
            gradient += tf.cast(self.coupled_weight_decay, variable.dtype) * variable
        step = gradient
        if self.momentum:
            momentum = tf.cast(self.momentum, variable.dtype)
            buffer = self.buffers[self._get_variable_index(variable)]
            moved = momentum * tf.convert_to_tensor(buffer) + gradient
            self.assign(buffer, moved)
            step = gradient + momentum * moved if self.nesterov else moved
        rate = tf.cast(learning_rate, variable.dtype) * tf.cast(self.rate_factor, variable.dtype)
        self.assign_sub(variable, rate * step)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {
            "momentum": self.momentum,
            "weight_decay": self.coupled_weight_decay,
            "nesterov": self.nesterov,
        }
        return {**super().get_config(), **own}


@_register
class PiecewiseConstant(keras.optimizers.schedules.LearningRateSchedule):
    """The rate is `values[i]`, i the number of boundaries that the step has reached (step >= boundary)."""

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]):
        """Takes ascending steps, and one value more than steps.

        Raises:
          ValueError: the lengths do not fit or the boundaries do not ascend.
        """
        self.boundaries, self.values = list(boundaries), list(values)
        if len(self.values) != len(self.boundaries) + 1 or self.boundaries != sorted(self.boundaries):
            raise ValueError(
                "PiecewiseConstant needs ascending boundaries and one value more, "
                f"received boundaries {self.boundaries}, values {self.values}."
            )

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the float32 rate at `step` (integer, from 0)."""
        reached = tf.cast(step, tf.float32) >= tf.constant(self.boundaries, tf.float32)
        return tf.gather(tf.constant(self.values, tf.float32), tf.reduce_sum(tf.cast(reached, tf.int32)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"boundaries": self.boundaries, "values": self.values}


@_register
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """The rate rises linearly from 0 to the peak, and falls linearly to 0.

    At step s the rate is that of the time t = (s + 1) / total_steps: peak * t / up up to t = up,
    peak * (1 - t) / (1 - up) after it, 0 from the last step on.
    """

    def __init__(self, peak: float, total_steps: int, up: float = 0.4):
        """Takes the peak rate, the length of the run, and the share of it, in (0, 1), that rises.

        Raises:
          ValueError: `up` is not inside (0, 1).
        """
        if not 0 < up < 1:
            raise ValueError(f"The rising share of one_cycle must be inside (0, 1), received {up}.")
        self.peak, self.total_steps, self.up = peak, total_steps, up

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the float32 rate at `step` (integer, from 0)."""
        done = tf.cast(step, tf.float32) + 1.0
        rising = done / (self.up * self.total_steps)
        falling = (self.total_steps - done) / ((1 - self.up) * self.total_steps)
        return self.peak * tf.maximum(tf.minimum(rising, falling), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "total_steps": self.total_steps, "up": self.up}


def piecewise(learning_rate: float, steps: int, *fractions: float) -> PiecewiseConstant:
    """Returns the rate that falls to a tenth at each of `fractions` of the `steps`.

    Default: 100/110 and 105/110, the drops of Pang et al. 2021, "Bag of tricks for adversarial
    training" (110 epochs), scaled to the length of the run. Rice et al. 2020: 0.5, 0.75.
    """
    drops = fractions or (100 / 110, 105 / 110)
    if not all(0 < f < 1 for f in drops):
        raise ValueError(f"piecewise needs fractions of the run inside (0, 1), received {drops}.")
    values = [learning_rate * 0.1**i for i in range(len(drops) + 1)]
    return PiecewiseConstant([round(f * steps) for f in drops], values)


def cosine(learning_rate: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the rate learning_rate * (1 + cos(pi * step / steps)) / 2 (Loshchilov and Hutter 2017)."""
    return keras.optimizers.schedules.CosineDecay(float(learning_rate), steps)


def one_cycle(learning_rate: float, steps: int, up: float = 0.4) -> OneCycle:
    """Returns the triangle 0, learning_rate, 0 with its peak at the share `up` of the `steps`.

    Known in fast adversarial training as the cyclic schedule (Wong et al. 2020 rise for one half,
    up = 0.5); 0.4 is Rice et al. 2020. Their code rounds the peak down to a whole epoch.
    """
    return OneCycle(learning_rate, steps, up)


def constant(learning_rate: float, steps: int) -> PiecewiseConstant:
    """Returns the same rate for all `steps`."""
    del steps
    return PiecewiseConstant([], [learning_rate])


_SCHEDULES = Table(
    "schedule",
    {
        "piecewise": "fairat_tf.optimization:piecewise",
        "cosine": "fairat_tf.optimization:cosine",
        "one_cycle": "fairat_tf.optimization:one_cycle",
        "constant": "fairat_tf.optimization:constant",
    },
)


def schedule_names() -> list[str]:
    """Returns the kinds that `schedule` knows."""
    return _SCHEDULES.names()


def schedule(
    kind: str, *, learning_rate: float, steps_per_epoch: int, epochs: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning-rate schedule of a run, which Keras can serialise.

    Args:
      kind: a name of `schedule_names`, with its numbers after a colon where it takes any:
        "piecewise", "piecewise:0.5,0.75" (fractions of the run), "one_cycle:0.5" (rising share).
      learning_rate: the highest rate of the run.
      steps_per_epoch: optimizer steps in an epoch.
      epochs: length of the run. Rates are float32 and computed in the graph from the step, which
        float32 holds exactly up to 2**24.

    Raises:
      ValueError: unknown kind, numbers that the kind does not take, or a length below one step.
    """
    name, _, numbers = kind.partition(":")
    make, steps = _SCHEDULES.get(name), steps_per_epoch * epochs
    if steps < 1:
        raise ValueError(f"A schedule needs one step or more, received {steps_per_epoch} x {epochs} epochs.")
    allowed = len(inspect.signature(make).parameters) - 2
    if numbers and not allowed:
        raise ValueError(f"Schedule {kind!r} cannot be used: {name} takes no numbers.")
    try:
        return make(learning_rate, steps, *[float(n) for n in numbers.split(",") if n])
    except (TypeError, ValueError) as error:
        raise ValueError(f"Schedule {kind!r} cannot be used: {error}") from error


def ema_decay(decay: float, updates: Any) -> tf.Tensor:
    """Returns min(decay, (1 + updates) / (10 + updates)), float32.

    The warm-up that `tf.train.ExponentialMovingAverage` documents for `num_updates`: an average that
    starts at the initial weights forgets them soon instead of after 1 / (1 - decay) updates.

    Args:
      decay: in [0, 1), 0.999 for example.
      updates: number of updates, integer tensor or int; in training the steps taken, this one included.
    """
    t = tf.cast(updates, tf.float32)
    return tf.minimum(tf.constant(decay, tf.float32), (1.0 + t) / (10.0 + t))


def ema_update(target_variables: Sequence[Any], source_variables: Sequence[Any], decay: Any) -> None:
    """Moves each target towards its source: target <- decay * target + (1 - decay) * source.

    Give it all variables of two equal models, BatchNorm's moving statistics included, so that the
    averaged weights come with statistics that belong to them. Variables that are not floating point
    (counters, seeds) are copied. It may stand in a train step: eager, in a graph, under XLA, and in
    replica context, where each replica updates its own copy; the copies stay equal if the sources
    are, which for BatchNorm means `synchronized=True`.

    Args:
      target_variables: Keras or TensorFlow variables that hold the average.
      source_variables: the variables being trained, in the same order, shapes and dtypes.
      decay: in [0, 1], float or scalar tensor; see `ema_decay` for the warm-up.

    Raises:
      ValueError: the two lists differ in length.
    """
    if len(target_variables) != len(source_variables):
        raise ValueError(
            f"ema_update needs as many targets as sources, received {len(target_variables)} targets "
            f"and {len(source_variables)} sources."
        )
    for target, source in zip(target_variables, source_variables, strict=True):
        value = tf.convert_to_tensor(source)
        if value.dtype.is_floating:
            rate = tf.cast(decay, value.dtype)
            value = rate * tf.convert_to_tensor(target) + (1 - rate) * value
        target.assign(value)


def copy_of(network: keras.Model) -> keras.Model:
    """Returns another network with the same weights, not trainable."""
    copied = keras.models.clone_model(network)
    set_weights(copied, network.get_weights())
    copied.trainable = False
    return copied


def set_weights(network: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Gives the network weights, with all that its layers make of them.

    An adapted `Normalization` computes with constants that it makes of its weights; Keras' own `set_weights`
    leaves them as they were.
    """
    network.set_weights(weights)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Normalization) and layer.built:
            layer.finalize_state()


@contextlib.contextmanager
def trainable_like(network: keras.Model, other: keras.Model) -> Iterator[None]:
    """Inside, the layers of `network` are as trainable as those of `other`, of which it is a copy."""
    pairs = list(zip(network._flatten_layers(), other._flatten_layers(), strict=True))
    before = [layer.trainable for layer, _ in pairs]
    # a model passes its own on to its layers, so the innermost come last
    for layer, like in pairs:
        layer.trainable = like.trainable
    try:
        yield
    finally:
        for (layer, _), flag in zip(pairs, before, strict=True):
            layer.trainable = flag
