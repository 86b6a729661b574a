"""Cases of TensorFlow: our methods, our PGD, and PGD of CleverHans and ART on the same network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.cases import Case, method_and_options
from fairat_tf import attacks, devices, methods, networks, rng
from fairat_tf.methods.distillation import Distilled
from fairat_tf.networks.folding import prepared
from fairat_tf.networks.training_pass import training_pass
from fairat_tf.objectives import losses
from fairat_tf.optimization import SGD

_EXAMPLES = 4096  # size of the imaginary training set, for methods that remember each example


def make(case: Case) -> Callable[[], Any]:
    """Returns a function that runs the case once and waits for its end."""
    _prepare_machine(case)
    maker = {"step": _step, "attack": _attack, "pass": _pass, "forward": _forward}.get(case.what)
    return maker(case) if maker else _other_library(case)


def _prepare_machine(case: Case) -> None:
    tf.get_logger().setLevel("ERROR")  # many methods in one process are no retracing
    try:
        if case.threads:
            tf.config.threading.set_intra_op_parallelism_threads(case.threads)
        if case.threads == 1:  # otherwise independent operations run beside each other
            tf.config.threading.set_inter_op_parallelism_threads(1)
        cpu = tf.config.list_physical_devices("CPU")[0]
        if case.replicas > 1 and not tf.config.list_physical_devices("GPU"):
            two = [tf.config.LogicalDeviceConfiguration()] * case.replicas
            tf.config.set_logical_device_configuration(cpu, two)
    except RuntimeError:
        if len(devices.available()) < case.replicas:
            raise


def _network(case: Case, synchronized_bn: bool = False) -> Any:
    with devices.precision(case.precision):
        return networks.get(case.network)(
            num_classes=case.classes,
            width=case.width or None,
            mean=0.5,
            std=0.25,
            synchronized_bn=synchronized_bn,
        )


def _batch(case: Case) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "image": tf.constant(generator.random((case.batch, 32, 32, 3), np.float32)),
        "label": tf.constant(generator.integers(0, case.classes, case.batch), tf.int32),
        "index": tf.range(case.batch),
    }


def _pgd(case: Case) -> Any:
    return attacks.get("pgd")(epsilon=8 / 255, step_size=2 / 255, steps=case.steps)


def _step(case: Case) -> Callable[[], Any]:
    name, options = method_and_options(case.method)
    strategy = devices.strategy(str(case.replicas))
    with strategy.scope():
        kind = methods.get(name)
        if issubclass(kind, Distilled):
            options["teacher_logits"] = prepared(_network(case))
        method = kind(
            _network(case, synchronized_bn=case.replicas > 1),
            attack=_pgd(case),
            num_classes=case.classes,
            num_examples=_EXAMPLES,
            epochs=100,
            **options,
        )
        method.compile(optimizer=SGD(0.01, momentum=0.9, weight_decay=5e-4))
        method.optimizer.build(method.training_network.trainable_variables)
    method.epoch.assign(1)
    batch = _batch(case)
    if case.replicas == 1:
        step = tf.function(method.train_step, autograph=False, jit_compile=case.compiled)
        return lambda: [value.numpy() for value in step(batch).values()]
    data = tf.data.Dataset.from_tensors(batch).unbatch().batch(case.batch).repeat()
    batches = iter(strategy.experimental_distribute_dataset(data))
    shared = tf.function(lambda b: strategy.run(method.train_step, (b,)), autograph=False)
    return lambda: strategy.experimental_local_results(shared(next(batches))["loss"])[0].numpy()


def _attack(case: Case) -> Callable[[], Any]:
    network, attack, batch = _network(case), _pgd(case), _batch(case)

    def attacked(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits_fn = prepared(network) if case.folded else lambda x: network(x, training=False)
        return attack(logits_fn, images, labels, rng.key(0, "benchmark"))

    function = tf.function(attacked, autograph=False, jit_compile=case.compiled)
    return lambda: function(batch["image"], batch["label"]).numpy()


def _pass(case: Case) -> Callable[[], Any]:
    network, batch = _network(case), _batch(case)

    def gradients(images: tf.Tensor, labels: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            logits = training_pass(network)(images) if case.folded else network(images, training=True)
            loss = tf.reduce_mean(losses.cross_entropy(logits, labels))
        return loss, tape.gradient(loss, network.trainable_variables)

    function = tf.function(gradients, autograph=False, jit_compile=case.compiled)
    return lambda: function(batch["image"], batch["label"])[0].numpy()


def _forward(case: Case) -> Callable[[], Any]:
    network, batch = _network(case), _batch(case)

    def logits(images: tf.Tensor) -> tf.Tensor:
        return prepared(network)(images) if case.folded else network(images, training=False)

    function = tf.function(logits, autograph=False, jit_compile=case.compiled)
    return lambda: function(batch["image"]).numpy()


def _other_library(case: Case) -> Callable[[], Any]:
    network, batch = _network(case), _batch(case)
    if case.what == "cleverhans":
        attack = attacks.get("cleverhans-pgd")(epsilon=8 / 255, step_size=2 / 255, steps=case.steps)

        def logits_fn(images: tf.Tensor) -> tf.Tensor:
            return network(images, training=False)

        seed = rng.key(0, "benchmark")
        return lambda: attack(logits_fn, batch["image"], batch["label"], seed).numpy()
    raise ValueError(f"{case.what} does not run on TensorFlow here")
