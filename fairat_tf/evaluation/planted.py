"""Models with a known weakness, and whether the evaluation catches it: a test of the instrument.

    rows = planted.run(seed=0)          # [{"model", "expected", "found", "caught"}], a minute on two cores

A small network is trained on drawn shapes, then weakened in one way at a time. The evaluation must call the
sound model reliable and every attack-hiding model not reliable, and must name the class left unprotected.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import errors, eval_lib, rng
from fairat_tf.evaluation import contract, probes
from fairat_tf.evaluation.attacking import Bench, to_float
from fairat_tf.metrics.intervals import exact_upper

CLASSES = ("bars", "cross", "rings", "checks")
EPSILON = 8 / 255
_UNPROTECTED = 1
_SIZE = 12
_BOUND = 0.5

LogitsFn = Callable[[tf.Tensor], tf.Tensor]


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (uint8 images [count, 12, 12, 3], int32 labels [count]): one noisy pattern for each class.

    The contrast varies, so that an attack of EPSILON breaks some examples of each class and not others.
    """
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % len(CLASSES)).astype(np.int32)
    rows, columns = np.mgrid[0:_SIZE, 0:_SIZE]
    radius = np.hypot(rows - _SIZE / 2 + 0.5, columns - _SIZE / 2 + 0.5)
    patterns = np.stack(
        [rows % 4 < 2, (abs(rows - columns) < 2) | (abs(rows + columns - _SIZE + 1) < 2), radius % 4 < 2,
         (rows // 2 + columns // 2) % 2 == 0]
    ).astype(np.float64)  # fmt: skip
    contrast = generator.uniform(0.04, 0.14, (count, 1, 1))
    shift = generator.uniform(0.35, 0.65, (count, 1, 1))
    grey = shift + contrast * (patterns[labels] - 0.5)
    noise = generator.normal(0, 0.02, (count, _SIZE, _SIZE, 3))
    return (np.clip(grey[..., None] + noise, 0, 1) * 255).astype(np.uint8), labels


def trained(images: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """Returns a small Keras classifier fitted to the images, logits out."""
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input((_SIZE, _SIZE, 3)),
            keras.layers.Conv2D(12, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(len(CLASSES)),
        ]
    )
    network.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    network.fit(images / np.float32(255), labels, epochs=8, batch_size=64, verbose=0)
    return network


def masked_class(logits_fn: LogitsFn, place: int) -> LogitsFn:
    """Multiplies the logits by 10^4 where the answer is class `place`: softmax saturates."""

    def weakened(images: tf.Tensor) -> tf.Tensor:
        logits = logits_fn(images)
        saturated = tf.cast(tf.argmax(logits, -1) == place, logits.dtype)
        return logits * (1.0 + 1e4 * saturated)[:, None]

    return weakened


def unprotected_class(logits_fn: LogitsFn, place: int, images: np.ndarray, labels: np.ndarray) -> LogitsFn:
    """Lowers the logit of class `place` until it wins its own (given) examples by next to nothing."""
    logits = np.asarray(logits_fn(tf.constant(to_float(images[labels == place]))))
    margin = logits[:, place] - np.delete(logits, place, axis=1).max(axis=1)
    shift = np.zeros(logits.shape[1], np.float32)
    shift[place] = np.quantile(margin, 0.02)
    return lambda points: logits_fn(points) - shift


def quantised_input(logits_fn: LogitsFn) -> LogitsFn:
    """Rounds the input to 8 levels: the gradient of rounding does not exist."""
    return lambda images: logits_fn(tf.round(images * 7.0) / 7.0)


def quantised_smoothly(logits_fn: LogitsFn) -> LogitsFn:
    """Steps that are flat between 8 levels but differentiable, so that the gradient exists and is zero."""

    def weakened(images: tf.Tensor) -> tf.Tensor:
        levels = [tf.sigmoid((images * 7.0 - (step + 0.5)) * 1e5) for step in range(7)]
        return logits_fn(tf.add_n(levels) / 7.0)

    return weakened


def noisy(logits_fn: LogitsFn, seed: int) -> LogitsFn:
    """Adds noise that changes with every call: attacks follow a gradient that is gone at the next look."""
    state = tf.Variable(0, dtype=tf.int32, trainable=False)

    def weakened(images: tf.Tensor) -> tf.Tensor:
        step = state.assign_add(1)
        noise = rng.normal(rng.key(seed, "planted noise", step), tf.shape(images))
        return logits_fn(images + 0.05 * noise)

    return weakened


def run(seed: int = 0, examples: int = 240) -> list[dict[str, Any]]:
    """Returns for each planted model what was expected, what was found, and whether it was caught."""
    images, labels = drawn(1200, seed)
    test_images, test_labels = drawn(examples, seed + 1)
    network = trained(images, labels, seed)

    def sound(points: tf.Tensor) -> tf.Tensor:
        return network(points, training=False)

    test = test_images, test_labels
    unprotected = unprotected_class(sound, _UNPROTECTED, images, labels)
    return [
        _judged("sound model", "reliable", sound, *test, seed),
        _judged(
            "one class masked by saturated logits",
            "not reliable",
            masked_class(sound, _UNPROTECTED),
            *test,
            seed,
        ),
        _judged("input rounded to 8 levels", "not reliable", quantised_input(sound), *test, seed),
        _judged("input in smooth steps", "not reliable", quantised_smoothly(sound), *test, seed),
        _judged("noise at every call", "not reliable", noisy(sound, seed), *test, seed),
        _judged("softmax for logits", "not reliable", lambda x: tf.nn.softmax(sound(x)), *test, seed),
        _unprotected(unprotected, *test, seed),
    ]


def evaluated(logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """Returns the evaluation of a planted model."""
    attacks = ("fgsm", "pgd20", "cw20")
    return eval_lib.evaluate(
        logits_fn, images, labels, CLASSES, attacks=attacks, epsilon=EPSILON, checks="full", seed=seed
    )


def _judged(
    name: str, expected: str, logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray, seed: int
) -> dict[str, Any]:
    status, found = _finding(logits_fn, images, labels, seed)
    wanted = ("reliable",) if expected == "reliable" else ("suspicious", "unreliable", "refused")
    return {"model": name, "expected": expected, "found": found, "caught": status in wanted}


def _finding(logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray, seed: int) -> tuple[str, str]:
    """Returns the status and what is told of a model; one without gradients is refused before any attack."""
    if not probes.differentiable(Bench(logits_fn, images[:1], labels[:1])):
        try:
            contract.check(logits_fn, images, labels, CLASSES)
        except errors.Unreliable as error:
            return "refused", f"refused ({str(error).partition(' (')[0]})"
        return "not checked", "not refused, and no attack can be run"
    verdict = evaluated(logits_fn, images, labels, seed)["verdict"]
    reasons = [check["name"] for check in verdict["checks"] if check["outcome"] in ("warn", "fail")]
    return verdict["status"], verdict["status"] + (f" ({', '.join(reasons)})" if reasons else "")


def _unprotected(logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """The class must be named as the worst, with an interval that lies wholly below the others' average."""
    attack = evaluated(logits_fn, images, labels, seed)["attacks"]["pgd20"]
    worst = attack["worst_class"]
    row = attack["per_class"][worst["name"]]
    below = float(exact_upper(row["correct"], row["total"])) < _BOUND < attack["accuracy"]
    found = (
        f"worst class {worst['name']}, {worst['accuracy']:.0%} of it right, average {attack['accuracy']:.0%}"
    )
    expected = f"class {CLASSES[_UNPROTECTED]} named, below {_BOUND:.0%}, average above"
    return {
        "model": "one class unprotected",
        "expected": expected,
        "found": found,
        "caught": worst["name"] == CLASSES[_UNPROTECTED] and below,
    }
