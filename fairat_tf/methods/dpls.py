"""DPLS: label smoothing in proportion to how hard an example is.

    model = DPLS(network, attack=attack, num_classes=10, num_examples=50000, epochs=110)

The idea is that of Lee, Lee, Bae, Yoon, "Regularizing Hard Examples Improves Adversarial Robustness", JMLR
26 (2025): in adversarial training hard examples are fitted by memorising their labels, to the harm of
robustness; labels are smoothed in proportion to difficulty, which spares a threshold for leaving hard
examples out. It is the evidence against FairAT's direction, which gives hard examples more weight in kind.

**The formula is ours**: of the paper only the abstract is known to us, neither its measure of difficulty
(its algorithm 2) nor its constants. What is called `dpls` here is

    d_i <- m d_i + (1 - m) (1 - q_y(x'_i))     after each step on example i; q: probability under attack
    s_i  = strength * d_i                      0 in the warm-up, and before the example was seen
    labels (1 - s_i) * one-hot + s_i / K       in the loss, not in the attack

so that an example which is never right under attack ends with s = strength, and one that is always
right with confidence near 0. strength = 0 is the base loss. `--label_smoothing` adds to s_i.

Defaults, chosen by us and not tuned: strength 0.5, m 0.5, warm-up of 10 % of the run.
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


class DPLS(Method):
    """Difficulty-proportional label smoothing; see the module."""

    not_with_mix = "method=dpls"  # a mixture is another one in every epoch

    @dataclasses.dataclass(frozen=True)
    class Options(WithLoss):
        """Strength and memory of the smoothing."""

        dpls_strength: float = option(
            0.5, "share of the label that is spread where an example is never right", low=0.0, high=1.0
        )
        dpls_memory: float = option(
            0.5, "weight of an example's earlier epochs in its difficulty", low=0.0, high=1.0, open_high=True
        )
        dpls_warmup: float = option(0.1, "share of the run without smoothing", low=0.0, high=1.0)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not self.num_examples:
            raise ValueError("dpls needs num_examples, the size of the training set; received 0")
        # -1: not seen yet
        self.difficulty = self._state("difficulty", (self.num_examples,), initial=-1.0)

    def training_batch(self, batch: Batch, seed: rng.Seed) -> Examples:
        """Returns the examples attacked, with their difficulty as `scores` (0 for those not seen yet)."""
        if batch.index is None:
            raise ValueError("dpls needs batches that carry `index`, the row of each example")
        known = tf.gather(tf.convert_to_tensor(self.difficulty), batch.index)
        return super().training_batch(batch, seed)._replace(scores=tf.maximum(known, 0.0))

    def smoothing(self, examples: Examples) -> Any:
        """Returns s_i, [M], and what the general options add."""
        others = super().smoothing(examples)
        if not self.options.dpls_strength:
            return others
        started = self.epoch >= self.epoch_at(self.options.dpls_warmup)
        own = tf.where(started, self.options.dpls_strength * examples.scores, 0.0)
        return own if others is None else tf.minimum(own + others, 1.0)

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Remembers how hard each example was."""
        known = tf.gather(tf.convert_to_tensor(self.difficulty), batch.index)
        right = tf.exp(-losses.cross_entropy(logits, examples.labels))
        doubt = 1.0 - tf.cast(right, known.dtype)
        memory = self.options.dpls_memory
        now = tf.where(known < 0.0, doubt, memory * known + (1.0 - memory) * doubt)
        self.seen_difficulty.update_state(batch.labels, now)
        index, values = selection.global_scores(batch.index), selection.global_scores(now)
        self.difficulty.assign(tf.tensor_scatter_nd_update(self.difficulty, index[:, None], values))

    def _add_metrics(self) -> None:
        super()._add_metrics()
        self.seen_difficulty = ClassMean("difficulty", self.num_classes)

    @property
    def train_metrics(self) -> list[Any]:
        """Adds the mean difficulty by class."""
        return [*super().train_metrics, self.seen_difficulty]
