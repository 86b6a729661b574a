"""Square: random search with square windows; needs no gradient.

    attack = Square(epsilon=8 / 255, queries=5000)
    adversarial = attack(logits_fn, images, labels, seed)

Source: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random
search", ECCV 2020, algorithms 1 to 3, in the form of the authors' AutoAttack: one window (and, for Linf, one
sign for each channel) is drawn for all examples, the side follows the query's own number, and the last
offset of a window is never drawn.
"""

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import square_windows, threat
from fairat_tf.attacks.pgd import LogitsFn, answers
from fairat_tf.attacks.search import Search
from fairat_tf.objectives.losses import margin

# The fraction of the image that a window covers is halved after these queries (section 3.2 of the paper).
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_SCHEDULE_LENGTH = 10_000


def side_lengths(queries: int, height: int, width: int, share: float, rescale: bool, norm: str) -> np.ndarray:
    """Returns the side of the window of each query in pixels, int32 [queries].

    Args:
      queries: number of queries.
      height: image height in pixels.
      width: image width in pixels.
      share: fraction of the image that the first windows cover (p in the paper).
      rescale: stretch the schedule, which is made for 10,000 queries, over this number of queries.
      norm: for "l2" sides are odd and at least 3, as the pattern of a window needs.
    """
    place = np.arange(queries)
    if rescale:
        place = (place / queries * _SCHEDULE_LENGTH).astype(int)
    halvings = np.searchsorted(_HALVED_AFTER, place, side="left")
    sides = np.round(np.sqrt(share / 2.0**halvings * height * width)).astype(np.int32)
    sides = np.maximum(sides, 1)
    if norm == "l2":
        sides = np.maximum(sides, 3)
        sides += sides % 2 == 0
    return np.minimum(sides, min(height, width))


class Draws(Protocol):
    """Where the random numbers come from."""

    def shared(self, query: Any, count: int) -> tf.Tensor:
        """Returns numbers uniform in [0, 1) that all examples share, [count]; query -1 is the start."""

    def signs(self, query: Any, shape: Any) -> tf.Tensor:
        """Returns -1 or 1 for each example, of `shape` [B, ...]; query -1 is the start."""


@dataclasses.dataclass(frozen=True)
class SeededDraws:
    """The draws of one run, from its seed; those of a query depend on the query's number alone."""

    seed: rng.Seed
    dtype: tf.DType = tf.float32

    def shared(self, query: Any, count: int) -> tf.Tensor:
        """Returns numbers uniform in [0, 1) that all examples share, [count]."""
        seed = rng.common(rng.fold(rng.fold(self.seed, "shared"), tf.convert_to_tensor(query)))
        return rng.uniform(seed, [1, count], dtype=self.dtype)[0]

    def signs(self, query: Any, shape: Any) -> tf.Tensor:
        """Returns -1 or 1 for each example, of `shape` [B, ...]."""
        seed = rng.fold(rng.fold(self.seed, "signs"), tf.convert_to_tensor(query))
        return sign_of(rng.uniform(seed, shape, dtype=self.dtype))


def sign_of(uniform: tf.Tensor) -> tf.Tensor:
    """Returns -1 for numbers below a half and 1 for the others."""
    return tf.where(uniform < 0.5, -tf.ones_like(uniform), tf.ones_like(uniform))


