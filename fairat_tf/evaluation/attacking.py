"""Runs attacks over a whole set of examples: every example once, in batches of one shape.

    bench = Bench(logits_fn, images, labels, epsilon=8/255, norm="linf", batch_size=128, seed=0)
    clean = bench.clean()
    outcomes = bench.attack("pgd20", clean)      # [Outcome]; the suite "autoattack" gives one for each part

What counts as robust: right on the natural example, which lies in the ball, and right on the adversarial
one. So an example that is wrong from the start is not attacked, its "adversarial" image is the natural
one, and no attack can come out above clean accuracy.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from fairat_tf import attacks, rng
from fairat_tf.attacks import threat
from fairat_tf.attacks.pgd import answers
from fairat_tf.evaluation.state import Store

LogitsFn = Callable[[tf.Tensor], tf.Tensor]
SUITE = "autoattack"
_SAVE_EVERY = 10.0
_SAME = (1e-3, 1e-3)  # relative and absolute: other numbers of threads round differently


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What became of examples under one attack.

    Attributes:
      name: of the attack.
      examples: int64 [n], their places in the evaluated set.
      correct: bool [n], still classified rightly.
      predictions: int32 [n], the class given to the (adversarial) image, -1 for logits that are not finite
        (which count as wrong); None inside a suite.
      seconds: spent.
      adversarial: float32 [n, H, W, C] in [0, 1], or None if not kept.
      note: what the reader should know ("40 of 100 examples: the budget was spent"), or "".
    """

    name: str
    examples: np.ndarray
    correct: np.ndarray
    predictions: np.ndarray | None
    seconds: float
    adversarial: np.ndarray | None = None
    note: str = ""

    def flags(self, total: int) -> np.ndarray:
        """Returns int8 [total]: 1 right, 0 wrong, -1 not evaluated."""
        flags = np.full(total, -1, np.int8)
        flags[self.examples] = self.correct
        return flags


