"""AWP, adversarial weight perturbation, for any training method (`--awp_gamma`).

    with perturbed(network, gradients, gamma=0.005):
        ...                                # the pass that is differentiated, at the perturbed weights

Wu, Xia, Wang, "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS 2020, equations 7 to
10, one step: v_l = gamma * ||w_l|| / ||g_l|| * g_l for every weight tensor l with more than one dimension,
g the gradient of the training loss on the same examples. The weights move to w + v before the gradient and
back after it. Defaults of the paper: gamma 0.01 for PGD-AT and 0.005 for TRADES, warm-up of 0 (PGD-AT on
CIFAR-10), 5 (SVHN) or 10 (TRADES) of 200 epochs.

Differences from the authors' code: no second network (they copy the weights into a proxy and take one SGD
step, whose rate the rescaling cancels); the weights return before the optimiser's step and not after it, so
that weight decay is that of w and not of w + v. As there, BatchNorm's moving statistics see the real
training pass alone.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from fairat_tf.objectives.classwise import over_replicas


def perturbation(weight: tf.Tensor, gradient: tf.Tensor, gamma: Any) -> tf.Tensor:
    """Returns gamma * ||w|| / (||g|| + 1e-20) * g (Frobenius norms), in the shape of the weight."""
    return tf.cast(gamma, weight.dtype) * tf.norm(weight) / (tf.norm(gradient) + 1e-20) * gradient


@contextlib.contextmanager
def perturbed(
    network: keras.Model, gradients: Callable[[], Sequence[tf.Tensor | None]], gamma: Any
) -> Iterator[None]:
    """Runs its body at the perturbed weights.

    Args:
      network: its trainable weights are moved, and restored bit for bit.
      gradients: returns the gradient of this replica's share of the loss by `network.trainable_variables`;
        it may run the network in training mode, the other variables are put back.
      gamma: size of the perturbation relative to the weights, scalar.
    """
    others = _values(network.non_trainable_variables)
    moved = [
        (variable, gradient)
        for variable, gradient in zip(network.trainable_variables, gradients(), strict=True)
        if len(variable.shape) > 1 and gradient is not None
    ]
    _assign(network.non_trainable_variables, others)
    weights = _values([variable for variable, _ in moved])
    directions = over_replicas([gradient for _, gradient in moved])
    for (variable, _), weight, direction in zip(moved, weights, directions, strict=True):
        variable.assign(weight + perturbation(weight, direction, gamma))
    yield
    _assign([variable for variable, _ in moved], weights)


def _values(variables: Sequence[Any]) -> list[tf.Tensor]:
    return [tf.identity(tf.convert_to_tensor(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
