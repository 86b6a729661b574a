"""Keras' own `fit`: a method is told of its epochs, and what would be left out in silence is refused."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, methods
from fairat_tf.data import pipeline
from fairat_tf.methods.base import Method
from fairat_tf.methods.hooks import MethodHooks
from fairat_tf.methods.wat import hedge
from tests import support
from tests.methods.conformance_test import IN_FIT

SPLIT = support.tiny_split()


def batches(size=16, drop_remainder=True, **more):
    whole = support.batch_of(SPLIT, 64) | more
    return tf.data.Dataset.from_tensor_slices(whole).batch(size, drop_remainder=drop_remainder)


class Told(Method):
    """PGD-AT that notes what it is told."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.told = []

    def on_epoch_begin(self, epoch):
        super().on_epoch_begin(epoch)
        self.told.append(("begin", epoch))

    def on_epoch_end(self, epoch, train, validation):
        super().on_epoch_end(epoch, train, validation)
        self.told.append(("end", epoch, train, validation))


def told(**options):
    attack = attacks.get("pgd")(epsilon=0.1, step_size=0.05, steps=1)
    method = Told(support.tiny_network(), attack=attack, num_classes=4)
    method.compile(optimizer=keras.optimizers.SGD(0.05))
    logs = method.fit(batches(), epochs=2, verbose=0, **options).history
    return method, logs


FORMS = {
    "none": lambda: None,
    "one": keras.callbacks.Callback,
    "list": lambda: [MethodHooks()],
    "nested": lambda: [[MethodHooks()], keras.callbacks.Callback()],
}


@pytest.mark.parametrize("callbacks", [make() for make in FORMS.values()], ids=FORMS)
def test_every_epoch_is_told_once_with_its_own_values(callbacks):
    method, logs = told(validation_data=batches(), callbacks=callbacks)
    assert [event[:2] for event in method.told] == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]
    for epoch in (0, 1):
        _, _, train, validation = method.told[2 * epoch + 1]
        np.testing.assert_allclose(train["robust"].mean(), logs["robust_accuracy"][epoch], rtol=1e-5)
        np.testing.assert_allclose(validation["robust"].min(), logs["val_robust_worst_class"][epoch])
    assert int(method.epoch) == 1


def test_one_call_an_epoch_tells_the_epochs_of_the_run():
    attack = attacks.get("pgd")(epsilon=0.1, step_size=0.05, steps=1)
    method = Told(support.tiny_network(), attack=attack, num_classes=4, epochs=3)
    method.compile(optimizer=keras.optimizers.SGD(0.05))
    for epoch in range(3):
        data = pipeline.training_batches(SPLIT, batch_size=16, seed=0, epoch=epoch)
        method.fit(data, initial_epoch=epoch, epochs=epoch + 1, verbose=0)
        assert int(method.epoch) == epoch
    assert [event[:2] for event in method.told] == [(at, e) for e in range(3) for at in ("begin", "end")]
    assert int(method.optimizer.iterations) == 12


def test_callbacks_may_stand_in_their_place():
    method = support.make_method("pgd_at")
    seen = MethodHooks()
    method.fit(batches(), None, None, 2, 0, [seen])  # as Keras: x, y, batch_size, epochs, verbose, callbacks
    assert int(method.epoch) == 1 and set(seen.train) == {"loss", "robust", "zero_gradient"}


@pytest.mark.parametrize("listed", [[], [MethodHooks()]])
def test_a_callback_list_is_added_to_once(listed):
    method = support.make_method("pgd_at")
    callbacks = keras.callbacks.CallbackList(listed, add_history=True, model=method)
    method.fit(batches(), epochs=2, callbacks=callbacks, verbose=0)
    assert (
        sum(isinstance(callback, MethodHooks) for callback in callbacks.callbacks) == 1
        and int(method.epoch) == 1
    )


def test_without_validation_there_are_training_values_alone():
    method, logs = told()
    assert method.told[3][3] == {} and set(method.told[3][2]) == {"loss", "robust", "zero_gradient"}
    np.testing.assert_allclose(method.told[3][2]["robust"].mean(), logs["robust_accuracy"][1], rtol=1e-5)


