"""The checks of the verdict, each a function of one sample of the evaluated examples.

    sample = Sample(bench, places, outcomes, num_classes=10)
    finding = zero_gradients(sample)

Limits, in one place: a warning from 1 point of the sample (3 of a class), a failure from 3 points (10 of
a class), each with a least number of examples. A stronger attack may find more, 2 (8) and 6 (20) points:
attacks do differ by that much on sound models. A failure of the attack on one class is what a good
average hides best, so wherever examples can be told apart, they are counted by class.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import attacks
from fairat_tf.evaluation import graph_scan
from fairat_tf.evaluation.attacking import SUITE, Bench, Outcome, to_float
from fairat_tf.evaluation.checks import FAIL, PASS, WARN, Check, Finding, excess

NO_GRADIENT = -1.0
_WHOLE = {"warn": (2, 0.01), "fail": (4, 0.03)}
_CLASS = {"warn": (2, 0.03), "fail": (3, 0.10)}
_STRONGER_WHOLE = {"warn": (2, 0.02), "fail": (5, 0.06)}
_STRONGER_CLASS = {"warn": (3, 0.08), "fail": (5, 0.20)}
_ZERO = {"warn": (1, 0.01), "fail": (3, 0.10)}


class Sample:
    """Some examples of an evaluation, and everything that can be asked of the model about them.

    Args:
      bench: model and threat model.
      places: int64 [n], which of the bench's examples.
      outcomes: what the evaluated attacks did.
      num_classes: K.
    """

    def __init__(self, bench: Bench, places: np.ndarray, outcomes: Sequence[Outcome], num_classes: int):
        self.places, self.num_classes = places, num_classes
        self.outcomes = {outcome.name: outcome for outcome in outcomes}
        self.total = len(bench.labels)
        self.all_labels = bench.labels
        self.bench = Bench(
            bench.logits_fn,
            bench.images[places],
            bench.labels[places],
            bench.epsilon,
            bench.norm,
            bench.batch_size,
            bench.seed,
            progress=bench.progress,
        )
        self.labels = self.bench.labels

    @functools.cached_property
    def images(self) -> np.ndarray:
        """Natural images, float32 [n, H, W, C]."""
        return to_float(self.bench.images)

    @functools.cached_property
    def clean(self) -> Outcome:
        """On the natural images."""
        return self.bench.clean()

    @functools.cached_property
    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """(logits [n, K], largest absolute input gradient of the loss [n]); see `input_gradients`."""
        return input_gradients(self.bench.logits_fn, self.images, self.labels, self.bench.batch_size)

    @functools.cached_property
    def has_gradients(self) -> bool:
        """Whether the model can be differentiated at all."""
        return not (self.gradients[1] == NO_GRADIENT).any()

    def correct_under(self, epsilon: float, norm: str, **options: Any) -> np.ndarray:
        """Returns bool [n]: right after PGD on the cross-entropy and on the margin with `options`."""
        right = self.clean.correct
        for name in ("pgd", "cw"):
            right = right & self.attacked(name, epsilon, norm, **options)
        return right

    def attacked(self, name: str, epsilon: float, norm: str, **options: Any) -> np.ndarray:
        """Returns bool [n]: right after the named attack, whether or not it was right before."""
        attack = attacks.get(name)(epsilon=epsilon, norm=norm, keep_best=True, **options)
        label = f"check {name} at {epsilon:.3g}"  # more steps or restarts begin where fewer do
        outcome = self.bench.run(label, attack, np.arange(len(self.labels)), epsilon)
        return outcome.correct

    def evaluated(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Returns int8 [n]: 1 where every evaluated attack (or the named ones) left the example right."""
        rows = [o.flags(self.total)[self.places] for n, o in self.outcomes.items() if not names or n in names]
        seen = np.array(rows)
        return np.where((seen == 0).any(axis=0), 0, 1)

    def count(self, flags: np.ndarray) -> np.ndarray:
        """Returns the number of flagged examples of each class, [K]."""
        return np.bincount(self.labels[flags.astype(bool)], minlength=self.num_classes)

    def judged(
        self, flags: np.ndarray, among: np.ndarray, whole: dict, single: dict
    ) -> tuple[int, np.ndarray]:
        """Returns the levels (of the whole, of each class [K]) of the flagged share of `among`."""
        base = self.count(among)
        level = int(excess(flags.sum(), among.sum(), **whole))
        return level, excess(self.count(flags), base, **single)


