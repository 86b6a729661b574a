"""What every augmentation is: a draw of numbers, and their application to images.

class Darken(Augmentation):
    def draw(self, seed, batch_size, image_shape):
        return {"factor": rng.uniform(seed, [batch_size, 1, 1, 1])}

    def apply(self, images, parameters):
        return images * parameters["factor"]
"""

import abc
import dataclasses
import inspect
from typing import Any, TypeAlias

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.lookup import Table

Parameters: TypeAlias = dict[str, tf.Tensor]


class Augmentation(abc.ABC):
    """Changes images, each by its own draw, and leaves labels alone.

    `images` are float32 [B, H, W, C] in [0, 1] with static H, W and C (1 or 3), and so is the result.
    """

    @abc.abstractmethod
    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns what `apply` needs: named tensors whose first axis is the example.

        Args:
          seed: from `fairat_tf.rng`; what an example gets follows from it and from the example's
            place in the global batch.
          batch_size: number of examples here (int, or scalar int32 tensor).
          image_shape: (height, width, channels).
        """

    @abc.abstractmethod
    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the changed images: the same shape, float32 in [0, 1]. Draws nothing."""

    def __call__(self, images: tf.Tensor, seed: rng.Seed) -> tf.Tensor:
        """Returns `apply(images, draw(...))` for float32 images [B, H, W, C] in [0, 1].

        Raises:
          ValueError: the images are not 4-D, of unknown size, or have neither 1 nor 3 channels.
        """
        images = tf.convert_to_tensor(images)
        return self.apply(images, self.draw(seed, batch_size_of(images), image_shape_of(images)))


class Mix(abc.ABC):
    """Mixes each example with a partner of the same batch, images and labels alike.

    The partner is drawn among the rows at hand. Training mixes the global batch, before it is divided over
    replicas (`data.pipeline`), so that partners do not depend on their number; a call inside a replica
    would find partners among the replica's own rows.
    """

    @abc.abstractmethod
    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns what `apply` needs, `partner` int32 [B] among it; see `Augmentation.draw`."""

    @abc.abstractmethod
    def apply(
        self, images: tf.Tensor, labels: tf.Tensor, parameters: Parameters
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns mixed images [B, H, W, C] and label distributions float32 [B, K]."""

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, seed: rng.Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (images [B, H, W, C], soft labels [B, K]) for one-hot or soft labels [B, K].

        Raises:
          ValueError: labels that are not [B, K], or images that `image_shape_of` refuses.
        """
        images, labels = tf.convert_to_tensor(images), tf.cast(labels, tf.float32)
        if labels.shape.rank != 2:
            raise ValueError(
                f"Mixing needs one-hot labels [B, K]; received shape {labels.shape}. "
                "Use tf.one_hot(labels, K)."
            )
        parameters = self.draw(seed, batch_size_of(images), image_shape_of(images))
        return self.apply(images, labels, parameters)


def batch_size_of(images: tf.Tensor) -> Any:
    """Returns the first dimension: an int where it is static, else a scalar int32 tensor."""
    return tf.shape(images)[0] if images.shape[0] is None else images.shape[0]


def image_shape_of(images: tf.Tensor) -> tuple[int, int, int]:
    """Returns the static (height, width, channels).

    Raises:
      ValueError: not 4-D, an unknown height, width or channel count, or neither 1 nor 3 channels.
    """
    shape = images.shape
    if shape.rank != 4 or None in shape[1:] or shape[3] not in (1, 3):
        raise ValueError(
            f"Augmentation needs images [B, H, W, C] of known size with 1 or 3 channels; received {shape}. "
            "Use tf.ensure_shape where the size was lost."
        )
    return tuple(shape[1:])


@dataclasses.dataclass(frozen=True)
class NoAugmentation(Augmentation):
    """Returns the images as they are, bit for bit."""

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns no parameters."""
        return {}

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns `images`."""
        return images


@dataclasses.dataclass(frozen=True)
class Chain(Augmentation):
    """Applies `steps` from left to right, each with draws of its own.

    The parameters of step i are called "i/name".
    """

    steps: tuple[Augmentation, ...]

    def draw(self, seed: rng.Seed, batch_size: Any, image_shape: tuple[int, int, int]) -> Parameters:
        """Returns the parameters of all steps."""
        drawn = {}
        for i, step in enumerate(self.steps):
            part = step.draw(rng.fold(seed, i), batch_size, image_shape)
            drawn.update({f"{i}/{name}": value for name, value in part.items()})
        return drawn

    def apply(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Returns the images after the last step."""
        for i, step in enumerate(self.steps):
            prefix = f"{i}/"
            own = {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
            images = step.apply(images, own)
        return images


def build(table: Table, part: str) -> Any:
    """Returns the object of `table` that `name:argument,argument` describes.

    Arguments are positional and converted to the annotated type (int or float).

    Raises:
      ValueError: an unknown name, too many arguments, or one that cannot be converted.
    """
    name, _, given = part.partition(":")
    maker = table.get(name)
    expected = list(inspect.signature(maker).parameters.values())
    texts = [text.strip() for text in given.split(",")] if given else []
    try:
        if len(texts) > len(expected):
            raise ValueError
        values = [want.annotation(text) for want, text in zip(expected, texts, strict=False)]
    except ValueError:
        raise ValueError(
            f"{table.kind.capitalize()} {name!r} takes {_describe(expected)}; received {part!r}."
        ) from None
    return maker(*values)


def _describe(expected: list[inspect.Parameter]) -> str:
    if not expected:
        return "no arguments"
    listed = ", ".join(f"{p.name} ({p.annotation.__name__}, default {p.default})" for p in expected)
    return f"{listed}, separated by commas"
