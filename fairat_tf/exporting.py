"""Export to a SavedModel that serves, and that can still be attacked.

    export(network, "runs/first/export")
    tf.saved_model.load("runs/first/export").serve(images)      # logits

Endpoints, each for any batch size, BatchNorm in inference mode:

* `serve` (and `serving_default`): float32 images in [0, 1] -> logits; input gradients pass through;
* `probabilities`: float32 images in [0, 1] -> softmax of the logits; input gradients pass through;
* `serve_uint8`: uint8 images in 0..255 -> probabilities; no gradients, by nature.
"""

import pathlib
import shutil

import keras
import tensorflow as tf


def export(network: keras.Model, directory: str | pathlib.Path) -> None:
    """Writes the SavedModel of a network (images [B, H, W, C] -> logits [B, K]) into `directory`.

    It computes as the network does: give one in float32 (`model_files.in_float32`) for what is evaluated.
    The folder appears at once, when it is complete; a SavedModel that is there is replaced.
    """
    target = pathlib.Path(directory)
    temporary = target.with_name(f".writing-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    shape = (None, *network.input_shape[1:])
    floats = tf.TensorSpec(shape, tf.float32, name="image")
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve", lambda image: network(image, training=False), input_signature=[floats])
    archive.add_endpoint(
        "probabilities", lambda image: tf.nn.softmax(network(image, training=False)), input_signature=[floats]
    )
    archive.add_endpoint(
        "serve_uint8",
        lambda image: tf.nn.softmax(network(tf.cast(image, tf.float32) / 255.0, training=False)),
        input_signature=[tf.TensorSpec(shape, tf.uint8, name="image")],
    )
    archive.write_out(str(temporary), verbose=False)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
