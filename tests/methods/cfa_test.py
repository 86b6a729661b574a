"""CFA: class-wise radius and beta in closed form, the gate and the arithmetic of the averaged weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks
from fairat_tf.callbacks.classwise_history import ClasswiseHistory
from fairat_tf.methods.hooks import MethodHooks
from fairat_tf.training_loop import Loop, Position
from tests import support
from tests.methods import oracle

ACCURACY = np.array([0.9, 0.2, 0.6])
OFF = {"cfa_margin": False, "cfa_regularization": False, "cfa_average": False}


def calibrated(**options):
    """A method after its first epoch, in a run where calibration begins with the second."""
    method = oracle.linear_method("cfa", epochs=20, **{"cfa_average": False, **options})
    method.on_epoch_begin(0)
    method.on_epoch_end(0, {"robust": ACCURACY}, {})
    method.on_epoch_begin(1)
    return method


@pytest.mark.parametrize("lambda1", [0.3, 0.5])
def test_radius_is_lambda_plus_accuracy_times_epsilon(lambda1):
    method = calibrated(cfa_lambda1=lambda1)
    expected = [(lambda1 + ACCURACY[y]) * 0.1 for y in oracle.LABELS]
    np.testing.assert_allclose(method.epsilon_for(tf.constant(oracle.LABELS)), expected, rtol=1e-6)
    np.testing.assert_allclose(
        oracle.examples_of(method).images, oracle.shifted(np.array(expected)), atol=1e-6
    )


def test_step_equals_closed_form_with_class_wise_radius_and_beta():
    method = calibrated(cfa_lambda1=0.4, cfa_lambda2=0.2, beta=3.0)
    betas = np.array([(0.2 + ACCURACY[y]) * 3.0 for y in oracle.LABELS])
    epsilons = np.array([(0.4 + ACCURACY[y]) * 0.1 for y in oracle.LABELS])
    rows = oracle.trades_rows(
        oracle.KERNEL,
        oracle.IMAGES,
        oracle.shifted(epsilons),
        oracle.one_hot(oracle.LABELS),
        1.0,
        on_error=1 / (1 + betas),
        on_boundary=betas / (1 + betas),
    )
    oracle.check_step(method, rows)


def test_before_calibration_the_radius_is_epsilon_and_the_loss_trades_over_one_plus_beta():
    method = oracle.linear_method("cfa", epochs=40, beta=3.0)
    method.on_epoch_end(0, {"robust": ACCURACY}, {})
    method.on_epoch_begin(1)
    assert method.epoch_at(0.05) == 2
    targets = oracle.one_hot(oracle.LABELS)
    rows = oracle.trades_rows(
        oracle.KERNEL, oracle.IMAGES, oracle.shifted(), targets, 3.0, on_error=0.25, on_boundary=0.25
    )
    oracle.check_step(method, rows)


def trained(name, **options):
    method = support.make_method(name, support.tiny_network(batch_norm=True), epochs=4, **options)
    method.on_epoch_begin(0)
    method.train_step(support.batch_of(support.tiny_split()))
    method.on_epoch_end(0, {"robust": np.array([0.9, 0.2, 0.6, 0.5])}, {})
    method.on_epoch_begin(1)
    method.train_step(support.batch_of(support.tiny_split()))
    return method.network.get_weights()


@pytest.mark.parametrize("loss, name", [("trades", "trades"), ("cross_entropy", "pgd_at")])
def test_without_its_parts_it_is_the_base_method(loss, name):
    for a, b in zip(trained(name), trained("cfa", loss=loss, **OFF), strict=True):
        np.testing.assert_array_equal(a, b)
    margin_alone = trained("cfa", loss=loss, **{**OFF, "cfa_margin": True})
    assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(trained(name), margin_alone, strict=True))


# ---- FAWA -----------------------------------------------------------------------------------------------


def test_average_holds_the_gated_epochs_by_the_recursion():
    options = {"cfa_average_from": 0.25, "cfa_decay": 0.7, "cfa_threshold": 0.3}
    method = oracle.linear_method("cfa", epochs=8, **options)
    worst = [0.9, 0.9, 0.35, 0.1, 0.3, 0.29]
    average = None
    for epoch, accuracy in enumerate(worst):
        method.on_epoch_begin(epoch)
        if epoch >= 3 and worst[epoch - 1] >= 0.3:
            average = 0.7 * average + 0.3 * oracle.kernel(method).astype(np.float64)
        method.on_epoch_begin(epoch)  # as after a stop within the epoch: no second time
        method.train_step(oracle.batch())
        if epoch < 2:  # 0.25 of 8 epochs: until then the average is the weights
            average = oracle.kernel(method).astype(np.float64)
        held = oracle.value(method.evaluated_network.weights[0])
        np.testing.assert_allclose(held, average, rtol=1e-5, atol=1e-6)
        validation = {"weights_robust": np.array([0.95, accuracy, np.nan])}
        method.on_epoch_end(epoch, {"robust": ACCURACY}, validation)
    assert np.abs(average - oracle.kernel(method)).max() > 1e-3


def test_no_validation_no_averaging():
    method = oracle.linear_method("cfa", epochs=2, cfa_average_from=0.0)
    method.on_epoch_begin(0)
    method.train_step(oracle.batch())
    before = oracle.kernel(method)  # the average follows for an epoch, whatever the share
    method.on_epoch_end(0, {"robust": ACCURACY}, {})
    method.on_epoch_begin(1)
    method.train_step(oracle.batch())
    method.on_epoch_end(1, {"robust": ACCURACY}, {})
    assert np.abs(oracle.kernel(method) - before).max() > 1e-4
    np.testing.assert_array_equal(oracle.value(method.evaluated_network.weights[0]), before)


def test_a_run_of_one_epoch_evaluates_what_was_trained():
    method = oracle.linear_method("cfa", epochs=1)
    method.train_step(oracle.batch())
    np.testing.assert_array_equal(oracle.value(method.evaluated_network.weights[0]), oracle.kernel(method))


class Copy(keras.callbacks.Callback):
    """Keeps the weights as they are after the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.weights = self.model.network.get_weights()


def test_the_gate_measures_the_weights_and_validation_the_average():
    split = support.tiny_split()
    data = tf.data.Dataset.from_tensor_slices(support.batch_of(split, 64)).batch(16, drop_remainder=True)
    attack = attacks.get("pgd")(epsilon=0.01, steps=2)
    options = {"cfa_average_from": 0.0, "cfa_threshold": 1.1}
    network = support.tiny_network(batch_norm=True)
    method = support.make_method("cfa", network, attack=attack, epochs=2, **options)
    history, copy = ClasswiseHistory(tuple("abcd")), Copy()
    loop = Loop(method, tf.distribute.get_strategy(), callbacks=[history, MethodHooks(), copy])
    loop.run(Position(), 2, lambda position: data, 4, data)
    # nothing passes 1.1: what is validated are still the weights of the first epoch
    first = support.make_method("pgd_at", support.tiny_network(batch_norm=True), attack=attack)
    first.network.set_weights(copy.weights)
    now = support.make_method("pgd_at", method.network, attack=attack)
    for other, values in (
        (first, history.validation["robust"]),
        (now, history.validation["weights_robust"]),
    ):
        for metric in other.validation_metrics:
            metric.reset_state()
        for batch in data:
            other.test_step(batch)
        np.testing.assert_allclose(other.robust.per_class(), values)
    assert not np.allclose(history.validation["robust"], history.validation["weights_robust"])


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
