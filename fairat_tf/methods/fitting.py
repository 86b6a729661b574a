"""What Keras' own `compile` and `fit` need to know of a method.

model.compile(optimizer=SGD(0.1))
for epoch in range(110):
    batches = data.training_batches(train, batch_size=128, seed=0, epoch=epoch)
    model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, validation_data=validation)
"""

import inspect
from typing import Any

import keras

from fairat_tf.methods.hooks import MethodHooks


class Fitted(keras.Model):
    """The part of `methods.base.Method` that Keras drives."""

    network: keras.Model

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As Keras' `compile`.

        Raises:
          ValueError: layers of float16, whose gradients need a scaled loss, or gradients that are
            accumulated: the draws of a training step go by `iterations`, which then stands still.
        """
        super().compile(*args, **kwargs)
        # layers keep the precision that they were built with, whatever the global policy is by now
        in_float16 = any(layer.compute_dtype == "float16" for layer in self.network._flatten_layers())
        if in_float16 or isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError("float16 is not supported, its loss would have to be scaled; use bfloat16")
        if getattr(self.optimizer, "gradient_accumulation_steps", None):
            raise ValueError("gradient_accumulation_steps is not supported: batches would share their draws.")

    def check_batch(self, size: int, devices: int) -> None:
        """Checks that the options go with batches of `size` over so many devices, before anything is run.

        Raises:
          UsageError: they do not.
        """

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As Keras' `fit`; the method is told of every epoch, as by `MethodHooks` among the callbacks.

        Batches are pairs (images, labels) or the dictionaries of `data.training_batches`. What a method
        changes from epoch to epoch follows the epoch's number. `training_batches` are those of one epoch,
        with its order and augmentation: call once an epoch, with `initial_epoch=epoch, epochs=epoch + 1`.
        Batches that are shuffled anew each time they are read may have all epochs in one call.
        """
        call = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs)
        given = call.arguments.get("callbacks")
        listed = given.callbacks if isinstance(given, keras.callbacks.CallbackList) else given
        flat = keras.tree.flatten(listed)
        if not any(isinstance(callback, MethodHooks) for callback in flat):
            if isinstance(given, keras.callbacks.CallbackList):
                given.callbacks.append(hooks := MethodHooks())
                hooks.set_model(self)
            else:
                call.arguments["callbacks"] = [MethodHooks(), *filter(None, flat)]
        return super().fit(*call.args[1:], **call.kwargs)
