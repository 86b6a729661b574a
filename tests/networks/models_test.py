"""Saving, precision, compilation, names and refused arguments of every network."""

import functools
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import networks
from fairat_tf.networks import small_cnn

_TINY = ("small_cnn", "resnet18", "preact_resnet18", "wrn_10_1")


def _shake(model: keras.Model) -> None:
    """Gives BatchNorm parameters and statistics that are neither 0 nor 1."""
    draw = np.random.default_rng(3)
    for w in model.weights:
        if "kernel" not in w.path:
            w.assign(draw.uniform(0.5, 1.5, w.shape) * (1 if "variance" in w.path else draw.choice([-1, 1])))


@pytest.mark.parametrize("name", _TINY)
def test_saved_file_needs_keras_alone_and_gives_the_same_bits(name, tmp_path):
    model = networks.get(name)(10, (32, 32, 3), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), 4)
    _shake(model)
    path = tmp_path / "model.keras"
    model.save(path)
    config = json.loads(zipfile.ZipFile(path).read("config.json"))
    used = [c for c in _objects(config) if "registered_name" in c]
    assert used and all(
        c["module"].split(".")[0] == "keras" and c["registered_name"] is None for c in used[1:]
    )
    assert "fairat_tf" not in json.dumps(config)
    images = np.random.default_rng(0).uniform(size=(3, 32, 32, 3)).astype("float32")
    again = keras.saving.load_model(path, compile=False)
    np.testing.assert_array_equal(model(images, training=False), again(images, training=False))
    assert again.inputs[0].name == "image" and again.layers[-1].name == "logits"


def _objects(config):
    children = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    found = [config] if isinstance(config, dict) and "class_name" in config else []
    return found + [c for child in children for c in _objects(child)]


@pytest.mark.parametrize("name", _TINY)
def test_bfloat16_inside_float32_outside(name):
    """Only the convolutions and what lies between them leave float32, and the logits stay close."""
    make = functools.partial(networks.get(name), mean=0.5, std=0.25, width=4)
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    reference = make()(images, training=False).numpy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = make()
    computed = {layer.name: layer.compute_dtype for layer in model.layers if layer.name != "image"}
    assert {n for n, d in computed.items() if d == "float32"} == {"normalise", "pool", "logits"}
    assert all(w.dtype == "float32" for w in model.weights)
    logits = model(images, training=False)
    assert logits.dtype == tf.float32
    difference = np.abs(logits.numpy() - reference).max()
    assert 0 < difference < 0.1 * np.abs(reference).max()


@pytest.mark.parametrize("name", ["small_cnn", "preact_resnet_10"])
def test_trains_the_same_with_and_without_xla(name):
    """Gradients and BatchNorm's moving statistics of one training step."""
    images = tf.constant(np.random.default_rng(0).uniform(size=(4, 16, 16, 3)), tf.float32)
    results = []
    for jit in (False, True):
        model = networks.get(name)(3, (16, 16, 3), 0.5, 0.25, width=4)

        @tf.function(jit_compile=jit)
        def step(model=model):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.math.square(model(images, training=True) - 1.0))
            return tape.gradient(loss, model.trainable_variables)

        results.append([g.numpy() for g in step()] + [v.numpy() for v in model.non_trainable_variables])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(a).max()))


def test_synchronized_batchnorm_is_asked_for_by_name():
    layers = [networks.get("small_cnn")(width=2, synchronized_bn=s).get_layer("bn1") for s in (False, True)]
    assert [layer.synchronized for layer in layers] == [False, True]


def test_layer_names_do_not_depend_on_what_was_built_before():
    first, second = ([v.name for v in networks.get("resnet18")(width=2).layers] for _ in range(2))
    assert first == second and len(set(first)) == len(first)
    assert first[:3] == ["image", "normalise", "stem_conv"] and first[-1] == "logits"


def test_small_cnn_is_the_listed_object():
    assert networks.get("small_cnn") is small_cnn.small_cnn


@pytest.mark.parametrize(
    "name, words",
    [
        ("resnet50", "known: small_cnn, resnet18.*preact_resnet_N.*wrn_D_W"),
        ("preact_resnet_20", "depth 18, 34 or 2 \\+ 8k"),
        ("preact_resnet_2", "depth 18, 34 or 2 \\+ 8k"),
        ("wrn_12_1", "6n \\+ 4"),
        ("wrn_4_1", "6n \\+ 4"),
        ("wrn_10_0", "W >= 1"),
    ],
)
def test_unknown_names_and_depths(name, words):
    with pytest.raises(ValueError, match=words):
        networks.get(name)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_classes": 1}, "num_classes"),
        ({"image_shape": (32, 32)}, "image_shape"),
        ({"mean": (0.5, 0.5)}, "mean must be one number or 3"),
        ({"std": 0.0}, "std must be positive"),
        ({"width": 0}, "width"),
    ],
)
def test_arguments_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        networks.get("small_cnn")(**options)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
