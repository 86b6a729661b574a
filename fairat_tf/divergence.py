"""Training that went out of the numbers: how it is noticed, and what is told of it.

if divergence.happened(method):
    raise errors.Diverged(divergence.facts(method, epoch=3, step=12))
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf.methods.base import Method

RATE_FACTOR = 0.1
"""What the learning rate is multiplied by, once, after going back to the last good checkpoint."""


def weights_are_finite(method: Method) -> tf.Tensor:
    """Returns whether all weights, statistics and averages of them are finite, bool scalar."""
    with_average = [*method.training_network.variables, *getattr(method.ema_network, "variables", ())]
    values = [tf.convert_to_tensor(variable) for variable in with_average]
    return tf.reduce_all(
        [tf.reduce_all(tf.math.is_finite(value)) for value in values if value.dtype.is_floating]
    )


def happened(method: Method, sound: Callable[[], tf.Tensor] | None = None) -> bool:
    """Returns whether the loss of the epoch so far, or any weight or average of weights, is not finite.

    Args:
      method: what is trained.
      sound: `weights_are_finite` of the method as a graph, for a loop that asks often.
    """
    finite = weights_are_finite(method) if sound is None else sound()
    return not (bool(finite) and np.isfinite(_value(method.train_loss.total)).all())


def facts(method: Method, epoch: int, step: int) -> str:
    """Returns what is known at `step` batches of `epoch` (from 0), one line, to find the cause by."""
    optimizer = method.optimizer
    rate = float(_value(optimizer.learning_rate)) * factor_of(optimizer)
    loss = float(_value(method.train_loss.result()))
    what = f"the training loss became {loss}" if not np.isfinite(loss) else f"the loss is {loss:.4g}"
    parts = [
        f"training diverged in epoch {epoch + 1} by step {step} of it (step "
        f"{int(_value(optimizer.iterations))} of the run): {what}, learning rate {rate:g}",
        f"not finite: {_share(method.network.trainable_variables)} of the weights, "
        f"{_share(method.network.non_trainable_variables)} of the BatchNorm statistics, "
        f"{_share(getattr(optimizer, 'buffers', []))} of the gradients' momentum",
        _worst(method.train_loss.per_class()),
    ]
    return "; ".join(parts)


def factor_of(optimizer: Any) -> float:
    """Returns what the optimiser multiplies its learning rate by; 1 for optimisers without a factor."""
    factor = getattr(optimizer, "rate_factor", None)
    return 1.0 if factor is None else float(_value(factor))


def _value(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def _share(variables: Any) -> str:
    values = [_value(variable) for variable in variables]
    floats = [value for value in values if np.issubdtype(value.dtype, np.floating)]
    count = sum(value.size for value in floats)
    bad = sum(int((~np.isfinite(value)).sum()) for value in floats)
    return f"{100 * bad / max(count, 1):.3g} %"


def _worst(by_class: np.ndarray) -> str:
    """Returns the classes whose loss is not finite, or the one with the highest; NaN is also: no examples."""
    infinite = np.flatnonzero(np.isinf(by_class))
    if len(infinite):
        return f"infinite loss in class {', '.join(map(str, infinite[:10]))}"
    if np.isnan(by_class).all():
        return "no class has a finite loss"
    worst = int(np.nanargmax(by_class))
    return f"highest finite loss {by_class[worst]:.4g} in class {worst}"
