"""Holds: three kinds of models load to the same logits, and what cannot be trusted is refused."""

import shutil
import sys
import types
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import fairat_tf
from fairat_tf import devices, errors, model_files
from fairat_tf.evaluation import graph_scan, saved_model_scan


@pytest.fixture(scope="module")
def saved(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small.network.save(folder / "plain.keras")
    small.network.export(folder / "export", verbose=False)
    (folder / "run" / "best").mkdir(parents=True)
    small.network.save(folder / "run" / "best" / "model.keras")
    return folder


@pytest.fixture
def module(small, monkeypatch):
    made = types.ModuleType("made_up_models")
    made.network = lambda: small.network
    made.number = lambda: 3
    monkeypatch.setitem(sys.modules, "made_up_models", made)


@pytest.mark.parametrize("name", ["plain.keras", "export", "run"])
def test_files_give_the_networks_logits_and_gradients(small, saved, name):
    model = model_files.load(saved / name)
    images = tf.constant(small.images[:6] / np.float32(255))
    expected = small.logits_fn(images)
    np.testing.assert_allclose(model.logits_fn(images), expected, rtol=1e-4, atol=1e-4)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        own, other = model.logits_fn(images), small.logits_fn(images)
    np.testing.assert_allclose(tape.gradient(own, images), tape.gradient(other, images), rtol=1e-3, atol=1e-4)
    assert model.parameters == small.network.count_params()
    assert model.image_shape == (12, 12, 3) and len(model.sha256) == 64


def test_module_function(small, module):
    model = model_files.load("made_up_models:network")
    images = small.images[:3] / np.float32(255)
    np.testing.assert_allclose(model.logits_fn(images), small.logits_fn(images), rtol=1e-5)


def test_load_logits_is_public(small, saved):
    logits = fairat_tf.load_logits(saved / "plain.keras")(small.images[:2] / np.float32(255))
    assert logits.dtype == tf.float32 and logits.shape == (2, 4)


def test_the_hash_changes_with_the_weights(small, saved, tmp_path):
    other = keras.models.clone_model(small.network)
    other.save(tmp_path / "other.keras")
    assert model_files.load(tmp_path / "other.keras").sha256 != model_files.load(saved / "plain.keras").sha256


def test_batchnorm_is_frozen(tmp_path):
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    )
    network.save(tmp_path / "bn.keras")
    images = np.random.default_rng(0).random((8, 4, 4, 1), np.float32)
    # moving mean 0, variance 1, epsilon .001: the inputs divided by sqrt(1.001), whatever the batch
    logits = model_files.load(tmp_path / "bn.keras").logits_fn(images)
    np.testing.assert_allclose(logits, images.reshape(8, -1) / np.sqrt(1.001), rtol=1e-5)


@pytest.mark.parametrize(
    "last",
    [
        [lambda: keras.layers.Dense(3, activation="softmax")],
        [lambda: keras.layers.Dense(3), lambda: keras.layers.Softmax()],
        [lambda: keras.layers.Dense(3), lambda: keras.layers.Activation("softmax")],
    ],
)
def test_softmax_is_left_out_of_a_keras_model(tmp_path, last):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), *(make() for make in last)])
    network.save(tmp_path / "soft.keras")
    images = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    dense = network.layers[1]
    expected = images.reshape(5, -1) @ dense.kernel.numpy() + dense.bias.numpy()
    logits = model_files.load(tmp_path / "soft.keras", outputs="softmax").logits_fn(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_softmax_of_a_saved_model_is_undone_by_the_logarithm(tmp_path):
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    )
    network.export(tmp_path / "soft", verbose=False)
    images = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    logits = model_files.load(tmp_path / "soft", outputs="softmax").logits_fn(images)
    np.testing.assert_allclose(tf.nn.softmax(logits), network(images), rtol=1e-4)


def test_input_range_is_scaled(tmp_path):
    network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    network.save(tmp_path / "flat.keras")
    images = np.array([0.0, 0.5, 1.0, 0.25], np.float32).reshape(1, 2, 2, 1)
    scaled = model_files.load(tmp_path / "flat.keras", input_range=(-1, 1)).logits_fn(images)
    np.testing.assert_allclose(scaled, [[-1, 0, 1, -0.5]], atol=1e-6)


