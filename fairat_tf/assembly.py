"""From a configuration to live objects: network, attacks, optimiser, method, batches.

dataset = data.load("street_digits")
parts = assemble(config, dataset)
parts.method.fit(parts.training(Position()), epochs=1)
"""

import dataclasses
import logging
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import (
    attacks,
    augment,
    data,
    devices,
    errors,
    methods,
    model_files,
    networks,
    optimization,
    recipes,
)
from fairat_tf.config import Config
from fairat_tf.data import pipeline
from fairat_tf.data.dataset import Dataset, Split
from fairat_tf.data.specs import spec
from fairat_tf.evaluation import kept_apart
from fairat_tf.methods.base import Method
from fairat_tf.training_loop import Position

# Fields of `config.Optimization` that are arguments of every method.
_FOR_EVERY_METHOD = (
    "epochs",
    "ema_decay",
    "awp_gamma",
    "awp_warmup",
    "label_smoothing",
    "class_label_smoothing",
    "class_weights",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What a run is made of. `config` is complete: nothing in it is None any more."""

    config: Config
    dataset: Dataset
    train: Split
    validation_split: Split
    strategy: tf.distribute.Strategy
    method: Method
    weak: Any
    mix: Any

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return pipeline.steps_per_epoch(self.train, self.config.data.batch_size)

    def training(self, position: Position) -> tf.data.Dataset:
        """Returns the batches that are left of an epoch."""
        return pipeline.training_batches(
            self.train,
            batch_size=self.config.data.batch_size,
            seed=self.config.run.seed,
            epoch=position.epoch,
            first_step=position.step,
            augment=self.weak,
            mix=self.mix,
            class_shares=self.method.class_shares(),
        )

    def validation(self) -> tf.data.Dataset:
        """Returns the validation batches, the last one padded and masked."""
        return pipeline.evaluation_batches(self.validation_split, batch_size=self.config.data.batch_size)


def load(config: Config) -> Dataset:
    """Returns the data set that the configuration names."""
    wanted = config.data
    return data.load(
        wanted.dataset,
        data_dir=wanted.data_dir,
        download=wanted.download,
        image_size=wanted.image_size,
        limit_train=wanted.limit_train,
        limit_test=wanted.limit_test,
        seed=config.run.seed,
    )


def completed(config: Config, dataset: Dataset) -> Config:
    """Returns the configuration with its open fields filled from the data set's recipe."""
    return recipes.completed(config, spec(config.data.dataset, dataset))


def assemble(config: Config, dataset: Dataset) -> Parts:
    """Returns all parts of a run; the method is compiled and its optimiser built.

    Raises:
      ValueError: a name or a value that does not fit (each message says which and what would).
    """
    config = completed(config, dataset)
    train, validation = _splits(config, dataset)
    steps = pipeline.steps_per_epoch(train, config.data.batch_size)
    strategy = devices.strategy(config.run.devices)
    if config.data.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"batch_size {config.data.batch_size} must be a multiple of the "
            f"{strategy.num_replicas_in_sync} devices"
        )
    if config.run.jit_compile and strategy.num_replicas_in_sync > 1:
        raise ValueError("jit_compile needs --devices=1: XLA cannot hold the variables of several devices")
    with strategy.scope():
        network = make_network(config, dataset, synchronized_bn=_synchronized(config, strategy))
        method = make_method(config, network, dataset.num_classes, len(train))
        method.check_batch(config.data.batch_size, strategy.num_replicas_in_sync)
        method.compile(optimizer=make_optimizer(config, steps), jit_compile=config.run.jit_compile)
        method.optimizer.build(method.training_network.trainable_variables)
    if method.fine_tunes and not config.network.init_from:
        logging.warning("%s is meant to start from a trained network: --init_from=RUN", config.method)
    unseen = kept_apart.unseen_by_first(config) if dataset.validation is None else ""
    if unseen:
        logging.warning("--init_from was trained on examples that are to validate this run; give %s", unseen)
    if config.run.precision == "bfloat16" and devices.emulates_bfloat16():
        logging.warning("this processor has no fast bfloat16; --precision=float32 is several times as fast")
    weak = augment.get(config.data.weak_augmentation)
    mix = augment.get_mixing(config.data.mix, dataset.num_classes, config.data.mix_probability)
    if mix is not None and method.not_with_mix:
        raise ValueError(f"mix={config.data.mix} does not go with {method.not_with_mix}")
    return Parts(config, dataset, train, validation, strategy, method, weak, mix)


def _synchronized(config: Config, strategy: tf.distribute.Strategy) -> bool:
    return config.run.batch_norm == "synchronized" and strategy.num_replicas_in_sync > 1


