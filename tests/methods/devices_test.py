"""One, two and four devices train the same network, whatever the method: in float64 to 1e-9 after 20 steps.

Rounding is the only difference there may be, and the sign in PGD turns a gradient that is rounded differently
around 0 into a step of another direction. In float64 the two sides of 0 are 1e-16 apart and no gradient of
these networks falls between them; in float32 some do within a few steps, so float32 is compared after one.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import devices, errors, methods, rng
from fairat_tf.attacks import threat
from fairat_tf.callbacks.classwise_history import ClasswiseHistory
from fairat_tf.methods.hooks import MethodHooks
from fairat_tf.training_loop import Loop, Position
from tests import support

NAMES = methods.names()
EPOCHS, STEPS, BATCH = 4, 5, 16
SPLIT = support.tiny_split(EPOCHS * STEPS * BATCH)
# runs of four epochs in which every switch is passed
OPTIONS: dict[str, list[dict]] = {
    "cfa": [{"cfa_average_from": 0.3, "cfa_threshold": 0.0}],
    "cfol": [{"cfol_draw": "reweight", "cfol_rate": 0.01}],  # drawing is the pipeline's affair
    "dafa": [{"dafa_warmup": 0.3}],
    "frl": [{"frl_rate": 0.5}],
    "fairat": [
        {},
        {"augmentation": "crop", "hard_select": "quantile", "class_weights": "inverse", "ema_decay": 0.9},
        {
            "augmentation": "crop",
            "hard_score": "memory",
            "hard_combine": "append",
            "loss": "trades",
            "awp_gamma": 0.01,
            "class_weights": "hedge:1",
        },
        {"augmentation": "crop", "hard_balanced": True},
        {"augmentation": "crop", "hard_score": "natural"},
        {
            "augmentation": "crop",
            "hard_choice": "worst_classes",
            "class_label_smoothing": 0.2,
            "easy_fraction": 0.3,
        },
    ],
}
CASES = [(name, options) for name in NAMES for options in OPTIONS.get(name, [{}])]
# fairat with random choices, but without RandAugment's long graph
FAST = [("pgd_at", {}), ("fairat", {"augmentation": "crop", "hard_combine": "append"})]


def strategy_over(count):
    if count == 1:
        return tf.distribute.get_strategy()
    return devices.mirrored(tuple(f"CPU:{i}" for i in range(count)))


def made(name, strategy, **options):
    with strategy.scope():
        network = support.tiny_network(batch_norm=True, synchronized=strategy.num_replicas_in_sync > 1)
        return support.make_method(name, network, num_examples=len(SPLIT), epochs=EPOCHS, **options)


def batches(position, steps=STEPS):
    whole = support.batch_of(SPLIT, steps * BATCH, position.epoch * steps * BATCH)
    whole["image"] = tf.cast(whole["image"], keras.config.floatx())
    return tf.data.Dataset.from_tensor_slices(whole).batch(BATCH, drop_remainder=True)


def trained(name, count, epochs=EPOCHS, steps=STEPS, validated=True, **options):
    """Returns every variable of the method after training on `count` devices."""
    strategy = strategy_over(count)
    method = made(name, strategy, **options)
    history = ClasswiseHistory(tuple("abcd"))
    hooks = [history, MethodHooks()] if validated else []  # some methods' hooks need validation
    loop = Loop(method, strategy, callbacks=hooks)
    validation = batches(Position()) if validated else None
    loop.run(Position(), epochs, lambda position: batches(position, steps), steps, validation)
    assert int(keras.ops.convert_to_numpy(method.optimizer.iterations)) == epochs * steps
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in method.state]


def check(name, options, counts, tolerance, least=1e-3, **length):
    """Holds every variable to `tolerance` relative to its largest value, or to `least` if that is more."""
    one = trained(name, 1, **length, **options)
    for count in counts:
        for a, b in zip(one, trained(name, count, **length, **options), strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            a, b = (np.nan_to_num(np.asarray(v, np.float64)) for v in (a, b))
            assert np.abs(a - b).max(initial=0.0) <= tolerance * np.abs(a).max(initial=least), (count, a, b)


def title(value):
    return value if isinstance(value, str) else "-".join(map(str, value.values())) or "default"


def test_options_name_methods_that_exist():
    assert set(OPTIONS) <= set(NAMES)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "options"), FAST, ids=title)
def test_four_devices_equal_one_in_float64(name, options):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    check(name, options, (4,), 1e-9, validated=False)


def test_hard_examples_that_cannot_be_shared_out_are_refused(mirrored):
    options = {"hard_combine": "append", "hard_fraction": 0.3, "augmentation": "crop"}  # 5 of 16
    method = made("fairat", mirrored, **options)
    with pytest.raises(
        errors.UsageError, match="the 5 hard examples of a batch must be a multiple of the 2 devices"
    ):
        Loop(method, mirrored).run(Position(), 1, batches, STEPS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "options"), CASES, ids=title)
def test_every_method_on_two_and_four_devices_equals_one_in_float64(name, options):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    check(name, options, (2, 4), 1e-9)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "options"), CASES, ids=title)
def test_every_method_on_four_devices_equals_one_in_float32_after_one_step(name, options):
    check(name, options, (4,), 1e-5, epochs=1, steps=1, validated=False)


def test_everything_in_a_float64_run_is_float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    method = made("fairat", strategy_over(1), ema_decay=0.9)
    seen = {keras.backend.standardize_dtype(variable.dtype) for variable in method.state}
    assert {dtype for dtype in seen if "float" in dtype} == {"float64"}
    batch = next(iter(batches(Position())))
    adversarial = method.attacked(batch["image"], batch["label"], rng.key(0, "test"))
    assert adversarial.dtype == method.inference(adversarial).dtype == tf.float64


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_replicas_start_at_different_points_which_are_those_of_one_device(norm):
    strategy, image = strategy_over(4), tf.fill([16, 4, 4, 3], 0.5)
    seed = rng.key(0, "test")

    def start(images):
        return threat.get(norm)(images, 0.1).random_start(seed)

    @tf.function
    def on_replicas():
        return strategy.run(start, args=(image[:4],))

    parts = [part.numpy() for part in strategy.experimental_local_results(on_replicas())]
    rounding = 1e-6 if norm == "l2" else 0.0  # of the length, a sum over the pixels
    np.testing.assert_allclose(np.concatenate(parts), start(image), rtol=0, atol=rounding)
    for i, part in enumerate(parts):
        for other in parts[i + 1 :]:
            assert np.abs(part - other).mean() > 1e-3


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
