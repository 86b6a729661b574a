"""What Keras' own `compile` and `fit` need to know of a method.

model.compile(optimizer=SGD(0.1))
model.fit(batches, epochs=110, validation_data=validation)
"""

from typing import Any

import keras

from fairat_tf.methods.hooks import MethodHooks


class Fitted(keras.Model):
    """The part of `methods.base.Method` that Keras drives."""

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As Keras' `compile`.

        Raises:
          ValueError: layers of float16, whose gradients need a scaled loss.
        """
        super().compile(*args, **kwargs)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError("float16 is not supported, its loss would have to be scaled; use bfloat16")

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """As Keras' `fit`; the method is told of every epoch, as by `MethodHooks` among the callbacks.

        Batches are pairs (images, labels) or the dictionaries of `data.training_batches`. What a method
        changes from epoch to epoch follows the epoch's number, so give all epochs in one call, or
        `initial_epoch`.
        """
        given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else []
        if not any(isinstance(callback, MethodHooks) for callback in given):
            callbacks = [MethodHooks(), *given]
        return super().fit(*args, callbacks=callbacks, **kwargs)
