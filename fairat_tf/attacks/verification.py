"""What an attack claims, checked: inside the ball, inside [0, 1], finite, and really misclassified.

    checked = verify(logits_fn, images, adversarial, labels, epsilon=8 / 255, norm="linf")
    accuracy = 1 - checked.fooled.mean()

The check never looks at what the attack computed on its way: it projects the returned image again and
classifies it, in float32, in batches of one fixed size, so that the verdict on an example depends on
neither the batch size of the attack nor its neighbours.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import errors
from fairat_tf.attacks import threat
from fairat_tf.attacks.pgd import LogitsFn, answers

BATCH = 64
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Verified:
    """The verdict on N images.

    Attributes:
      adversarial: float32 [N, H, W, C], projected into the ball and [0, 1]; the natural image where the
        attack's was not finite.
      fooled: bool [N], whether that image is misclassified (or answered with NaN or infinity).
      answers: int32 [N], the class that image is given; -1 where the logits are not finite.
      finite: bool [N], whether the attack's image was finite.
      distance: float32 [N], the size of the change in the attack's norm.
    """

    adversarial: np.ndarray
    fooled: np.ndarray
    answers: np.ndarray
    finite: np.ndarray
    distance: np.ndarray


class Verifier:
    """Verifies images against one network; holds its graph, so make one for many batches.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K], in float32.
      norm: "linf" or "l2".
    """

    def __init__(self, logits_fn: LogitsFn, norm: str):
        ball_of = threat.get(norm)

        def judge(images: tf.Tensor, adversarial: tf.Tensor, labels: tf.Tensor, epsilon: tf.Tensor) -> tuple:
            axes = list(range(1, images.shape.rank))
            finite = tf.reduce_all(tf.math.is_finite(adversarial), axes)
            ball = ball_of(images, epsilon)
            points = ball.project(tf.where(threat.wide(finite, images), adversarial, images))
            given = answers(logits_fn(points))
            return points, given != labels, given, finite, ball.distance(points)

        self._judge: Callable = tf.function(judge, autograph=False)
        self._logits: Callable = tf.function(lambda images: logits_fn(images), autograph=False)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits [N, K] of images [N, H, W, C]."""
        images = np.asarray(images, np.float32)
        return np.concatenate([self._logits(part).numpy()[:size] for size, part in _padded(images)])

    def __call__(
        self, images: np.ndarray, adversarial: np.ndarray, labels: np.ndarray, epsilon: Any
    ) -> Verified:
        """Returns the verdict on N images; `epsilon` is a float or [N].

        Raises:
          RuntimeError: a projected image is outside the ball or [0, 1], so the projection is at fault.
        """
        epsilon = np.broadcast_to(np.asarray(epsilon, np.float32), labels.shape)
        given = (
            np.asarray(images, np.float32),
            np.asarray(adversarial, np.float32),
            np.asarray(labels, np.int32),
        )
        parts = [
            [np.asarray(values)[:size] for values in self._judge(*batch)]
            for size, batch in _padded(*given, epsilon)
        ]
        checked = Verified(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        _require_inside(checked, epsilon)
        return checked


def verify(
    logits_fn: LogitsFn,
    images: np.ndarray,
    adversarial: np.ndarray,
    labels: np.ndarray,
    epsilon: Any,
    norm: str = "linf",
) -> Verified:
    """Returns the verdict on what an attack returned.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K], in float32.
      images: natural examples [N, H, W, C] in [0, 1].
      adversarial: what the attack made of them, [N, H, W, C].
      labels: int [N].
      epsilon: radius of the threat model, a float or [N].
      norm: "linf" or "l2".
    """
    return Verifier(logits_fn, norm)(images, adversarial, labels, epsilon)


def _padded(*arrays: np.ndarray) -> Iterator[Any]:
    """Yields (size, batch) with every batch filled up to `BATCH` rows by repeating its first."""
    for first in range(0, len(arrays[0]), BATCH):
        size = min(BATCH, len(arrays[0]) - first)
        rows = np.concatenate([np.arange(first, first + size), np.full(BATCH - size, first)])
        batch = tuple(tf.constant(values[rows]) for values in arrays)
        yield size, batch if len(arrays) > 1 else batch[0]


def _require_inside(checked: Verified, epsilon: np.ndarray) -> None:
    outside = checked.distance > epsilon * (1 + _ROUNDING) + _ROUNDING
    out_of_range = checked.adversarial.size and (
        checked.adversarial.min() < 0 or checked.adversarial.max() > 1
    )
    if outside.any() or out_of_range:
        raise RuntimeError(
            f"{outside.sum()} projected images are farther than epsilon (by up to "
            f"{np.max(checked.distance - epsilon):.3g}) or outside [0, 1]; the images given must be in [0, 1]"
        )


def require_precision(logits_fn: LogitsFn, image_shape: tuple[int, ...], allowed: tuple[str, ...]) -> int:
    """Returns the number of classes of a network that computes in no other than the allowed float types.

    float16 gradients underflow and bfloat16 ones are coarse: an attack that fails for that reason looks
    like robustness.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      image_shape: (H, W, C).
      allowed: names of the low-precision types that may occur: () or ("bfloat16",).

    Raises:
      ValueError: a float16 (or bfloat16) tensor occurs in the network's graph, or the output is not [B, K].
    """
    spec = tf.TensorSpec([None, *image_shape], tf.float32)
    graph = tf.function(lambda images: logits_fn(images), autograph=False).get_concrete_function(spec)
    shape = graph.structured_outputs.shape
    if shape.rank != 2 or shape[-1] is None or shape[-1] < 2:
        raise ValueError(
            f"logits_fn must return logits [B, K] with K at least 2 known; received shape {shape}"
        )
    found = _types(graph.graph.as_graph_def()) - {"bfloat16" if "bfloat16" in allowed else ""}
    if found:
        raise errors.UsageError(
            f"the network computes in {', '.join(sorted(found))}; success must be judged in float32. Load it "
            "with float32 layers (dtype policy 'float32'), or pass a float32 logits_fn and this one as "
            "search_fn (bfloat16 only)."
        )
    return int(shape[-1])


def _types(definition: Any) -> set[str]:
    low = {tf.float16.as_datatype_enum: "float16", tf.bfloat16.as_datatype_enum: "bfloat16"}
    nodes = [*definition.node, *(node for body in definition.library.function for node in body.node_def)]
    return {low[value.type] for node in nodes for value in node.attr.values() if value.type in low}
