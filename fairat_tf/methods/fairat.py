"""FairAT: augment the hard examples of every batch.

    model = FairAT(network, attack=attack, num_classes=10, hard_fraction=0.5)

Mou, Yue, Zhao, Wang, "Fairness is essential for robustness: fair adversarial training by
identifying and augmenting hard examples", Frontiers of Computer Science 2025, 19(3):193803.

Known (abstract and the authors' press text; the full text is not public): FairAT improves vanilla
adversarial training; hard examples are those with higher cross-entropy; they are found and
augmented dynamically, throughout training; it costs more than adversarial training.
Inferred: the loss is PGD-AT's cross-entropy; only the hard part is augmented, because the same
authors report that augmenting balanced data as a whole does not help; AutoAugment or RandAugment,
which their other code uses. Unknown: whether the cross-entropy is taken on natural or adversarial
examples, the share or threshold, replace or append, whether the new view is attacked again.
Each unknown is an option below; `loss` puts TRADES or MART in place of the cross-entropy of steps 1, 5
and 6 (a combination of ours), and AWP, moving average and class weights combine as with every method.
The default reading:

    for each batch (x, y):
      1. x' <- PGD(x, y)                                BatchNorm in inference mode
      2. s_i <- cross-entropy(f(x'_i), y_i)             no gradient
      3. H <- the max(1, round(r * B)) examples with the highest s_i
      4. v_H <- A(x_H)                                  more diverse views of the hard examples
      5. v'_H <- PGD(v_H, y_H)                          attacked again: a valid ball around the new view
      6. replace rows H of x' by v'_H; loss <- mean cross-entropy of all rows

With `split_bn` the augmented rows have BatchNorm statistics and affine parameters of their own
(`methods.split_norm`): in step 5, where the views are attacked, and in step 6, where both kinds pass
together. Scores, validation, saving and export use the main ones, those of the plain rows; the leak
diagnostic below reads views by their own. Until there are views the second set follows the first. It needs
`hard_combine=append`: where views replace the hard examples, the main set is trained on easy examples
alone, and the evaluated network fails on a hard class (tried on three drawn classes: one stayed at 0).

Without it, BatchNorm also sees the rows of `append` that only fill the static shape (warm-up, ramp, and
selections whose size varies); the loss never does.

Mixed images (`--mix`) are scored by what their cross-entropy exceeds the entropy of their label by, which is
the cross-entropy itself for a label of one class: else an even mixture would be hard by its label alone.

A warning that every reading with a label-dependent score shares: the marks of augmentation tell
the network that its own first guess is wrong for this image, and it can learn to read the marks.
The alarm is `augmented_when_right`, logged every epoch: the accuracy on validation images that
were augmented at random (so the marks mean nothing), among those whose plain view is classified
rightly. Label-free scores (`entropy`, `margin`) and `easy_fraction` are the ways out.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fairat_tf import augment, errors, rng
from fairat_tf.config import option
from fairat_tf.methods.base import replicas
from fairat_tf.methods.batches import Batch, Examples, plain_examples, replaced
from fairat_tf.methods.hard import HardOptions, WithHardExamples
from fairat_tf.methods.views import WithViews
from fairat_tf.metrics.classwise import ClassMean
from fairat_tf.objectives import selection


class Hard(NamedTuple):
    """The examples to augment: `rows` int32 [m] of the batch; `member` bool [m] says which count."""

    rows: tf.Tensor
    member: tf.Tensor


class FairAT(WithHardExamples, WithViews):
    """Fair adversarial training; see the module for the algorithm and what is known of it."""

    @dataclasses.dataclass(frozen=True)
    class Options(HardOptions):
        """`HardOptions` say who is hard; these, what becomes of them."""

        easy_fraction: float = option(
            0.0, "share of the other examples that are augmented too", low=0.0, high=1.0
        )
        hard_combine: str = option(
            "replace", "train on the new view instead of the old or beside it", choices=("replace", "append")
        )
        hard_reattack: bool = option(True, "attack the new view (else augment the PGD example itself)")
        augmentation: str = option("randaugment:2,8", "what makes the hard examples more diverse")
        split_bn: bool = option(False, "BatchNorm of their own for augmented examples, in training alone")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.options.split_bn and self.options.hard_combine != "append":
            raise ValueError(
                "split_bn needs hard_combine=append: where views replace the hard examples, the BatchNorm "
                "that is evaluated never sees a hard example"
            )
        self.augmentation = augment.get(self.options.augmentation)

    # ---- the algorithm ----------------------------------------------------------------------------

    def training_batch(self, batch: Batch, seed: rng.Seed) -> Examples:
        """Returns the batch with its hard examples augmented (steps 1 to 6 of the module's box)."""
        images, truth = batch.images, batch.truth
        attack_seed, size = rng.fold(seed, "attack"), batch.size
        adversarial = self.attacked(images, truth, attack_seed) if self._attacks_first else None  # 1
        scores = self.scores(batch, adversarial, attack_seed)  # 2
        chosen = self.chosen(scores, batch.labels, seed)  # 3
        hard = self._augmented(chosen, seed)
        rows_seed = rng.take(rng.fold(seed, "augmentation"), hard.rows, size)
        drawn = self.augmentation.draw(rows_seed, hard.rows.shape[0], tuple(images.shape[1:]))
        views, row_truth = self._view(tf.gather(images, hard.rows), drawn), tf.gather(truth, hard.rows)  # 4
        if not self.options.hard_reattack:
            attacked = self._view(tf.gather(adversarial, hard.rows), drawn)
        elif self._attacks_first:
            view_seed = rng.take(rng.fold(seed, "attack the views"), hard.rows, size)
            attacked = self.attacked(views, row_truth, view_seed, self.view_logits)  # 5
        else:
            attacked = None
        if self.options.hard_combine == "append":
            row_labels, present = tf.gather(batch.labels, hard.rows), tf.cast(hard.member, tf.float32)
            behind = self._shared_out([views, attacked, row_labels, row_truth, present], size)
            return self._with_views_behind(batch, adversarial, behind, chosen, scores)
        natural = replaced(images, views, *hard)
        train_on = (
            self.attacked(natural, truth, attack_seed)  # one attack on old and new views
            if attacked is None
            else replaced(adversarial, attacked, *hard)  # 6
        )
        examples = plain_examples(batch, train_on)
        return examples._replace(natural=natural, hard=chosen, scores=scores)

    def _with_views_behind(
        self, batch: Batch, adversarial: tf.Tensor, behind: list[Any], chosen: tf.Tensor, scores: tf.Tensor
    ) -> Examples:
        """Returns the batch attacked, and behind it the rows of the views that `_shared_out` returns."""
        views, attacked, labels, truth, present = behind
        size = batch.size
        return Examples(
            images=tf.concat([adversarial, attacked], 0),
            natural=tf.concat([batch.images, views], 0),
            labels=tf.concat([batch.labels, labels], 0),
            present=tf.concat([tf.ones(size), present], 0),
            hard=chosen,
            scores=scores,
            soft=None if batch.soft is None else tf.concat([batch.soft, truth], 0),
            views=tf.concat([tf.zeros([size], tf.bool), present > 0], 0),
        )

    @property
    def _attacks_first(self) -> bool:
        """Whether the batch must be attacked before anything is augmented."""
        options = self.options
        return options.hard_score == "adv" or options.hard_combine == "append" or not options.hard_reattack

    @property
    def passes(self) -> float:
        """PGD-AT's passes, one to score, the attack on the new views, and training on those appended.

        The rows of views are as many as the static shape has, whether or not all of them count.
        """
        options, views = self.options, self.options.hard_fraction if self._fixed_number else 1.0
        again = views * float(getattr(self.attack, "steps", 10))
        attacks = again if self._attacks_first and options.hard_reattack else 0.0
        trained = views * self.training_passes if options.hard_combine == "append" else 0.0
        return super().passes + 0.5 * (not self._remembers) + attacks + trained

    def _augmented(self, chosen: tf.Tensor, seed: rng.Seed) -> Hard:
        """Returns the rows to augment: the hard first, then `easy_fraction` of the others."""
        options, size, first = self.options, chosen.shape[0], tf.cast(chosen, tf.int32)
        if options.easy_fraction:
            easy = rng.uniform(rng.fold(seed, "easy"), [size]) < options.easy_fraction
            chosen = chosen | easy & (self.epoch >= options.hard_warmup_epochs)
        rows = tf.math.top_k(first + tf.cast(chosen, tf.int32), self._most_rows(size)).indices
        return Hard(rows, tf.gather(chosen, rows))

    @property
    def _fixed_number(self) -> bool:
        """Whether every batch has the same number of rows to augment."""
        return self._ranks and not self.options.easy_fraction

    def _shared_out(self, rows: list[Any], size: int) -> list[Any]:
        """Returns the rows to append (`rows[-1]`: which of them count), all replicas' in equal parts.

        A replica may hold all hard examples of the global batch or none. What fills its rows up would not
        count in the loss, but BatchNorm would see it, and more of it the more replicas there are.
        """
        if replicas() == 1 or not self._fixed_number or self.options.hard_group:
            return rows
        total = self._appended(size * replicas(), replicas())
        everyone = [selection.global_scores(values) for values in rows]
        first = tf.math.top_k(tf.cast(everyone[-1] > 0, tf.int32), total).indices
        own = selection.local(first, total // replicas())
        return [tf.gather(values, own) for values in everyone]

    def _appended(self, size: int, devices: int) -> int:
        """Returns how many rows a global batch appends, the same number on every device."""
        total = selection.count_of(self.options.hard_fraction, size)
        if total % devices:
            raise errors.UsageError(
                f"hard_combine=append: the {total} hard examples of a batch must be a multiple of the "
                f"{devices} devices; choose another hard_fraction or batch_size"
            )
        return total

    def check_batch(self, size: int, devices: int) -> None:
        """Checks, too, that what is appended can be shared out among the devices."""
        super().check_batch(size, devices)
        if self.options.hard_combine == "append" and self._fixed_number and not self.options.hard_group:
            self._appended(size, devices)

    def _most_rows(self, size: int) -> int:
        """Returns how many of a replica's rows can be chosen at most: shapes are static."""
        options = self.options
        if not self._fixed_number:
            return size
        if options.hard_group:
            return size // options.hard_group * selection.count_of(options.hard_fraction, options.hard_group)
        return min(size, selection.count_of(options.hard_fraction, size * replicas()))

    def _view(self, images: tf.Tensor, drawn: Any) -> tf.Tensor:
        """Returns the images augmented as drawn; augmentation computes in float32."""
        return tf.cast(self.augmentation.apply(tf.cast(images, tf.float32), drawn), images.dtype)

    # ---- state and what is logged ---------------------------------------------------------------------

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Lets the views' BatchNorm follow the main one until there are views to train on."""
        super().on_epoch_end(epoch, train, validation)
        warm = epoch < self.options.hard_warmup_epochs
        if warm or not (self.options.easy_fraction or np.nansum(train["hard_share"])):
            self.no_views_yet()

    def observe_validation(self, batch: Batch, logits_fn: Any, right: tf.Tensor) -> None:
        """Augments validation images at random: does the network read the marks of augmentation?"""
        views = self.augmentation(
            tf.cast(batch.images, tf.float32), self.validation_seed(batch, "leak diagnostic")
        )
        views = tf.cast(views, batch.images.dtype)
        hit = tf.argmax(self.evaluated_view_logits(logits_fn)(views), -1, tf.int32) == batch.labels
        right = tf.cast(right, tf.float32)
        self.augmented_right.update_state(batch.labels, hit, batch.mask * right)
        self.augmented_wrong.update_state(batch.labels, hit, batch.mask * (1.0 - right))

    def _add_metrics(self) -> None:
        super()._add_metrics()
        self.augmented_right = ClassMean("augmented_when_right", self.num_classes)
        self.augmented_wrong = ClassMean("augmented_when_wrong", self.num_classes)

    @property
    def validation_metrics(self) -> list[Any]:
        """Adds the leak diagnostic (see the module)."""
        return [*super().validation_metrics, self.augmented_right, self.augmented_wrong]
