"""MixUp and CutMix: each example is mixed with a partner, images and labels alike.

    images, soft_labels = CutMix()(images, tf.one_hot(labels, 10), seed)
    images, soft_labels = Mixing(CutMix(), probability=0.5, num_classes=10)(images, labels, seed)

See `base.Mix` for who can be a partner.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment.base import Mix, Parameters, batch_size_of, image_shape_of
from fairat_tf.augment.erase import in_box

_HALVINGS = 24


def draw_partner(seed: rng.Seed, batch_size: Any) -> tf.Tensor:
    """Returns a random permutation, int32 [B], of the rows at hand; an example may be its own partner."""
    return tf.argsort(rng.bits(rng.fold(seed, "partner"), [batch_size]), stable=True)


def draw_beta(seed: rng.Seed, batch_size: Any, alpha: float) -> tf.Tensor:
    """Returns float32 [B] from Beta(alpha, alpha), by inversion: 24 halvings, so precise to 2**-25."""
    unit = rng.uniform(rng.fold(seed, "share"), [batch_size])
    if alpha == 1.0:
        return unit

    def halve(_: tf.Tensor, low: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        middle = low + width / 2
        above = tf.math.betainc(alpha, alpha, middle) < unit
        return _ + 1, tf.where(above, middle, low), width / 2

    start = (0, tf.zeros_like(unit), tf.ones_like(unit))
    _, low, width = tf.while_loop(lambda step, *_: step < _HALVINGS, halve, start)
    return low + width / 2


def _check(name: str, alpha: float) -> None:
    if not alpha > 0:
        raise ValueError(f"{name} needs alpha above 0; received alpha={alpha}.")


def _mix_labels(labels: tf.Tensor, parameters: Parameters) -> tf.Tensor:
    share = parameters["share"][:, None]
    return share * labels + (1.0 - share) * tf.gather(labels, parameters["partner"])


@dataclasses.dataclass(frozen=True)
class MixUp(Mix):
    """share * own + (1 - share) * partner, for images and labels, share from Beta(alpha, alpha).

    Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018), equation 1. The authors' code
    draws one share for each batch; here each example has its own.

    Raises:
      ValueError: `alpha` not above 0.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check("MixUp", self.alpha)

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `partner` int32 [B] and `share` float32 [B], the example's own."""
        return {"partner": draw_partner(seed, batch_size), "share": draw_beta(seed, batch_size, self.alpha)}

    def apply(
        self, images: tf.Tensor, labels: tf.Tensor, parameters: Parameters
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mixed images [B, H, W, C] and labels [B, K]."""
        share = parameters["share"][:, None, None, None]
        other = tf.gather(images, parameters["partner"])
        return share * images + (1.0 - share) * other, _mix_labels(labels, parameters)


@dataclasses.dataclass(frozen=True)
class CutMix(Mix):
    """A rectangle of the image shows the partner; the labels mix by area.

    Yun et al., "CutMix" (ICCV 2019), section 3.2: s from Beta(alpha, alpha); the rectangle has the sides
    H * sqrt(1 - s) and W * sqrt(1 - s), cut to an even number of pixels as in the authors' code, and a centre
    uniform over the image; it is cut at the border, and `share`, the example's own part of the label, is the
    area that is left. The authors' code draws one rectangle for each batch; here each example has its own.

    Raises:
      ValueError: `alpha` not above 0.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check("CutMix", self.alpha)

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns `partner` int32 [B], `box` int32 [B, 4] (top, left, height, width), `share` float32 [B]."""
        height, width, _ = image_shape
        side = tf.sqrt(1.0 - draw_beta(seed, batch_size, self.alpha))
        row = rng.integers(rng.fold(seed, "row"), [batch_size], height)
        column = rng.integers(rng.fold(seed, "column"), [batch_size], width)
        top, bottom = _span(row, side, height)
        left, right = _span(column, side, width)
        area = tf.cast((bottom - top) * (right - left), tf.float32)
        box = tf.stack([top, left, bottom - top, right - left], 1)
        share = 1.0 - area / (height * width)
        return {"partner": draw_partner(seed, batch_size), "box": box, "share": share}

    def apply(
        self, images: tf.Tensor, labels: tf.Tensor, parameters: Parameters
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mixed images [B, H, W, C] and labels [B, K]."""
        inside = in_box(parameters["box"], *image_shape_of(images))
        mixed = tf.where(inside, tf.gather(images, parameters["partner"]), images)
        return mixed, _mix_labels(labels, parameters)


def _span(centre: tf.Tensor, side: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    half = tf.cast(side * size, tf.int32) // 2
    return tf.clip_by_value(centre - half, 0, size), tf.clip_by_value(centre + half, 0, size)


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixes a share of the examples, from class numbers to label distributions: what training takes.

    Each example is mixed with the chance `probability`, by a draw of its own, and keeps its image and a
    one-hot label otherwise; its partner is any row of the batch, mixed or not. (The authors of CutMix decide
    once for each batch.)

    Raises:
      ValueError: `probability` outside (0, 1].
    """

    mix: Mix
    probability: float
    num_classes: int

    def __post_init__(self) -> None:
        if not 0.0 < self.probability <= 1.0:
            raise ValueError(f"mix_probability must be in (0, 1]; received {self.probability!r}")

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, seed: rng.Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (images [B, H, W, C], label distributions float32 [B, K]) for labels int [B]."""
        one_hot = tf.one_hot(labels, self.num_classes)
        mixed, soft = self.mix(images, one_hot, seed)
        drawn = rng.uniform(rng.fold(seed, "whom"), [batch_size_of(images)])
        whom = drawn < self.probability
        return tf.where(whom[:, None, None, None], mixed, images), tf.where(whom[:, None], soft, one_hot)