def to_float(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images [0, 255] as float32 [0, 1]; float images as they are."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images


class Bench:
    """A model, the examples and the threat model; runs named attacks.

    Args:
      logits_fn: float32 [B, H, W, C] in [0, 1] -> logits [B, K].
      images: uint8 [N, H, W, C] (or float32 in [0, 1]).
      labels: int [N].
      epsilon: radius in pixels of [0, 1].
      norm: "linf" or "l2".
      batch_size: examples at a time; the last batch is padded, and the padding dropped.
      seed: of random starts.
      store: keeps progress; a second run goes on from it.
      keep: keep the adversarial images.
      progress: show bars on stderr.
    """

    def __init__(
        self,
        logits_fn: LogitsFn,
        images: np.ndarray,
        labels: np.ndarray,
        epsilon: float = 8 / 255,
        norm: str = "linf",
        batch_size: int = 128,
        seed: int = 0,
        store: Store | None = None,
        keep: bool = False,
        progress: bool = False,
    ):
        self.logits_fn, self.images, self.labels = logits_fn, images, np.asarray(labels, np.int32)
        self.epsilon, self.norm, self.seed = epsilon, norm, seed
        self.batch_size = max(min(batch_size, len(self.labels)), 1)
        self.store = store or Store(None, {})
        self.keep, self.progress = keep, progress

    def recognise(self) -> None:
        """Makes sure that what is kept is this model's: it must give the same logits for the first batch.

        A model that answers at random has no logits to be known by.

        Raises:
          OtherSettings: the kept progress is that of a model that answers otherwise.
        """
        if not self.store.keeps:
            return
        images = tf.constant(to_float(self.images[_padded(0, len(self.labels), self.batch_size)]))
        logits, again = (np.asarray(self.logits_fn(images), np.float32) for _ in range(2))
        kept = self.store.load("model").get("logits")
        if kept is None:
            self.store.save("model", logits=logits if np.array_equal(logits, again) else logits[:0])
        elif len(kept) and not (kept.shape == logits.shape and np.allclose(kept, logits, *_SAME)):
            self.store.refuse("model, or how it is called")

    def clean(self) -> Outcome:
        """Returns the outcome on the natural examples."""
        return self.run("clean", None, np.arange(len(self.labels)))

    def attack(self, name: str, clean: Outcome, deadline: float | None = None) -> list[Outcome]:
        """Returns the outcomes under `name` on the examples of `clean`: one, or one for each part of a suite.

        `deadline` (seconds left) is for the suite: it then takes the examples block by block, as many
        as fit, in the order that `clean.examples` has.
        """
        if name == SUITE:
            from fairat_tf.evaluation import suite

            return suite.run(self, clean, deadline)
        function = attacks.get(name)(epsilon=self.epsilon, norm=self.norm)
        right = clean.examples[clean.correct]
        attacked = self.run(name, function, right)
        return [_fill(attacked, clean, self)]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the predicted class int32 [n] of images (uint8 or float) [n, H, W, C]; -1 for NaN."""
        key = rng.key(self.seed, "clean", 0)
        parts = []
        for start in range(0, len(images), self.batch_size):
            rows = _padded(start, len(images), self.batch_size)
            batch = tf.constant(to_float(images[rows]))
            parts.append(self._predict(batch, tf.zeros(len(rows), tf.int32), key)[0].numpy())
        return np.concatenate(parts)[: len(images)] if parts else np.zeros(0, np.int32)

    def run(self, name: str, function: Any, examples: np.ndarray, epsilon: float | None = None) -> Outcome:
        """Attacks the given examples, within another radius if one is given.

        Kept progress is used first and extended.
        """
        kept = self.store.load(name)
        predictions = list(kept.get("predictions", ()))
        images = [kept["adversarial"]] if "adversarial" in kept else []
        before, lost, begun = float(kept.get("seconds", 0.0)), int(kept.get("lost", 0)), time.monotonic()
        saved = begun
        radius = self.epsilon if epsilon is None else epsilon
        step = self._predict if function is None else self._compiled(function, radius)
        with tqdm(total=len(examples), initial=len(predictions), desc=name, disable=not self.progress) as bar:
            while len(predictions) < len(examples):
                start = len(predictions)
                rows = examples[_padded(start, len(examples), self.batch_size)]
                key = rng.key(self.seed, f"evaluate/{name}", start // self.batch_size)
                batch = tf.constant(to_float(self.images[rows]))
                predicted, changed, finite = step(batch, tf.constant(self.labels[rows]), key)
                real = min(self.batch_size, len(examples) - start)
                lost += int((~finite.numpy()[:real]).sum())
                predictions.extend(predicted.numpy()[:real])
                if self.keep and name != "clean":
                    images.append(changed.numpy()[:real])
                bar.update(real)
                done = len(predictions) == len(examples)
                if done or time.monotonic() - saved > _SAVE_EVERY:
                    saved = time.monotonic()
                    self._save(name, predictions, images, before + saved - begun, lost)
        predicted = np.asarray(predictions, np.int32)
        adversarial = np.concatenate(images) if images else None
        seconds = before + time.monotonic() - begun
        right, note = predicted == self.labels[examples], lost_note(lost)
        return Outcome(name, examples, right, predicted, seconds, adversarial, note)

    @functools.cached_property
    def _predict(self) -> Callable[..., tuple[tf.Tensor, ...]]:
        return self._compiled(None, 0.0)

    def _compiled(self, function: Any, epsilon: float) -> Callable[..., tuple[tf.Tensor, ...]]:
        """Returns (images, labels, seed) -> (predictions, changed images, finite), traced for one shape."""
        step = judging(self.logits_fn, function, epsilon, self.norm)
        shape = (self.batch_size, *self.images.shape[1:])
        return tf.function(step, autograph=False).get_concrete_function(
            tf.TensorSpec(shape, tf.float32),
            tf.TensorSpec(shape[:1], tf.int32),
            tf.TensorSpec([2], tf.int32),
        )

    def _save(
        self, name: str, predictions: list, images: list[np.ndarray], seconds: float, lost: int
    ) -> None:
        known = np.asarray(predictions, np.int32)
        arrays: dict[str, Any] = {"predictions": known, "seconds": seconds, "lost": lost}
        if images:
            arrays["adversarial"] = np.concatenate(images)
        self.store.save(name, **arrays)


def _fill(attacked: Outcome, clean: Outcome, bench: Bench) -> Outcome:
    """Adds the examples that were wrong from the start, with their natural image and prediction."""
    predictions = np.array(clean.predictions)
    predictions[clean.correct] = attacked.predictions
    correct = clean.correct.copy()
    correct[clean.correct] = attacked.correct
    adversarial = None
    if bench.keep:
        adversarial = to_float(bench.images[clean.examples])
        if attacked.adversarial is not None:
            adversarial[clean.correct] = attacked.adversarial
    return Outcome(
        attacked.name, clean.examples, correct, predictions, attacked.seconds, adversarial, attacked.note
    )


def logits_of(logits_fn: LogitsFn, images: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Returns the logits float32 [n, K] of images (uint8 or float) [n, H, W, C], n > 0."""
    function = tf.function(lambda batch: logits_fn(batch), autograph=False)
    size, parts = min(batch_size, len(images)), []
    for start in range(0, len(images), size):
        batch = to_float(images[_padded(start, len(images), size)])
        parts.append(np.asarray(function(tf.constant(batch)), np.float32))
    return np.concatenate(parts)[: len(images)]


def lost_note(images: int) -> str:
    """Returns what the reader should know of images that an attack returned with NaN or infinity."""
    return f"{images} images came back with NaN or infinity: they count as not attacked" if images else ""


def judging(
    logits_fn: LogitsFn, attack: Any, epsilon: float, norm: str
) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Returns (images, labels, seed) -> (predictions, changed images, where these are finite).

    The attack (None: the images are judged as they are) is not believed: its image is moved into the ball and
    [0, 1], and the natural image stands in for one that is not finite.
    """

    def step(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        changed = attack(logits_fn, images, labels, seed) if attack else images
        finite = tf.reduce_all(tf.math.is_finite(changed), list(range(1, changed.shape.rank)))
        if attack:
            ball = threat.get(norm)(images, epsilon)
            changed = ball.project(tf.where(threat.wide(finite, images), changed, images))
        return answers(logits_fn(changed)), changed, finite

    return step


def _padded(start: int, total: int, size: int) -> np.ndarray:
    """Returns `size` places from `start`; past the end the last one again."""
    return np.minimum(np.arange(start, start + size), total - 1)
