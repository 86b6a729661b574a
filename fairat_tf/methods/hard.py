"""Which examples of a batch are hard: how hard each is, and who is chosen.

    class Mine(WithHardExamples):
        @dataclasses.dataclass(frozen=True)
        class Options(HardOptions):
            ...
        def training_batch(self, batch, seed):
            scores = self.scores(batch, adversarial, attack_seed)     # float32 [B]
            chosen = self.chosen(scores, batch.labels, seed)          # bool [B]

`methods.fairat` has the algorithm of which these are steps 2 and 3, and says why each option is there.
With W `hard_warmup_epochs` and R `hard_ramp_epochs` the share of hard examples is 0 in the first W epochs,
then r / (R + 1), 2 r / (R + 1), ..., and r from epoch W + R on (counted from 0). Shapes are static: the
price is that of the full share from the first epoch on.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from fairat_tf import rng
from fairat_tf.config import option
from fairat_tf.methods.base import Method
from fairat_tf.methods.batches import Batch, Examples
from fairat_tf.methods.options import WithLoss
from fairat_tf.metrics.classwise import ClassMean
from fairat_tf.objectives import losses, selection

# hard_score -> (the view that is scored, the score of its logits)
_SCORES = {
    "adv": ("adversarial", losses.excess_cross_entropy),
    "natural": ("natural", losses.excess_cross_entropy),
    "start": ("start", losses.excess_cross_entropy),
    "entropy": ("natural", lambda logits, labels: losses.entropy(logits)),
    "margin": ("natural", lambda logits, labels: losses.top_two_gap(logits)),
}


@dataclasses.dataclass(frozen=True)
class HardOptions(WithLoss):
    """The open readings of what is hard, and the controls that show where a gain comes from."""

    hard_score: str = option(
        "adv",
        "what makes an example hard: cross-entropy of its PGD example (adv), of itself (natural), of "
        "PGD's starting point (start), of what it was trained on in the last epoch (memory); or, without "
        "the label, the entropy of its prediction or the margin between its two highest logits",
        choices=(*_SCORES, "memory"),
    )
    hard_select: str = option(
        "topk",
        "how many are hard: a fixed share (topk), those above the batch mean (mean), or those above a "
        "running quantile (quantile)",
        choices=("topk", "mean", "quantile"),
    )
    hard_fraction: float = option(
        0.5, "share of hard examples (not with mean, all)", low=0.0, high=1.0, open_low=True
    )
    hard_choice: str = option(
        "hardest",
        "control: whom to take instead of the hardest",
        choices=("hardest", "easiest", "random", "all", "worst_classes"),
    )
    hard_warmup_epochs: int = option(0, "epochs of plain PGD-AT first", low=0)
    hard_ramp_epochs: int = option(
        0, "epochs over which the share of hard examples grows to hard_fraction (topk)", low=0
    )
    hard_balanced: bool = option(False, "the same share of every class: its own hardest examples (topk)")
    hard_group: int = option(
        0, "choose within groups of this many neighbours, not over the global batch (0)", low=0
    )


class WithHardExamples(Method):
    """A method whose `Options` are `HardOptions`; see the module."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        options = self.options
        if options.hard_balanced and (not self._ranks or options.hard_group):
            raise ValueError("hard_balanced needs topk without hard_group, and hardest, easiest or random")
        for name in ("hard_ramp_epochs", "hard_group"):
            if getattr(options, name) and not self._ranks:
                raise ValueError(f"{name} needs topk, and hardest, easiest or random")
        if options.hard_choice in ("all", "worst_classes") and options.hard_select != "topk":
            raise ValueError(f"hard_choice={options.hard_choice} ranks nothing: hard_select has no effect")
        if options.hard_choice == "random" and options.hard_select != "topk":
            raise ValueError("hard_choice=random needs hard_select=topk: random numbers have no threshold")
        if self._remembers and not self.num_examples:
            raise ValueError("hard_score=memory needs num_examples, the size of the training set; received 0")
        self.memory = self._state("memory", (max(self.num_examples, 1),), initial=-1.0)
        self.threshold = self._state("threshold", (), initial=float("nan"))

    def check_batch(self, size: int, devices: int) -> None:
        """Checks that groups of neighbours fill a device's part of the batch."""
        super().check_batch(size, devices)
        if self.options.hard_group:
            selection.check_group(size // devices, self.options.hard_group)

    @property
    def _remembers(self) -> bool:
        """Whether the scores are those of the last epoch."""
        return self.options.hard_score == "memory"

    @property
    def not_with_mix(self) -> str:  # type: ignore[override]
        """A mixture is another one in every epoch: what was remembered of it says nothing."""
        return "hard_score=memory" if self._remembers else ""

    def scores(self, batch: Batch, adversarial: tf.Tensor | None, attack_seed: rng.Seed) -> tf.Tensor:
        """Returns how hard each example is, float32 [B]; nothing here is differentiated."""
        if self._remembers:
            if batch.index is None:
                raise ValueError(
                    "hard_score=memory needs batches that carry `index`, the row of each example"
                )
            return tf.gather(self.memory, batch.index)
        view, score = _SCORES[self.options.hard_score]
        if view == "start":
            points = self.attack.start(batch.images, attack_seed, self.epsilon_for(batch.truth))
        else:
            points = adversarial if view == "adversarial" else batch.images
        return tf.stop_gradient(score(self.inference(points), batch.truth))

    def chosen(self, scores: tf.Tensor, labels: tf.Tensor, seed: rng.Seed) -> tf.Tensor:
        """Returns which examples are the hard ones, bool [B]; the choice is made over the global batch."""
        size, choice = labels.shape[0], self.options.hard_choice
        started = self.epoch >= self.options.hard_warmup_epochs
        if choice == "all":
            return tf.fill([size], started)
        if choice == "worst_classes":
            classes = selection.lowest_classes(
                tf.convert_to_tensor(self.class_accuracy), self.options.hard_fraction
            )
            return tf.gather(classes, labels) & started & (self.epoch > 0)
        ranked = self._ranked(scores)
        if choice == "random":
            drawn = rng.uniform(rng.fold(seed, "random control"), [size])
            ranked = tf.where(ranked > -float("inf"), drawn, ranked)
        return self._selected(ranked, labels) & started & (ranked > -float("inf"))

    def _ranked(self, scores: tf.Tensor) -> tf.Tensor:
        """Returns what the choice ranks, highest first, float32 [B]: -inf for those not seen yet (memory)."""
        ranked = -scores if self.options.hard_choice == "easiest" else scores
        return tf.where(scores >= 0.0, ranked, -float("inf")) if self._remembers else ranked

    def _selected(self, ranked: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the examples ranked highest, bool [B]."""
        options, size = self.options, ranked.shape[0]
        if options.hard_select == "topk" and options.hard_group:
            return selection.in_groups(ranked, options.hard_fraction, options.hard_group, self._ramp())
        everyone = selection.global_scores(ranked)
        if options.hard_balanced:
            everyone = selection.places_in_class(everyone, selection.global_scores(labels))
        if options.hard_select == "topk":
            return selection.local(selection.topk(everyone, options.hard_fraction, self._ramp()), size)
        if options.hard_select == "mean":
            return selection.local(selection.above_mean(everyone), size)
        return ranked >= self._running_quantile(everyone)

    def _running_quantile(self, ranked: tf.Tensor) -> tf.Tensor:
        """Returns the threshold: moving average (decay 0.9) of the quantiles, this batch's included."""
        now = selection.quantile(ranked, self.options.hard_fraction)
        known = tf.convert_to_tensor(self.threshold)
        moved = tf.where(tf.math.is_nan(known), now, 0.9 * known + 0.1 * now)
        return tf.where(tf.math.is_nan(now), known, moved)

    def _ramp(self) -> tf.Tensor | None:
        """Returns how much of `hard_fraction` this epoch has reached, float64 in [0, 1]; None: all of it."""
        if not self.options.hard_ramp_epochs:
            return None
        since = tf.cast(self.epoch - self.options.hard_warmup_epochs + 1, tf.float64)
        return tf.clip_by_value(since / (self.options.hard_ramp_epochs + 1), 0.0, 1.0)

    @property
    def _ranks(self) -> bool:
        """Whether the hard examples are the first of a ranking."""
        ranking = self.options.hard_choice in ("hardest", "easiest", "random")
        return ranking and self.options.hard_select == "topk"

    # ---- state and what is logged ---------------------------------------------------------------------

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Counts who was hard; keeps the running quantile, and what `hard_score=memory` remembers."""
        self.hard_share.update_state(batch.labels, examples.hard)
        self.hard_score.update_state(batch.labels, examples.scores)
        if self.options.hard_select == "quantile":
            ranked = selection.global_scores(self._ranked(examples.scores))
            self.threshold.assign(self._running_quantile(ranked))
        if self._remembers:
            own = losses.cross_entropy(logits[: batch.labels.shape[0]], batch.labels)
            now = selection.global_scores(tf.cast(own, self.memory.dtype))
            index = selection.global_scores(batch.index)
            self.memory.assign(tf.tensor_scatter_nd_update(self.memory, index[:, None], now))

    def _add_metrics(self) -> None:
        super()._add_metrics()
        self.hard_share = ClassMean("hard_share", self.num_classes)
        self.hard_score = ClassMean("hard_score", self.num_classes)

    @property
    def train_metrics(self) -> list[Any]:
        """Adds the share of hard examples and their mean score, by class."""
        return [*super().train_metrics, self.hard_share, self.hard_score]
