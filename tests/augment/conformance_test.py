"""What every registered augmentation holds: range, seeding, independence, and one result everywhere.

Everywhere: eager, tf.function, XLA, inside tf.data, on rows of a batch, and on two replicas.
"""

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import augment, rng

NAMES = augment.names()
SHAPE = (20, 18, 3)  # more than 255 pixels: equalize leaves smaller images alone
BATCH = 6
SEED = 5
# Made of the same parts as randaugment and idbh_weak, and slow to compile.
ALIKE = {"trivialaugment", "autoaugment", "idbh_strong", "idbh_svhn"}
XLA_NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in NAMES]

_COUNT_COMPILATIONS = """
import sys
import tensorflow as tf
from fairat_tf import augment, rng
function = tf.function(augment.get(sys.argv[1]), jit_compile=True)
for step in range(4):
    print("step", step, file=sys.stderr, flush=True)
    function(tf.fill([20, 8, 9, 3], 0.3), rng.key(0, "test", step))
"""


def pictures(channels: int = 3, batch: int = BATCH) -> tf.Tensor:
    random = np.random.default_rng(0)
    return tf.constant(random.integers(1, 256, (batch, *SHAPE[:2], channels)) / 255, tf.float32)


def seed(step: int = SEED) -> tf.Tensor:
    return rng.key(0, "test", step)


def assert_same_draws(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_range_and_repeatability(name: str, channels: int) -> None:
    images, augmentation = pictures(channels), augment.get(name)
    got = augmentation(images, seed())
    assert got.shape == images.shape
    assert got.dtype == tf.float32
    assert 0 <= got.numpy().min() <= got.numpy().max() <= 1
    np.testing.assert_array_equal(augmentation(images, seed()), got)
    other = [augmentation(images, seed(step)).numpy() for step in range(3)]
    changed = any(np.any(result != images.numpy()) for result in other)
    assert changed == (name != "none")


@pytest.mark.parametrize("name", NAMES)
def test_call_is_draw_then_apply(name: str) -> None:
    images, augmentation = pictures(), augment.get(name)
    parameters = augmentation.draw(seed(), BATCH, SHAPE)
    assert all(value.shape[0] == BATCH for value in parameters.values())
    np.testing.assert_array_equal(augmentation.apply(images, parameters), augmentation(images, seed()))


@pytest.mark.parametrize("name", NAMES)
def test_examples_do_not_see_each_other(name: str) -> None:
    images, augmentation = pictures(), augment.get(name)
    changed = tf.concat([images[:2], 1.0 - images[2:3], images[3:]], 0)
    keep = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(
        augmentation(changed, seed()).numpy()[keep], augmentation(images, seed()).numpy()[keep]
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_each_example_has_its_own_draw(name: str) -> None:
    images = tf.repeat(pictures(batch=1), 16, axis=0)
    got = augment.get(name)(images, seed()).numpy()
    assert np.any(got != got[:1])


def assert_equals_eager(name: str, compiled: bool) -> None:
    images, augmentation = pictures(), augment.get(name)
    function = tf.function(augmentation, jit_compile=compiled)
    for step in range(2):
        np.testing.assert_allclose(function(images, seed(step)), augmentation(images, seed(step)), atol=2e-6)
    assert function.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("name", NAMES)
def test_graph_equals_eager(name: str) -> None:
    assert_equals_eager(name, compiled=False)


@pytest.mark.parametrize("name", XLA_NAMES)
def test_xla_equals_eager(name: str) -> None:
    assert_equals_eager(name, compiled=True)


@pytest.mark.parametrize("name", NAMES)
def test_tf_data_equals_eager(name: str) -> None:
    """With the batch size unknown while the function is traced."""
    images, augmentation = pictures(), augment.get(name)
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(BATCH).map(lambda x: augmentation(x, seed()))
    got = next(iter(dataset))
    assert dataset.element_spec.shape.as_list() == [None, *SHAPE]
    np.testing.assert_allclose(got, augmentation(images, seed()), atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_batch_keep_their_draws(name: str) -> None:
    images, augmentation = pictures(), augment.get(name)
    rows = tf.constant([4, 1])
    taken = rng.take(seed(), rows, BATCH)
    whole = augmentation.draw(seed(), BATCH, SHAPE)
    assert_same_draws(augmentation.draw(taken, 2, SHAPE), {k: tf.gather(v, rows) for k, v in whole.items()})
    expected = tf.gather(augmentation(images, seed()), rows)
    np.testing.assert_array_equal(augmentation(tf.gather(images, rows), taken), expected)


@pytest.mark.parametrize("name", NAMES)
def test_two_replicas_draw_what_one_device_draws(name: str, mirrored: tf.distribute.Strategy) -> None:
    images, augmentation = pictures(), augment.get(name)
    halves = [images[: BATCH // 2], images[BATCH // 2 :]]
    local = mirrored.experimental_distribute_values_from_function(
        lambda context: halves[context.replica_id_in_sync_group]
    )

    @tf.function
    def step(part: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        parameters = augmentation.draw(seed(), BATCH // 2, SHAPE)
        return augmentation.apply(part, parameters), parameters

    results, drawn = mirrored.run(step, (local,))
    joined = {k: tf.concat(mirrored.experimental_local_results(v), 0) for k, v in drawn.items()}
    assert_same_draws(joined, augmentation.draw(seed(), BATCH, SHAPE))
    got = tf.concat(mirrored.experimental_local_results(results), 0)
    np.testing.assert_allclose(got, augmentation(images, seed()), atol=2e-6)


def steps_that_compiled(spec: str) -> list[int]:
    """Runs `spec` under XLA with four seeds; returns for each compilation the step in which it happened."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_compiler=1"}
    command = [sys.executable, "-c", _COUNT_COMPILATIONS, spec]
    log = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    current, steps = -1, []
    for line in log.splitlines():
        if match := re.fullmatch(r"step (\d)", line):
            current = int(match[1])
        elif "Compilation of XLA executable" in line:
            steps.append(current)
    assert current == 3
    return steps


def test_xla_compiles_once() -> None:
    """Whatever the draws: one compilation, in the first of four steps."""
    assert steps_that_compiled("crop_flip+randaugment:1,8") == [0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_each_compiles_once(name: str) -> None:
    assert steps_that_compiled(name) == [0]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