def test_validation_in_some_epochs_only_is_told_in_these():
    method, _ = told(validation_data=batches(), validation_freq=2)
    assert method.told[1][3] == {} and "robust" in method.told[3][3]


def test_class_weights_follow_the_epochs():
    method = support.make_method("wat", wat_eta=3.0)
    method.fit(batches(), epochs=2, validation_data=batches(), verbose=0)
    total = keras.ops.convert_to_numpy(method.total_costs)
    assert np.ptp(total) > 1e-3
    np.testing.assert_allclose(method.weights_by_class, hedge(total, 3.0), rtol=1e-4)


def test_a_method_that_needs_validation_says_so():
    with pytest.raises(ValueError, match="wat needs validation"):
        support.make_method("wat").fit(batches(), verbose=0)


def test_weights_of_keras_are_refused():
    pairs = tf.data.Dataset.from_tensor_slices((SPLIT.images / np.float32(255), SPLIT.labels))
    weighed = pairs.map(lambda image, label: (image, label, 2.0)).batch(16)
    with pytest.raises(ValueError, match="have no effect here"):
        support.make_method("pgd_at").fit(weighed, verbose=0)
    with pytest.raises(ValueError, match="have no effect here"):
        support.make_method("pgd_at").fit(pairs.batch(16), class_weight={0: 2.0}, verbose=0)


def test_padded_batches_are_not_trained_on():
    with pytest.raises(ValueError, match="padded, for evaluation"):
        support.make_method("pgd_at").fit(batches(mask=tf.ones([64])), verbose=0)


@pytest.mark.parametrize("name", methods.names())
def test_a_last_batch_of_another_size_is_trained_on_or_refused(name):
    method = support.make_method(name, num_examples=64, **IN_FIT.get(name, {}))
    data = batches(24, drop_remainder=False)
    if hasattr(method.options, "hard_choice"):
        with pytest.raises(ValueError, match="drop_remainder=True"):
            method.fit(data, validation_data=data, verbose=0)
        return
    method.fit(data, validation_data=data, verbose=0)
    assert int(method.optimizer.iterations) == 3


def test_float16_is_refused():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.raises(ValueError, match="use bfloat16"):
            support.make_method("pgd_at")
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(("policy", "accepted"), [("mixed_float16", False), ("mixed_bfloat16", True)])
def test_layers_of_float16_are_refused_under_another_global_policy(policy, accepted):
    keras.config.set_dtype_policy(policy)
    try:
        network = support.tiny_network()
    finally:
        keras.config.set_dtype_policy("float32")
    expected = contextlib.nullcontext() if accepted else pytest.raises(ValueError, match="use bfloat16")
    with expected:
        support.make_method("pgd_at", network)


def test_accumulated_gradients_are_refused():
    method = support.make_method("pgd_at")
    with pytest.raises(ValueError, match="batches would share their draws"):
        method.compile(optimizer=keras.optimizers.Adam(gradient_accumulation_steps=4))
    method.compile(optimizer=keras.optimizers.Adam())


@pytest.mark.parametrize("name", ["trades", "cfa", "rslad", "dafa", "frl"])
@pytest.mark.parametrize("attack", ["mi-fgsm", "apgd-ce"])
def test_an_attack_that_offers_less_than_the_method_needs_is_refused(name, attack):
    with pytest.raises(ValueError, match=f"{name} needs an attack .*`loss`.*such as pgd"):
        support.make_method(name, attack=attacks.get(attack)(steps=1))


@pytest.mark.parametrize("name", ["dafa", "frl"])
def test_an_attack_whose_steps_do_not_scale_is_refused_where_they_must(name):
    def attack(logits_fn, images, labels, seed, epsilon=None, loss=None):
        return images

    with pytest.raises(ValueError, match=f"{name} needs an attack .*`scale_step`.*such as pgd"):
        support.make_method(name, attack=attack)
    support.make_method("trades", attack=attack)


def test_any_attack_does_for_a_method_with_the_cross_entropy():
    for name, options in (("pgd_at", {}), ("cfa", {"loss": "cross_entropy"})):
        method = support.make_method(name, attack=attacks.get("mi-fgsm")(epsilon=0.1, steps=1), **options)
        method.train_step(support.batch_of(SPLIT))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
