"""The SavedModel: three endpoints, any batch size, gradients through the float ones."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import exporting
from tests import support


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    network = support.tiny_network(batch_norm=True)
    network(np.random.default_rng(0).random((8, *support.SHAPE), np.float32), training=True)
    folder = tmp_path_factory.mktemp("model") / "export"
    exporting.export(network, folder)
    exporting.export(network, folder)  # replaces what is there
    return network, tf.saved_model.load(str(folder))


PIXELS = np.random.default_rng(1).integers(0, 256, (5, *support.SHAPE)).astype(np.uint8)
IMAGES = tf.constant(PIXELS / np.float32(255))


@pytest.mark.parametrize("size", [1, 5])
def test_endpoints_agree_with_the_network_in_inference_mode(exported, size):
    network, served = exported
    logits = network(IMAGES[:size], training=False).numpy()
    np.testing.assert_allclose(served.serve(IMAGES[:size]), logits, atol=1e-6)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    softmax = shifted / shifted.sum(1, keepdims=True)
    np.testing.assert_allclose(served.probabilities(IMAGES[:size]), softmax, atol=1e-6)
    np.testing.assert_allclose(served.serve_uint8(tf.constant(PIXELS[:size])), softmax, atol=1e-6)
    assert "serving_default" in served.signatures


@pytest.mark.parametrize("endpoint", ["serve", "probabilities"])
def test_input_gradients_pass_through_the_float_endpoints(exported, endpoint):
    network, served = exported

    def gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(IMAGES)
            value = tf.reduce_sum(function(IMAGES)[:, 1])
        return tape.gradient(value, IMAGES).numpy()

    def live(images):
        logits = network(images, training=False)
        return logits if endpoint == "serve" else tf.nn.softmax(logits)

    np.testing.assert_allclose(gradient(getattr(served, endpoint)), gradient(live), atol=1e-6)
    assert np.abs(gradient(live)).max() > 1e-4


def test_a_run_in_half_precision_exports_what_is_evaluated(tmp_path):
    """Trained in bfloat16, judged in float32: the SavedModel gives the logits of the evaluation."""
    from fairat_tf import devices, model_files, networks

    with devices.precision("bfloat16"):
        network = networks.get("small_cnn")(num_classes=4, width=4)
    network.save(tmp_path / "model.keras")
    images = tf.constant(np.random.default_rng(0).random((6, *network.input_shape[1:]), np.float32))
    judged = model_files.load(tmp_path / "model.keras").logits_fn(images).numpy()
    exporting.export(model_files.in_float32(network), tmp_path / "export")
    served = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_allclose(served.serve(images), judged, atol=2e-6)
    assert np.abs(np.asarray(network(images), np.float32) - judged).max() > 1e-5  # bfloat16 differs


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