def test_h5_is_refused_with_the_reason(tmp_path):
    (tmp_path / "old.h5").write_bytes(b"")
    with pytest.raises(errors.UsageError, match=r"\.h5 is refused.*save it again"):
        model_files.load(tmp_path / "old.h5")


def test_damaged_files_are_one_error(saved, tmp_path):
    whole = (saved / "plain.keras").read_bytes()
    spoilt = bytearray(whole)
    place = whole.index(b"model.weights.h5") + 400
    spoilt[place] ^= 0xFF
    (tmp_path / "spoilt.keras").write_bytes(spoilt)
    with pytest.raises(errors.UsageError, match="cannot be loaded"):
        model_files.load(tmp_path / "spoilt.keras")
    for name in ("cut", "without"):
        shutil.copytree(saved / "export", tmp_path / name)
    data = next((tmp_path / "cut/variables").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:10])
    shutil.rmtree(tmp_path / "without/variables")
    for name in ("cut", "without"):
        with pytest.raises(errors.UsageError, match="cannot be loaded as a SavedModel"):
            model_files.load(tmp_path / name)


def test_lambda_layers_stay_refused(tmp_path):
    network = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Lambda(lambda x: x + 1), keras.layers.Flatten()]
    )
    network.save(tmp_path / "lambda.keras")
    with pytest.raises(errors.UsageError, match="holds a Lambda layer.*module:function"):
        model_files.load(tmp_path / "lambda.keras")


@pytest.mark.parametrize(
    "member", ["../outside.txt", "/etc/outside", "a/../../outside", "..\\outside", "C:\\outside"]
)
def test_archives_cannot_escape(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "evil.keras", "w") as archive:
        archive.writestr(member, "x")
    with pytest.raises(errors.UsageError, match="leaves the archive"):
        model_files.load(tmp_path / "evil.keras")


class _Reading(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.float32)])
    def serve(self, images):
        size = tf.strings.length(tf.io.read_file("/etc/hostname"))
        return tf.reshape(images, [-1, 16]) + 0 * tf.cast(size, tf.float32)


def test_a_saved_model_that_reads_files_needs_trust(tmp_path):
    module = _Reading()
    tf.saved_model.save(module, str(tmp_path / "evil"), signatures={"serving_default": module.serve})
    with pytest.raises(errors.UsageError, match=r"ReadFile.*--trust"):
        model_files.load(tmp_path / "evil")
    model = model_files.load(tmp_path / "evil", trust=True)
    assert model.logits_fn(tf.zeros([2, 4, 4, 1])).shape == (2, 16)


def test_an_ordinary_saved_model_holds_nothing_dangerous(saved):
    assert saved_model_scan.dangerous(saved / "export") == []


class _Bytes(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.uint8)])
    def serve(self, images):
        return tf.cast(tf.reshape(images, [-1, 16]), tf.float32)


def test_an_endpoint_without_float_images_is_named(tmp_path):
    module = _Bytes()
    tf.saved_model.save(module, str(tmp_path / "bytes"), signatures={"serving_default": module.serve})
    with pytest.raises(errors.UsageError, match=r"float32 input.*uint8"):
        model_files.load(tmp_path / "bytes")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"])
