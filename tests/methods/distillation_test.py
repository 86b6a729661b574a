"""RSLAD in closed form, what all methods with a teacher share, and the teacher that --teacher names."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import assembly, errors
from fairat_tf.config import Attack, Config, Data, Network, Optimization
from fairat_tf.exporting import export
from fairat_tf.run_directory import RunDirectory
from tests import support
from tests.methods import oracle


@pytest.mark.parametrize("share", [5 / 6, 0.3])
def test_step_equals_closed_form(share):
    method = oracle.linear_method("rslad", distill_adversarial=share)
    p, q = (oracle.softmax(oracle.flat(x) @ oracle.KERNEL) for x in (oracle.IMAGES, oracle.shifted()))
    loss = share * oracle.divergence(oracle.GUIDE, q) + (1 - share) * oracle.divergence(oracle.GUIDE, p)
    oracle.check_step(method, oracle.rslad_rows(share))
    np.testing.assert_allclose(float(method.train_loss.result()), loss.mean(), rtol=1e-5)


def test_the_attack_leads_away_from_the_teacher():
    method = oracle.linear_method("rslad")
    oracle.examples_of(method)
    logits = tf.constant(oracle.flat(oracle.shifted()) @ oracle.KERNEL, tf.float32)
    q = oracle.softmax(logits.numpy())
    found = method.attack.given[-1](logits, tf.constant(oracle.LABELS))
    np.testing.assert_allclose(found, oracle.divergence(oracle.GUIDE, q), rtol=1e-4)


def test_a_teacher_that_knows_the_labels_makes_it_pgd_at():
    sure = {"teacher_logits": lambda images: 1e4 * tf.one_hot(oracle.LABELS, 3), "distill_adversarial": 1.0}
    method, plain = oracle.linear_method("rslad", **sure), oracle.linear_method("pgd_at")
    for each in (method, plain):
        each.train_step(oracle.batch())
    np.testing.assert_allclose(oracle.kernel(method), oracle.kernel(plain), rtol=1e-5)


def test_weights_of_classes_reach_the_loss():
    weights = np.array([0.5, 1.0, 2.0])[oracle.LABELS]
    method = oracle.linear_method("rslad", class_weights="0.5,1,2")
    rows = [(x, weights[:, None] * g) for x, g in oracle.rslad_rows(5 / 6)]
    oracle.check_step(method, rows)


def test_the_teacher_is_no_part_of_the_model():
    taught = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    before = taught.get_weights()
    method = oracle.linear_method("rslad", teacher_logits=taught)
    assert len(method.state) == len(oracle.linear_method("rslad").state)
    method.train_step(oracle.batch())
    for a, b in zip(before, taught.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"teacher_logits": None}, "give --teacher=PATH"),
        ({"label_smoothing": 0.1}, "label_smoothing must be 0"),
    ],
)
def test_what_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        oracle.linear_method("rslad", **options)


# ---- the teacher of the command line ----------------------------------------------------------------------


def assembled(path, method="rslad", devices="1"):
    config = Config(
        data=Data(dataset="tiny", batch_size=16, weak_augmentation="none"),
        network=Network(network="small_cnn", width=4),
        attack=Attack(steps=1),
        optimization=Optimization(epochs=3, learning_rate=0.1, schedule="constant"),
        method=method,
        options={"teacher": str(path)},
    )
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, devices=devices))
    return assembly.assemble(config, support.tiny_dataset())


def guide_of(method):
    images = support.batch_of(support.tiny_split())["image"]
    return method.guide_of(images).numpy()


def test_a_run_directory_a_keras_file_and_a_saved_model_give_the_same_teacher(tmp_path):
    network = support.tiny_network(seed=3, batch_norm=True)
    (tmp_path / "run/best").mkdir(parents=True)
    network.save(tmp_path / "run/best/model.keras")
    network.save(tmp_path / "a.keras")
    export(network, tmp_path / "saved")
    batch = support.batch_of(support.tiny_split())
    expected = network(batch["image"], training=False).numpy()
    for path in ("run", "a.keras", "saved"):
        method = assembled(tmp_path / path).method
        np.testing.assert_allclose(guide_of(method), expected, atol=1e-5)
        step = tf.function(method.train_step, jit_compile=path == "saved", autograph=False)
        assert np.isfinite(float(step(batch)["loss"]))


def test_two_devices_ask_the_same_teacher(tmp_path, mirrored):
    support.tiny_network(seed=3).save(tmp_path / "a.keras")
    split = support.tiny_split()
    with mirrored.scope():
        teacher = keras.models.load_model(tmp_path / "a.keras")
        method = support.make_method("rslad", support.tiny_network(), teacher_logits=teacher)
    single = support.make_method("rslad", support.tiny_network(), teacher_logits=teacher)
    data = tf.data.Dataset.from_tensors(support.batch_of(split)).unbatch().batch(16)
    step = tf.function(lambda batch: mirrored.run(method.train_step, (batch,)), autograph=False)
    for batch in mirrored.experimental_distribute_dataset(data):
        step(batch)
    single.train_step(support.batch_of(split))
    for a, b in zip(method.network.get_weights(), single.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def with_softmax():
    network = support.tiny_network()
    return keras.Model(network.input, keras.layers.Softmax()(network.output))


@pytest.mark.parametrize(
    "made, told",
    [
        (lambda: support.tiny_network(classes=5), "knows 5 classes, the data set has 4"),
        (lambda: support.tiny_network(shape=(16, 16, 3)), r"takes images \[16, 16, 3\], the data set has"),
        (with_softmax, "returns probabilities"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(made, told, tmp_path):
    made().save(tmp_path / "a.keras")
    with pytest.raises(errors.UsageError, match=told):
        assembled(tmp_path / "a.keras")


def test_a_teacher_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(errors.UsageError, match="nowhere is not found"):
        assembled(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="give --teacher=PATH"):
        assembled("")


def test_a_run_does_not_go_on_with_another_teacher(tmp_path):
    support.tiny_network().save(tmp_path / "a.keras")
    config = assembled(tmp_path / "a.keras").config
    other = dataclasses.replace(config, options={**config.options, "teacher": "b.keras"})
    with RunDirectory(str(tmp_path / "run")) as run:
        run.claim(config)
        run.claim(config)
        with pytest.raises(errors.StorageError, match="teacher"):
            run.claim(other)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