@dataclasses.dataclass(frozen=True)
class Square(Search):
    """Random search on the margin z_y - max z_j, until it is not positive.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      norm: "linf" or "l2".
      queries: proposals for each example and restart, after the starting point.
      restarts: independent runs.
      share: fraction of the image that the first windows cover.
      rescale: stretch the schedule of window sizes over `queries`; AutoAttack does not.
      segment: queries in one round; between rounds an evaluation drops the examples that have fallen.
    """

    epsilon: float = 8 / 255
    norm: str = "linf"
    queries: int = 5000
    restarts: int = 1
    share: float = 0.8
    rescale: bool = False
    segment: int = 250
    continues = True

    def __post_init__(self) -> None:
        threat.get(self.norm)
        for name in ("queries", "restarts", "segment"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; received {getattr(self, name)!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1; received {self.share!r}")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must be at least 0; received {self.epsilon!r}")

    @property
    def segments(self) -> int:
        """Rounds of one restart."""
        return math.ceil(self.queries / self.segment)

    def rounds(self, num_classes: int) -> int:
        """Returns the number of segments of all restarts."""
        return self.restarts * self.segments

    def passes(self, num_classes: int) -> float:
        """Returns the queries of a segment; examples that fall in it stop earlier."""
        return float(min(self.segment, self.queries))

    def round(
        self,
        logits_fn: LogitsFn,
        ball: threat.Ball,
        labels: tf.Tensor,
        seed: rng.Seed,
        number: tf.Tensor,
        points: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the best points after a further segment of queries; see `Search.round`."""
        seed = rng.fold(rng.fold(seed, "restart"), number // self.segments)
        draws = SeededDraws(seed, ball.images.dtype)
        part = number % self.segments
        points = tf.where(tf.equal(part, 0), self.start(ball, draws), points)
        first = part * self.segment
        return self.search(logits_fn, ball, labels, draws, points, first, first + self.segment)

    def start(self, ball: threat.Ball, draws: Draws) -> tf.Tensor:
        """Returns vertical stripes at the ball's boundary (Linf), or a grid of patterns (L2)."""
        return _MOVES[self.norm](ball, self).start(draws)

    def search(
        self,
        logits_fn: LogitsFn,
        ball: threat.Ball,
        labels: tf.Tensor,
        draws: Draws,
        points: tf.Tensor,
        first: Any,
        last: Any,
    ) -> tf.Tensor:
        """Returns the best points after queries `first` (included) to `last` (excluded) from `points`.

        A proposal is taken where it lowers the margin or is misclassified; the search ends when no margin is
        positive. In the authors' code too a margin of exactly 0 counts as success.
        """
        moves = _MOVES[self.norm](ball, self)
        last = tf.minimum(last, self.queries)

        def standing(where: tf.Tensor) -> tf.Tensor:
            """Returns z_y - max z_j, [B]; minus infinity where NaN or infinity is no answer."""
            logits = logits_fn(where)
            value = -margin(logits, labels)
            return tf.where(answers(logits) < 0, tf.fill(tf.shape(value), value.dtype.min), value)

        def query(number: tf.Tensor, best: tf.Tensor, least: tf.Tensor) -> tuple:
            proposal = moves.propose(best, number, draws)
            value = standing(proposal)
            take = (least > 0) & ((value < least) | (value <= 0))
            return number + 1, tf.where(threat.wide(take, best), proposal, best), tf.where(take, value, least)

        state = (tf.convert_to_tensor(first), points, standing(points))
        return tf.while_loop(
            lambda number, _, least: (number < last) & tf.reduce_any(least > 0),
            query,
            state,
            parallel_iterations=1,
        )[1]


class _LinfMoves:
    """Every pixel value of the change is epsilon or -epsilon, but for clipping (algorithm 2)."""

    def __init__(self, ball: threat.Ball, attack: Square):
        self.ball = ball
        self.height, self.width, self.channels = ball.images.shape[1:]
        schedule = (attack.queries, self.height, self.width, attack.share, attack.rescale, attack.norm)
        self.sides = tf.constant(side_lengths(*schedule))

    def start(self, draws: Draws) -> tf.Tensor:
        shape = [_batch(self.ball.images), 1, self.width, self.channels]
        return self.ball.project(self.ball.images + self.ball.epsilon * draws.signs(-1, shape))

    def propose(self, best: tf.Tensor, number: tf.Tensor, draws: Draws) -> tf.Tensor:
        side = tf.gather(self.sides, number)
        uniform = draws.shared(number, 2 + self.channels)
        window = square_windows.window(uniform[:2], side, self.height, self.width)
        change = 2.0 * self.ball.epsilon * sign_of(uniform[2:])
        return self.ball.project(best + tf.where(window[None, :, :, None], change, tf.zeros_like(change)))


class _L2Moves:
    """Moves the change of one window into another, in a pattern around two centres (algorithm 3)."""

    def __init__(self, ball: threat.Ball, attack: Square):
        self.ball = ball
        self.height, self.width, self.channels = ball.images.shape[1:]
        schedule = (attack.queries, self.height, self.width, attack.share, attack.rescale, attack.norm)
        sides = side_lengths(*schedule)
        self.sides = tf.constant(sides)
        known = np.unique(sides)
        self.place = tf.constant(np.searchsorted(known, sides).astype(np.int32))
        self.patterns = tf.constant(
            np.stack([square_windows.padded_pattern(side, self.height, self.width) for side in known]),
            ball.images.dtype,
        )

    def start(self, draws: Draws) -> tf.Tensor:
        tiles, upright, lying = square_windows.grid(self.height, self.width)
        count = int(tiles.max()) + 1
        dtype = self.ball.images.dtype
        turned = tf.gather(draws.shared(-1, count) > 0.5, np.maximum(tiles, 0))
        pattern = tf.where(turned, tf.constant(lying, dtype), tf.constant(upright, dtype))
        signs = draws.signs(-1, [_batch(self.ball.images), count, self.channels])
        change = pattern[None, :, :, None] * tf.gather(signs, np.maximum(tiles, 0), axis=1)
        return self._clipped(change)

    def propose(self, best: tf.Tensor, number: tf.Tensor, draws: Draws) -> tf.Tensor:
        side, uniform = tf.gather(self.sides, number), draws.shared(number, 5)
        target = square_windows.window(uniform[:2], side, self.height, self.width)[None, :, :, None]
        source = square_windows.window(uniform[2:4], side, self.height, self.width)[None, :, :, None]
        change = best - self.ball.images
        zero = tf.zeros_like(change)
        kept = tf.where(target, change, zero)
        budget = tf.maximum(self.ball.epsilon**2 - threat.l2_norm(change) ** 2, 0.0) / self.channels
        budget += _squared(tf.where(target | source, change, zero))
        signs = draws.signs(number, [_batch(best), self.channels])[:, None, None, :]
        new = self._pattern(number, uniform, target) * signs + kept / (1e-12 + tf.sqrt(_squared(kept)))
        new *= tf.sqrt(budget) / (1e-12 + tf.sqrt(_squared(new)))
        return self._clipped(tf.where(target, new, tf.where(source, zero, change)))

    def _pattern(self, number: tf.Tensor, uniform: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        pattern = tf.gather(self.patterns, tf.gather(self.place, number))
        upright = square_windows.placed(pattern[..., 0], window[0, :, :, 0])
        lying = square_windows.placed(pattern[..., 1], window[0, :, :, 0])
        return tf.where(uniform[4] > 0.5, lying, upright)[None, :, :, None]

    def _clipped(self, change: tf.Tensor) -> tf.Tensor:
        change *= self.ball.epsilon / (threat.l2_norm(change) + 1e-12)
        return tf.clip_by_value(self.ball.images + change, 0.0, 1.0)


def _batch(images: tf.Tensor) -> Any:
    return images.shape[0] if images.shape[0] is not None else tf.shape(images)[0]


def _squared(change: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(change), [1, 2], keepdims=True)


_MOVES: dict[str, Any] = {"linf": _LinfMoves, "l2": _L2Moves}