def _splits(config: Config, dataset: Dataset) -> tuple[Split, Split]:
    if dataset.validation is not None:
        return dataset.train, dataset.validation
    fraction = config.data.validation_fraction
    train, validation = data.split_validation(dataset.train, fraction, config.run.seed, dataset.num_classes)
    if not len(validation):
        raise data.DataError(
            f"{dataset.name} train: no class has the two examples of which one could be kept for validation"
        )
    return train, validation


def make_network(config: Config, dataset: Dataset, synchronized_bn: bool = False) -> keras.Model:
    """Returns the network of the configuration, with weights from `init_from` where it is given."""
    facts = spec(config.data.dataset, dataset)
    with devices.precision(config.run.precision):
        network = networks.get(config.network.network)(
            num_classes=dataset.num_classes,
            image_shape=dataset.image_shape,
            mean=facts.mean,
            std=facts.std,
            width=config.network.width or None,
            synchronized_bn=synchronized_bn,
            seed=config.run.seed,
        )
    if config.network.init_from:
        copy_weights(config.network.init_from, network)
    return network


def copy_weights(path: str, network: keras.Model) -> None:
    """Gives `network` the weights of a run directory or `.keras` file.

    Raises:
      ValueError: no Keras model there, or one with other weights; the message names both.
    """
    source = model_files.load(path).keras_model
    if source is None:
        raise ValueError(f"init_from must be a run directory or .keras file; {path} holds no Keras model")
    theirs, ours = ([tuple(w.shape) for w in model.get_weights()] for model in (source, network))
    if theirs != ours:
        other = next(((a, b) for a, b in zip(theirs, ours, strict=False) if a != b), (len(theirs), len(ours)))
        raise ValueError(
            f"init_from: {path} has other weights than the network asked for ({other[0]} instead of "
            f"{other[1]}); give the same --network, --width and classes"
        )
    network.set_weights(source.get_weights())


def make_method(config: Config, network: keras.Model, num_classes: int, num_examples: int) -> Method:
    """Returns the training method around a network."""
    threat = {
        "epsilon": config.attack.epsilon,
        "norm": config.attack.norm,
        "step_size": config.attack.step_size,
    }
    teacher = teacher_logits(config, num_classes, tuple(network.input_shape[1:]))
    return methods.get(config.method)(
        network,
        **({"teacher_logits": teacher} if teacher else {}),
        attack=attacks.get("pgd")(steps=config.attack.steps, **threat),
        validation_attack=attacks.get("pgd")(steps=config.attack.validation_steps, **threat),
        num_classes=num_classes,
        seed=config.run.seed,
        num_examples=num_examples,
        **{name: getattr(config.optimization, name) for name in _FOR_EVERY_METHOD},
        **config.options,
    )


def teacher_logits(config: Config, num_classes: int, image_shape: tuple[int, ...]) -> Any:
    """Returns the `logits_fn` of the model that the option `teacher` names; None where it names none.

    Raises:
      errors.UsageError: nothing there, or a model that does not fit the data; the message says which.
    """
    path = config.options.get("teacher", "")
    if not path:
        return None
    model = model_files.load(path)
    try:
        logits = model.logits_fn(tf.fill((2, *image_shape), 0.5)).numpy()
    except (ValueError, TypeError, tf.errors.OpError) as error:
        takes = f"takes images {list(model.image_shape)}" if model.image_shape else "fails on them"
        raise errors.UsageError(
            f"teacher: {path} {takes}, the data set has {list(image_shape)}; give a teacher of this data set"
        ) from error
    if logits.shape != (2, num_classes):
        raise errors.UsageError(
            f"teacher: {path} knows {logits.shape[-1]} classes, the data set has {num_classes}; give a "
            "teacher of this data set"
        )
    if not np.isfinite(logits).all():
        raise errors.UsageError(f"teacher: {path} returns NaN or infinity; check its weights")
    if logits.min() >= 0 and abs(logits.sum(1) - 1).max() < 1e-4:
        raise errors.UsageError(
            f"teacher: {path} returns probabilities, not logits; save it without its last softmax"
        )
    return model.logits_fn


def teacher_digest(config: Config) -> str:
    """Returns the SHA-256 of the model that the option `teacher` names; "" where it names none."""
    path = config.options.get("teacher", "")
    return str(model_files.load(path).sha256) if path else ""


def make_optimizer(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns SGD by PyTorch's rule with the configuration's schedule."""
    wanted = config.optimization
    rate = optimization.schedule(
        wanted.schedule,
        learning_rate=wanted.learning_rate,
        steps_per_epoch=steps_per_epoch,
        epochs=wanted.epochs,
    )
    return optimization.SGD(
        rate, momentum=wanted.momentum, weight_decay=wanted.weight_decay, nesterov=wanted.nesterov
    )