def input_gradients(
    logits_fn: Any, images: np.ndarray, labels: np.ndarray, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (logits [n, K], largest absolute gradient of the cross-entropy by pixel [n]).

    `NO_GRADIENT` stands where the model cannot be differentiated, NaN or infinity where its gradient holds
    some.
    """
    traced, parts = gradient_step(logits_fn, images.shape[1:]), []
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        parts.append([t.numpy() for t in traced(tf.constant(images[batch]), tf.constant(labels[batch]))])
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def gradient_step(logits_fn: Any, shape: Sequence[int]) -> Any:
    """Returns the traced step of `input_gradients`, for images [n, *shape] and labels int32 [n]."""

    @tf.function(autograph=False)
    def step(points: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            logits = tf.cast(logits_fn(points), tf.float32)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits)
        gradient = tape.gradient(loss, points)
        if gradient is None:
            return logits, tf.fill(tf.shape(target), NO_GRADIENT)
        return logits, tf.reduce_max(tf.abs(gradient), [1, 2, 3])

    return step.get_concrete_function(
        tf.TensorSpec((None, *shape), tf.float32), tf.TensorSpec((None,), tf.int32)
    )


def differentiable(bench: Bench) -> bool:
    """Whether the model gives an input gradient at all."""
    images, labels = to_float(bench.images[:1]), bench.labels[:1]
    return not (input_gradients(bench.logits_fn, images, labels, 1)[1] == NO_GRADIENT).any()


def random_output(sample: Sample) -> Finding:
    """Five forward passes over the same images give the same logits (relative difference up to 1e-4)."""
    batch = tf.constant(sample.images[: sample.bench.batch_size])
    passes = [np.asarray(sample.bench.logits_fn(batch)) for _ in range(5)]
    if not np.isfinite(passes).all():
        return Finding(FAIL, "the logits hold NaN or infinity on natural images: they are no answer")
    scale = max(float(np.abs(passes[0]).max()), 1e-12)
    change = max(float(np.abs(other - passes[0]).max()) for other in passes[1:]) / scale
    if change > 1e-4:
        return Finding(FAIL, f"logits change by {change:.1%} of their size between passes", value=change)
    return Finding(PASS, "five passes gave the same logits", value=change)


def probabilities(sample: Sample) -> Finding:
    """The output is logits: not all in [0, 1] with a sum of 1."""
    logits = sample.gradients[0]
    if logits.min() >= 0 and logits.max() <= 1 and np.abs(logits.sum(1) - 1).max() < 1e-4:
        return Finding(FAIL, "the outputs are probabilities (softmax): gradients vanish; give logits")
    return Finding(PASS, "the outputs are not probabilities")


def zero_gradients(sample: Sample) -> Finding:
    """Examples that are classified rightly have an input gradient of the loss that is finite and not zero."""
    if not sample.has_gradients:
        levels = np.full(sample.num_classes, FAIL)
        message = "the model has no input gradient (rounding, integer or lookup operations)"
        return Finding(FAIL, message, levels)
    right = sample.clean.correct
    zero, broken = right & (sample.gradients[1] == 0), right & ~np.isfinite(sample.gradients[1])
    level, classes = sample.judged(zero | broken, right, _ZERO, _ZERO)
    share, lost = (flags.sum() / max(right.sum(), 1) for flags in (zero, broken))
    message = f"{share:.1%} of the rightly classified examples have an input gradient of exactly 0"
    message += f", {lost:.1%} one with NaN or infinity" if lost else ""
    return Finding(level, message, classes, float(share + lost))


def dynamic_model(sample: Sample) -> Finding:
    """The graph holds no operation that draws random numbers, changes state or computes gradients itself."""
    found = graph_scan.suspicious_operations(sample.bench.logits_fn, sample.images[:1].shape)
    if found:
        return Finding(WARN, f"the model's graph holds {', '.join(found)}: look at what it does", value=found)
    return Finding(PASS, "no random, state-changing or gradient operation in the graph")


def iterative_beats_single_step(sample: Sample) -> Finding:
    """No class is more robust to an iterative attack than to FGSM, beyond a few examples."""
    iterative = [o for name, o in sample.outcomes.items() if name.startswith(("pgd", "cw")) or name == SUITE]
    if "fgsm" not in sample.outcomes or not iterative:
        return Finding(None, "not run: needs fgsm and an iterative attack among --attacks")
    best = min(iterative, key=lambda outcome: outcome.correct.mean())
    single = sample.outcomes["fgsm"].flags(sample.total)
    other = best.flags(sample.total)
    both = (single >= 0) & (other >= 0)
    labels = sample.all_labels
    missed = np.bincount(labels[both & (single == 0) & (other == 1)], minlength=sample.num_classes)
    found = np.bincount(labels[both & (single == 1) & (other == 0)], minlength=sample.num_classes)
    total = np.bincount(labels[both], minlength=sample.num_classes)
    net = np.maximum(missed - found, 0)
    level = int(excess(max(missed.sum() - found.sum(), 0), total.sum(), **_WHOLE))
    message = (
        f"{best.name} breaks {found.sum()} examples that fgsm does not, misses {missed.sum()} that it does"
    )
    return Finding(level, message, excess(net, total, **_CLASS))


def square_wins(sample: Sample) -> Finding:
    """Square, which sees no gradients, hardly lowers what AutoAttack's gradient attacks left (0.2 points)."""
    parts = sample.outcomes if SUITE in sample.outcomes else {}
    before = next((n for n in ("fab-t", "apgd-t", "apgd-ce") if n in parts), None)
    if "square" not in parts or before is None:
        return Finding(None, "not run: needs autoattack among --attacks")
    examples = parts["square"].examples
    won = parts[before].correct & ~parts["square"].correct
    labels = sample.all_labels[examples]
    count, total = (np.bincount(labels[m], minlength=sample.num_classes) for m in (won, np.ones_like(won)))
    level = int(excess(won.sum(), len(won), warn=(2, 0.002), fail=(4, 0.03)))
    message = f"Square alone breaks {won.sum()} of {len(won)} examples"
    return Finding(level, message, excess(count, total, **_CLASS))


def stronger_attack(sample: Sample) -> Finding:
    """Twice the steps, both objectives and two starts break few examples that were left right."""
    if not sample.has_gradients:
        return Finding(None, "not run: no gradients")
    left = sample.evaluated() == 1
    harder = sample.correct_under(sample.bench.epsilon, sample.bench.norm, steps=40, restarts=2)
    broken = left & ~harder
    level, classes = sample.judged(broken, np.ones_like(left), _STRONGER_WHOLE, _STRONGER_CLASS)
    message = f"PGD-40 and CW-40 with two starts break {broken.sum()} of {left.sum()} examples that were left"
    return Finding(level, message, classes, float(broken.sum() / len(left)))


def doubled_steps(sample: Sample) -> Finding:
    """PGD with 40 steps breaks hardly more than with 20."""
    if not sample.has_gradients:
        return Finding(None, "not run: no gradients")
    epsilon, norm = sample.bench.epsilon, sample.bench.norm
    before, after = (sample.attacked("pgd", epsilon, norm, steps=steps) for steps in (20, 40))
    gained, lost = sample.clean.correct & before & ~after, sample.clean.correct & ~before & after
    net = np.maximum(sample.count(gained) - sample.count(lost), 0)
    everyone = np.ones_like(gained)
    level = int(excess(max(gained.sum() - lost.sum(), 0), len(gained), **_WHOLE))
    message = f"40 steps break {gained.sum()} of {len(gained)} examples that 20 do not, and miss {lost.sum()}"
    return Finding(min(level, WARN), message, np.minimum(excess(net, sample.count(everyone), **_CLASS), WARN))


def black_box(sample: Sample) -> Finding:
    """Random corners of the ball break next to nothing that the gradient attacks left."""
    left = sample.evaluated() == 1
    broken = left & _random_corners(sample, tries=50)
    level, classes = sample.judged(broken, np.ones_like(left), _WHOLE, _CLASS)
    message = f"50 random corners of the ball break {broken.sum()} of {left.sum()} examples that were left"
    return Finding(level, message, classes)


def larger_epsilon(sample: Sample) -> Finding:
    """Accuracy falls with the radius: at most chance at 0.5 (of the largest possible change), zero at 1."""
    if not sample.has_gradients:
        return Finding(None, "not run: no gradients")
    diameter = 1.0 if sample.bench.norm == "linf" else float(sample.images[0].size) ** 0.5
    radii = {"2x": 2 * sample.bench.epsilon, "0.5": 0.5 * diameter, "1": diameter}
    right = {key: sample.correct_under(r, sample.bench.norm, steps=40) for key, r in radii.items()}
    now = sample.evaluated() == 1
    share = {key: float(flags.mean()) for key, flags in right.items()}
    message = "accuracy " + ", ".join(f"{value:.1%} at {key} epsilon" for key, value in share.items())
    message = message.replace("at 2x epsilon", "at twice the radius").replace(" epsilon", "")
    chance = 1.0 / sample.num_classes
    slack = 2.0 * np.sqrt(chance * (1 - chance) / len(now))
    level = FAIL if share["0.5"] > chance + slack or share["1"] > 0.02 else PASS
    rises = right["2x"] & ~now
    falls = ~right["2x"] & now
    if rises.sum() > falls.sum() + 1:
        level = FAIL
    unbroken = excess(sample.count(right["1"]), sample.count(np.ones_like(now)), **_CLASS)
    return Finding(level, message, unbroken, share)


def _random_corners(sample: Sample, tries: int) -> np.ndarray:
    """Returns bool [n]: some random vertex of the box (or point of the sphere) is misclassified."""
    generator = np.random.default_rng(sample.bench.seed)
    broken = np.zeros(len(sample.labels), bool)
    candidates = np.flatnonzero(sample.evaluated() == 1)
    for _ in range(tries if len(candidates) else 0):
        images = sample.images[candidates]
        direction = generator.choice(np.array([-1, 1], np.float32), images.shape)
        scale = 1.0 if sample.bench.norm == "linf" else images[0].size ** -0.5
        moved = np.clip(images + np.float32(sample.bench.epsilon * scale) * direction, 0, 1)
        broken[candidates] |= sample.bench.predict(moved) != sample.labels[candidates]
        candidates = candidates[~broken[candidates]]
        if not len(candidates):
            break
    return broken


ALL = (
    Check("random output", "Does the model answer the same twice?", random_output),
    Check("softmax", "Are the outputs logits rather than probabilities?", probabilities),
    Check("zero gradients", "Does the gradient show the attack a way for every example?", zero_gradients),
    Check("dynamic model", "Is the model free of operations that hide it from the attack?", dynamic_model),
    Check(
        "iterative beats single step",
        "Is an attack of many steps at least as strong as one?",
        iterative_beats_single_step,
    ),
    Check("square wins", "Is an attack without gradients weaker than those with?", square_wins),
    Check("black box", "Do random changes find nothing that the attacks missed?", black_box),
    Check("stronger attack", "Would a harder attack find much more?", stronger_attack, full=True),
    Check("doubled steps", "Has the attack converged?", doubled_steps, full=True),
    Check("larger epsilon", "Does a larger radius break everything in the end?", larger_epsilon, full=True),
)
