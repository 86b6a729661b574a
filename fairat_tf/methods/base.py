"""The training step that all methods share, and the hooks in which they differ.

    model = methods.get("pgd_at")(network, attack=attack, num_classes=10)
    model.compile(optimizer=SGD(0.1, momentum=0.9, weight_decay=5e-4))
    model.fit(batches, validation_data=validation)

A method is a `keras.Model` around the network that is to be trained (`model.network`, which is
what is saved and served). `train_step` is a template:

    batch -> `training_batch` (what to train on) -> `per_example_loss` -> divide by the size of the
    global batch -> gradient -> optimiser -> EMA -> `observe` -> metrics

The loss is a sum over examples divided by the number of examples in the *global* batch: a mean
over the replica's own examples would step N times too far with N replicas. While examples are
attacked BatchNorm runs in inference mode (moving statistics, which do not change); the one pass
that is differentiated runs in training mode.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from fairat_tf import config, optimization, rng
from fairat_tf.attacks.pgd import misclassified
from fairat_tf.metrics.classwise import ClassMean, Confusion
from fairat_tf.objectives import losses, selection


class Batch(NamedTuple):
    """What comes in: images [B, H, W, C] in [0, 1], labels int32 [B], index int32 [B], mask [B].

    `index` is the example's row in the training set (None where the data does not tell);
    `mask` is 0 for the padding of an evaluation batch.
    """

    images: tf.Tensor
    labels: tf.Tensor
    index: tf.Tensor | None
    mask: tf.Tensor


class Examples(NamedTuple):
    """What is trained on: M rows, the first B of which belong to the batch's own examples.

    `images` and `natural` are [M, H, W, C] (after and before the attack), `labels` int32 [M],
    `present` [M] is 1, or 0 for a row that only fills the static shape; `hard` bool [B] and
    `scores` [B] say who was found hard.
    """

    images: tf.Tensor
    natural: tf.Tensor
    labels: tf.Tensor
    present: tf.Tensor
    hard: tf.Tensor
    scores: tf.Tensor


def unpack(data: Any) -> Batch:
    """Returns the batch from a dict of `fairat_tf.data.pipeline` or an (images, labels) pair."""
    if not isinstance(data, dict):
        data = dict(zip(("image", "label"), data, strict=False))
    labels = tf.cast(data["label"], tf.int32)
    return Batch(
        images=data["image"],
        labels=labels,
        index=data.get("index"),
        mask=data.get("mask", tf.ones(tf.shape(labels))),
    )


def replicas() -> int:
    """Returns the number of replicas that share the step."""
    return tf.distribute.get_strategy().num_replicas_in_sync


class Method(keras.Model):
    """A training method. Subclasses override hooks and name their options in `Options`.

    Args:
      network: any Keras model, images [B, H, W, C] in [0, 1] -> logits [B, K].
      attack: `attack(logits_fn, images, labels, seed, epsilon=None)`, used in training.
      num_classes: K.
      seed: the run seed; with the step it decides all that is drawn.
      ema_decay: decay of the exponential moving average of all weights and BatchNorm statistics;
        0 means none. Where there is one, validation and export use it.
      validation_attack: attack used in `test_step`; None means `attack`.
      num_examples: size of the training set, for methods that remember each example.
      **options: values for the fields of `Options`.
    """

    @dataclasses.dataclass(frozen=True)
    class Options:
        """A method without options of its own."""

    adversarial = True  # whether the batch is attacked, and so "robust" is what training shows

    def __init__(
        self,
        network: keras.Model,
        attack: Callable[..., tf.Tensor],
        num_classes: int,
        seed: int = 0,
        ema_decay: float = 0.0,
        validation_attack: Callable[..., tf.Tensor] | None = None,
        num_examples: int = 0,
        **options: Any,
    ):
        super().__init__(name=type(self).__name__.lower())
        self.options = self.Options(**options)
        config.check(self.options)
        if not 0.0 <= ema_decay < 1.0:
            raise ValueError(f"ema_decay must be in [0, 1); received {ema_decay!r}")
        self.network = network
        self.attack = attack
        self.validation_attack = validation_attack or attack
        self.num_classes = num_classes
        self.seed = seed
        self.ema_decay = ema_decay
        self.num_examples = num_examples
        self.ema_network = _copy(network) if ema_decay else None
        self.epoch = self._state("epoch", (), "int32")
        self._add_metrics()
        self.built = True

    def _state(self, name: str, shape: tuple[int, ...], dtype: str = "float32", initial: float = 0.0) -> Any:
        """Returns a variable that every replica writes alike and that checkpoints hold."""
        return keras.Variable(
            initializer=keras.initializers.Constant(initial),
            shape=shape,
            dtype=dtype,
            trainable=False,
            synchronization="on_read",
            aggregation="only_first_replica",
            name=name,
        )

    def _add_metrics(self) -> None:
        view = "robust" if self.adversarial else "clean"
        self.train_loss = ClassMean("loss", self.num_classes)
        self.train_confusion = Confusion(view, self.num_classes)
        self.clean = Confusion("clean", self.num_classes)
        self.robust = Confusion("robust", self.num_classes)
        self.clean_loss = ClassMean("clean_loss", self.num_classes)
        self.robust_loss = ClassMean("robust_loss", self.num_classes)
        self.uncertainty = ClassMean("entropy", self.num_classes)

    # ---- what a method may change -------------------------------------------------------------

    def training_batch(self, batch: Batch, seed: rng.Seed) -> Examples:
        """Returns what to train on; here: every example attacked (PGD-AT)."""
        adversarial = self.attacked(batch.images, batch.labels, rng.fold(seed, "attack"))
        return plain_examples(batch, adversarial)

    def per_example_loss(self, examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (loss [M], logits [M, K]) of the pass that is differentiated; here: cross-entropy."""
        logits = self.network(examples.images, training=True)
        return losses.cross_entropy(logits, examples.labels), logits

    def epsilon_for(self, labels: tf.Tensor) -> Any:
        """Returns the radius for each example, [B] or a float; None means the attack's own."""
        return None

    def observe(self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor) -> None:
        """Sees what the step did, to keep state of its own; called after the weights were updated."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Is called on the host before an epoch (counted from 0)."""
        self.epoch.assign(epoch)

    def on_epoch_end(self, epoch: int, classwise: dict[str, Any]) -> None:
        """Is called on the host after an epoch with its class-wise values, name -> float [K]."""

    @property
    def passes(self) -> float:
        """About how many gradient passes over the batch one step costs, for estimates of time."""
        return float(getattr(self.attack, "steps", 10)) + 1.5

    # ---- the template ---------------------------------------------------------------------------

    def attacked(self, images: tf.Tensor, labels: tf.Tensor, seed: rng.Seed) -> tf.Tensor:
        """Returns adversarial examples against the network as it is, BatchNorm in inference mode."""
        adversarial = self.attack(self.inference, images, labels, seed, epsilon=self.epsilon_for(labels))
        return tf.stop_gradient(adversarial)

    def inference(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the training network's logits, BatchNorm in inference mode."""
        return self.network(images, training=False)

    @property
    def evaluated_network(self) -> keras.Model:
        """The network that is validated, saved and exported: the moving average where there is one."""
        return self.ema_network or self.network

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logits [B, K] of the evaluated network (of the network itself in training)."""
        return self.network(images, training=True) if training else self.evaluated_network(images, training=False)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Runs one step of training on a batch and returns the training metrics."""
        batch = unpack(data)
        seed = rng.key(self.seed, "train_step", self.optimizer.iterations)
        examples = self.training_batch(batch, seed)
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss, logits = self.per_example_loss(examples)
            objective = self._share_of_mean(loss, examples)
        self.optimizer.apply(tape.gradient(objective, variables), variables)
        if self.ema_network is not None:
            self._update_ema()
        self._update_train_metrics(batch, examples, loss, logits)
        self.observe(batch, examples, loss, logits)
        return self.results(self.train_metrics)

    def _share_of_mean(self, loss: tf.Tensor, examples: Examples) -> tf.Tensor:
        """Returns this replica's part of the mean over the global batch, plus regularisation losses."""
        present = tf.cast(examples.present, loss.dtype)
        value = tf.reduce_sum(loss * present) / tf.reduce_sum(selection.global_scores(present))
        if self.network.losses:
            value += tf.add_n(self.network.losses) / replicas()
        return value

    def _update_ema(self) -> None:
        decay = optimization.ema_decay(self.ema_decay, self.optimizer.iterations)
        optimization.ema_update(self.ema_network.variables, self.network.variables, decay)

    def _update_train_metrics(
        self, batch: Batch, examples: Examples, loss: tf.Tensor, logits: tf.Tensor
    ) -> None:
        size = tf.shape(batch.labels)[0]
        predictions = tf.argmax(logits[:size], -1, tf.int32)
        self.train_loss.update_state(examples.labels, loss, examples.present)
        self.train_confusion.update_state(batch.labels, predictions)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Runs one step of validation, clean and attacked, and returns the validation metrics."""
        batch = unpack(data)
        network = self.evaluated_network
        seed = rng.key(self.seed, "validation")

        def logits_fn(images: tf.Tensor) -> tf.Tensor:
            return network(images, training=False)

        adversarial = self.validation_attack(logits_fn, batch.images, batch.labels, seed)
        clean, robust = logits_fn(batch.images), logits_fn(adversarial)
        self.uncertainty.update_state(batch.labels, losses.entropy(clean), batch.mask)
        for logits, confusion, mean in (
            (clean, self.clean, self.clean_loss),
            (robust, self.robust, self.robust_loss),
        ):
            confusion.update_state(batch.labels, tf.argmax(logits, -1, tf.int32), batch.mask)
            mean.update_state(batch.labels, losses.cross_entropy(logits, batch.labels), batch.mask)
        self.observe_validation(batch, logits_fn, ~misclassified(clean, batch.labels))
        return self.results(self.validation_metrics)

    def observe_validation(self, batch: Batch, logits_fn: Callable[..., tf.Tensor], right: tf.Tensor) -> None:
        """Sees a validation batch and which of its plain images [B] were classified rightly."""

    # ---- metrics --------------------------------------------------------------------------------

    @property
    def train_metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that `train_step` updates."""
        return [self.train_loss, self.train_confusion]

    @property
    def validation_metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that `test_step` updates."""
        return [self.clean, self.robust, self.clean_loss, self.robust_loss, self.uncertainty]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All metrics of the method."""
        return [*self.train_metrics, *self.validation_metrics]

    @property
    def state(self) -> list[Any]:
        """All variables that a checkpoint needs: weights, method state, metric sums, optimiser."""
        sums = [variable for metric in self.metrics for variable in metric.variables]
        return [*self.variables, *sums, *self.optimizer.variables]

    def results(self, metrics: list[keras.metrics.Metric]) -> dict[str, tf.Tensor]:
        """Returns the scalars of the metrics, by name."""
        results: dict[str, tf.Tensor] = {}
        for metric in metrics:
            value = metric.result()
            results.update(value if isinstance(value, dict) else {metric.name: value})
        return results

    def classwise(self, metrics: list[keras.metrics.Metric]) -> dict[str, Any]:
        """Returns the class-wise values of the metrics, name -> NumPy float [K]."""
        return {metric.name: metric.per_class() for metric in metrics}


def plain_examples(batch: Batch, images: tf.Tensor) -> Examples:
    """Returns examples of which none is marked as hard: `images` in place of the batch's own."""
    size = tf.shape(batch.labels)
    return Examples(
        images=images,
        natural=batch.images,
        labels=batch.labels,
        present=tf.ones(size),
        hard=tf.zeros(size, tf.bool),
        scores=tf.zeros(size),
    )


def _copy(network: keras.Model) -> keras.Model:
    copied = keras.models.clone_model(network)
    copied.set_weights(network.get_weights())
    copied.trainable = False
    return copied
