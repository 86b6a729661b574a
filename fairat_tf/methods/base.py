"""The training step that all methods share, and the hooks in which they differ.

    model = methods.get("pgd_at")(network, attack=attack, num_classes=10)
    model.compile(optimizer=SGD(0.1, momentum=0.9, weight_decay=5e-4))
    model.fit(batches, validation_data=validation)

A method is a `keras.Model` around the network that is to be trained (`model.network`, which is
what is saved and served). `train_step` is a template:

    batch -> `training_batch` (what to train on) -> `per_example_loss` -> divide by the size of the
    global batch -> gradient -> optimiser -> EMA -> `observe` -> metrics

    `per_example_loss`: class weight * (a * error + b * beta * boundary), with error, boundary and beta
    from the method's `objective` (PGD-AT, TRADES, MART) and (a, b) from `term_weights`

AWP, the moving average, label smoothing and class weights stand here, so every method has them.

Mixed images (`data.pipeline`, `--mix`) come with label distributions: the hooks then get these, float32
[B, K], where they get labels otherwise (`Batch.truth`). Attack and loss follow the distribution, and what
belongs to a class (`of_class`: weight, radius, smoothing) is its mean under the distribution. Class-wise
metrics of training count a mixed image for the class with the largest share. Validation mixes nothing.

The loss is a sum over examples divided by the number of examples in the *global* batch: a mean
over the replica's own examples would step N times too far with N replicas. While examples are
attacked BatchNorm runs in inference mode (moving statistics, which do not change); the one pass
that is differentiated runs in training mode.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import config, optimization, rng
from fairat_tf.methods import awp, moving_statistics
from fairat_tf.methods import class_weights as weighting
from fairat_tf.methods.batches import Batch, Examples, plain_examples, unpack
from fairat_tf.methods.measuring import Measured, first_attack_counted
from fairat_tf.methods.options import Plain
from fairat_tf.methods.training_attack import attack_for
from fairat_tf.networks.folding import prepared
from fairat_tf.networks.training_pass import training_pass
from fairat_tf.objectives import robust, selection
from fairat_tf.objectives.classwise import class_values


def replicas() -> int:
    """Returns the number of replicas that share the step."""
    return tf.distribute.get_strategy().num_replicas_in_sync


class Method(Measured):
    """A training method. Subclasses override hooks and name their options in `Options`.

    Args:
      network: any Keras model, images [B, H, W, C] in [0, 1] -> logits [B, K].
      attack: `attack(logits_fn, images, labels, seed, epsilon=None)`, used in training. With TRADES or a
        teacher it takes `loss=None` too, with `scale_steps` it is a dataclass with `scale_step`: as PGD.
      num_classes: K.
      seed: the run seed; with the step it decides all that is drawn.
      ema_decay: decay of the exponential moving average of all weights and BatchNorm statistics;
        0 means none. Where there is one, validation and export use it.
      validation_attack: attack used in `test_step`; None means `attack`.
      num_examples: size of the training set, for methods that remember each example.
      epochs: length of the run, of which warm-ups and switch points are fractions.
      awp_gamma: adversarial weight perturbation, relative to the weights (`methods.awp`); 0 means none.
      awp_warmup: share of the run without it at the beginning.
      label_smoothing: s: labels become (1 - s) * one-hot + s / K in the loss (not in the attack).
      class_label_smoothing: c: adds c * t_k to the s of class k, t_k its robust accuracy in training in the
        last epoch, so that hard classes keep the sharper labels (the direction of ABSLD, arXiv 2312.05508,
        which sharpens the teacher's labels of hard classes; the formula is ours).
      class_weights: "", K numbers, "inverse[:POWER]" or "hedge[:ETA]"; see `methods.class_weights`.
      **options: values for the fields of `Options`.
    """

    Options: type = Plain
    adversarial = True  # whether the batch is attacked, and so "robust" is what training shows
    scale_steps = False  # whether the attack's steps scale with the radius that `epsilon_for` gives
    gives_loss = False  # whether the attack is given what it maximises whatever the objective
    fine_tunes = False  # whether the method is meant to start from a trained network
    not_with_mix = ""  # the option that makes no sense with mixed images, if there is one

    def __init__(
        self,
        network: keras.Model,
        attack: Any,
        num_classes: int,
        seed: int = 0,
        ema_decay: float = 0.0,
        validation_attack: Callable[..., tf.Tensor] | None = None,
        num_examples: int = 0,
        epochs: int = 1,
        awp_gamma: float = 0.0,
        awp_warmup: float = 0.0,
        label_smoothing: float = 0.0,
        class_label_smoothing: float = 0.0,
        class_weights: str = "",
        **options: Any,
    ):
        super().__init__(name=type(self).__name__.lower())
        self.options = self.Options(**options)
        config.check(self.options)
        if not 0.0 <= ema_decay < 1.0:
            raise ValueError(f"ema_decay must be in [0, 1); received {ema_decay!r}")
        if not 0.0 <= label_smoothing + class_label_smoothing <= 1.0:
            raise ValueError(
                "label_smoothing + class_label_smoothing must be in [0, 1]; received "
                f"{label_smoothing!r} + {class_label_smoothing!r}"
            )
        self.objective = self.options.objective()
        self.network = network
        self.attack = attack_for(self, attack)
        self.validation_attack = validation_attack or attack
        self.num_classes = num_classes
        self.seed = seed
        self.ema_decay = ema_decay
        self.num_examples = num_examples
        self.epochs = epochs
        self.awp_gamma, self.awp_warmup = awp_gamma, awp_warmup
        self.label_smoothing, self.class_label_smoothing = label_smoothing, class_label_smoothing
        self.class_weights = class_weights
        self.ema_network: Any = optimization.copy_of(network) if ema_decay else None
        self.epoch = self._state("epoch", (), "int32")
        self.class_accuracy = self._state("class_accuracy", (num_classes,))
        self.class_weight = self._state("class_weight", (num_classes,), initial=1.0)
        if class_weights:
            self.class_weight.assign(weighting.first(class_weights, num_classes))
        if weighting.follows_losses(class_weights):
            self.total_losses = self._state("total_losses", (num_classes + 1,))
        self._add_metrics()
        self.built = True

    def _state(
        self, name: str, shape: tuple[int, ...], dtype: str | None = None, initial: float = 0.0
    ) -> Any:
        """Returns a variable, equal on every replica, that checkpoints hold; dtype None: Keras' float."""
        return keras.Variable(
            initializer=keras.initializers.Constant(initial),
            shape=shape,
            dtype=dtype or keras.config.floatx(),
            trainable=False,
            synchronization="on_read",
            aggregation="only_first_replica",
            name=name,
        )

    # ---- what a method may change -------------------------------------------------------------

    def training_batch(self, batch: Batch, seed: rng.Seed) -> Examples:
        """Returns what to train on; here: every example attacked (PGD-AT)."""
        adversarial = self.attacked(batch.images, batch.truth, rng.fold(seed, "attack"))
        return plain_examples(batch, adversarial)

    def per_example_loss(self, examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (loss [M], logits [M, K] of the examples) of the pass that is differentiated."""
        labels = examples.truth
        natural = self.forward(examples.natural, examples) if self.objective.needs_natural else None
        logits = self.forward(examples.images, examples)
        terms = self.objective.terms(logits, natural, labels, self.targets(examples))
        on_error, on_boundary = self.term_weights(examples, logits, terms)
        loss = on_error * terms.error + on_boundary * self.objective.beta * terms.boundary
        if self.class_weights:
            loss *= tf.cast(self.of_class(self.class_weight, labels), loss.dtype)
        return loss, logits

    def forward(self, images: tf.Tensor, examples: Examples) -> tf.Tensor:
        """Returns the logits [M, K] of `images`, the examples' own or natural, in training mode."""
        return training_pass(self.network)(images)

    def term_weights(self, examples: Examples, logits: tf.Tensor, terms: robust.Terms) -> tuple[Any, Any]:
        """Returns the weights of error and boundary term, [M] or floats; do not let gradients through."""
        return 1.0, 1.0

    def targets(self, examples: Examples) -> tf.Tensor:
        """Returns what the loss trains towards: the labels (int32 [M] or mixed [M, K]), or smoothed ones."""
        amount = self.smoothing(examples)
        if amount is None:
            return examples.truth
        return robust.smoothed(examples.truth, amount, self.num_classes)

    def smoothing(self, examples: Examples) -> Any:
        """Returns the share of each label that is spread over all classes, [M]; None: no label is."""
        if not self.label_smoothing and not self.class_label_smoothing:
            return None
        by_class = self.of_class(self.class_accuracy, examples.truth)
        return self.label_smoothing + self.class_label_smoothing * by_class

    def attack_objective(
        self, images: tf.Tensor, labels: tf.Tensor, logits_fn: Callable[..., tf.Tensor] | None = None
    ) -> Callable[..., tf.Tensor] | None:
        """Returns what the attack in training maximises, (logits, labels) -> [B]; None: the attack's own."""
        return self.objective.attack_loss(lambda: (logits_fn or self.inference)(images))

    def epsilon_for(self, labels: tf.Tensor) -> Any:
        """Returns the radius for each example, [B] or a float; None means the attack's own."""
        return None

    def class_shares(self) -> np.ndarray | None:
        """Returns with which probability the coming epoch draws each class, [K]; None: no drawing.

        Called on the host when an epoch begins or goes on; it must not change in between.
        """
        return None

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Sees what the step did, to keep state of its own; called after the weights were updated."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Is called on the host before an epoch (counted from 0)."""
        self.epoch.assign(epoch)

    def on_epoch_end(self, epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Is called on the host after an epoch with its class-wise values, metric name -> float [K].

        `validation` is empty where there was none. The accuracy of a class without an example (NaN) becomes
        the mean of the known ones. Subclasses call this one too.

        Raises:
          ValueError: the class weights follow validation, and there was none.
        """
        accuracy = weighting.unknown_as_mean(train[self.train_confusion.name])
        self.class_accuracy.assign(accuracy)
        if weighting.follows_losses(self.class_weights):
            self.total_losses.assign(self.total_losses + self.validation_losses(validation))
            total = keras.ops.convert_to_numpy(self.total_losses)
            self.class_weight.assign(weighting.by_losses(self.class_weights, total))
        elif (weights := weighting.by_accuracy(self.class_weights, accuracy)) is not None:
            self.class_weight.assign(weights)

    @property
    def passes(self) -> float:
        """About how many gradient passes over the batch one step costs, for estimates of time."""
        attack = float(getattr(self.attack, "steps", 10)) + 0.5 * self.objective.attacks_prediction
        return attack + self.training_passes

    @property
    def training_passes(self) -> float:
        """The part of `passes` that comes after the attack; a gradient by the weights counts 1.5."""
        return 1.5 * (1 + self.objective.needs_natural) * (2 if self.awp_gamma else 1)

    # ---- the template ---------------------------------------------------------------------------

    def attacked(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: rng.Seed,
        logits_fn: Callable[..., tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Returns adversarial examples against the network as it is, BatchNorm in inference mode.

        `logits_fn` stands in place of `inference` for a network with other BatchNorm for some rows.
        """
        path = {} if logits_fn is None else {"logits_fn": logits_fn}
        loss = self.attack_objective(images, labels, **path)
        own = {} if loss is None else {"loss": loss}
        adversarial = self.attack(
            logits_fn or self.inference, images, labels, seed, epsilon=self.epsilon_for(labels), **own
        )
        self.count_stuck(images, adversarial, labels, seed, self.epsilon_for(labels))
        return tf.stop_gradient(adversarial)

    def of_class(self, values: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns the value of each example's class, [B], from a variable or tensor [K].

        `labels` are int32 [B], or the distributions [B, K] of mixed images: their mean value then.
        """
        return class_values(tf.convert_to_tensor(values), labels)

    def epoch_at(self, fraction: float) -> int:
        """Returns the epoch, from 0, with which the part of the run after `fraction` of it begins."""
        return int(fraction * self.epochs + 0.5)

    @property
    def inference(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Images -> the training network's logits, BatchNorm in inference mode, with the weights as they are.

        Taking it prepares the network (`networks.folding`): take it once for all steps of an attack.
        """
        return prepared(self.network)

    @property
    def training_network(self) -> keras.Model:
        """The network with all variables of training; its `trainable_variables` are the optimiser's."""
        return self.network

    @property
    def evaluated_network(self) -> keras.Model:
        """The network that is validated, saved and exported: the moving average where there is one."""
        return self.ema_network or self.network

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logits [B, K] of the evaluated network (of the network itself in training)."""
        return (
            self.network(images, training=True)
            if training
            else self.evaluated_network(images, training=False)
        )

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Runs one step of training on a batch and returns the training metrics."""
        batch = unpack(data, training=True)
        seed = rng.key(self.seed, "train_step", self.optimizer.iterations)
        with first_attack_counted():
            examples = self.training_batch(batch, seed)
        variables = self.training_network.trainable_variables
        with self._perturbed_weights(examples):
            gradients, loss, logits = self._gradients(examples)
        self.optimizer.apply(gradients, variables)
        moving_statistics.share(moving_statistics.kept_apart_in(self.training_network))
        if self.ema_network is not None:
            self._update_ema()
        self._update_train_metrics(batch, examples, loss, logits)
        self.observe(batch, examples, loss, logits)
        return self.results(self.train_metrics)

    def _gradients(self, examples: Examples) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Returns (gradients of this replica's share of the loss, loss [M], logits [M, K])."""
        with tf.GradientTape() as tape:
            loss, logits = self.per_example_loss(examples)
            objective = self._share_of_mean(loss, examples)
        return tape.gradient(objective, self.training_network.trainable_variables), loss, logits

    @contextlib.contextmanager
    def _perturbed_weights(self, examples: Examples) -> Iterator[None]:
        if not self.awp_gamma:
            yield
            return
        gamma = tf.where(self.epoch >= self.epoch_at(self.awp_warmup), self.awp_gamma, 0.0)
        with awp.perturbed(self.training_network, lambda: self._gradients(examples)[0], gamma):
            yield

    def _share_of_mean(self, loss: tf.Tensor, examples: Examples) -> tf.Tensor:
        """Returns this replica's part of the mean over the global batch, plus regularisation losses."""
        present = tf.cast(examples.present, loss.dtype)
        count = tf.reduce_sum(selection.global_scores(present))
        value = tf.reduce_sum(loss * present) / tf.maximum(count, 1.0)
        if self.training_network.losses:
            value += tf.add_n(self.training_network.losses) / replicas()
        return value

    def _update_ema(self) -> None:
        optimization.ema_update(self.ema_network.variables, self.network.variables, self.average_decay())

    def average_decay(self) -> tf.Tensor:
        """Returns the decay of the moving average in this step, scalar."""
        return optimization.ema_decay(self.ema_decay, self.optimizer.iterations)