def test_an_adapted_normalisation_and_half_precision_are_judged_in_float32(tmp_path, policy):
    images = np.random.default_rng(0).random((16, 6, 6, 1), np.float32)
    normalize = keras.layers.Normalization()
    normalize.adapt(images)
    image = keras.Input((6, 6, 1))
    with devices.precision("float32"):
        keras.config.set_dtype_policy(policy)
        x = keras.layers.Conv2D(4, 3, activation="relu")(normalize(image))
        x = keras.layers.BatchNormalization()(x)
        model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    model.save(tmp_path / "model.keras")
    exact = np.asarray(model(images.astype(np.float32)), np.float32)
    loaded = model_files.load(tmp_path / "model.keras")
    assert {v.dtype for v in loaded.keras_model.weights if "float" in v.dtype} == {"float32"}
    found = loaded.logits_fn(tf.constant(images))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, exact, atol=0.03 * np.abs(exact).max())
    shifted = loaded.logits_fn(tf.constant(images + 1e-4)) - found
    assert 0 < np.abs(shifted).max() < 0.01  # finer than half precision can tell


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.keras", "not found"),
        ("no_such_module_x:f", "expected module:function"),
        ("./runs/a:b", "expected module:function"),
        (":f", "expected module:function"),
        ("made_up_models:number", "returned int"),
    ],
)
def test_what_is_not_there_is_said(module, path, message):
    with pytest.raises(errors.UsageError, match=message):
        model_files.load(path)


def test_an_empty_directory_is_no_model(tmp_path):
    with pytest.raises(errors.UsageError, match="best/model.keras"):
        model_files.load(tmp_path)


def test_a_bfloat16_model_is_judged_in_float32(tmp_path):
    dense = keras.layers.Dense(3, dtype="mixed_bfloat16")
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, dense(keras.layers.Flatten(dtype="mixed_bfloat16")(image)))
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    kernel, bias = dense.get_weights()
    logits = model_files.load_logits(tmp_path / "model.keras")(images)
    np.testing.assert_allclose(logits, images.reshape(5, -1) @ kernel + bias, rtol=1e-5, atol=1e-6)


OUTSIDE = """
ReadFile WriteFile MatchingFiles SaveV2 RestoreV2 MergeV2Checkpoints ImmutableConst
CreateSummaryFileWriter WriteSummary WriteRawProtoSummary SaveDatasetV2
DatasetToTFRecord CacheDatasetV2 SnapshotDatasetV2 FixedLengthRecordDatasetV2
TFRecordDatasetV2 WholeFileReaderV2 TFRecordReaderV2 InitializeTableFromTextFileV2
MatchingFilesDataset DataServiceDatasetV4 PyFunc EagerPyFunc RpcCall PrintV2
DebugIdentityV2
"""


@pytest.mark.parametrize("name", OUTSIDE.split())
def test_operations_that_reach_outside_are_known(name):
    assert graph_scan.dangerous_operations([name, "Conv2D"]) == [name]


def test_layers_are_made_of_no_operation_that_reaches_outside():
    plain = [
        "Conv2D", "ReadVariableOp", "FusedBatchNormV3", "MatMul", "Relu", "Mean", "Pad",
        "ResizeBilinear", "StatefulPartitionedCall", "While", "RealDiv", "Softmax", "Cast",
        "LookupTableFindV2", "DisableCopyOnRead", "AssignVariableOp", "StridedSlice", "DecodeJpeg",
    ]  # fmt: skip
    assert graph_scan.dangerous_operations(plain) == []


def test_a_function_that_calls_itself_the_savers_is_looked_at(tmp_path):
    """The endpoint calls a function by the name of TensorFlow's own saver, which reads a checkpoint."""
    from tensorflow.core.protobuf import saved_model_pb2

    class Restoring(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def inner(self, name):
            return tf.raw_ops.RestoreV2(
                prefix=name, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
            )[0]

        @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.float32)])
        def serve(self, images):
            return tf.reshape(images, [-1, 16]) + 0 * tf.reshape(self.inner("x"), [1, -1])[:, :1]

    module, path = Restoring(), tmp_path / "evil"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    program = saved_model_pb2.SavedModel()
    program.ParseFromString((path / "saved_model.pb").read_bytes())
    text = program.SerializeToString()
    names = {f.signature.name for f in program.meta_graphs[0].graph_def.library.function}
    (inner,) = [name for name in names if name.startswith("__inference_inner")]
    alias = b"__inference__traced_save"[: len(inner)].ljust(len(inner), b"x")
    assert len(alias) == len(inner)
    (path / "saved_model.pb").write_bytes(text.replace(inner.encode(), alias))
    assert "RestoreV2" in saved_model_scan.dangerous(path)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
