"""tools/run_step: validation after an epoch, and what follows from it, is elsewhere what it is with Keras."""

import json

import keras
import numpy as np
import pytest

from fairat_tf import assembly
from fairat_tf.methods.hooks import MethodHooks
from fairat_tf.training_loop import Loop, Position
from tests.step_support import RUN, config_of, elsewhere, loaded, own_data

export, between, shards = loaded("export"), loaded("between"), loaded("shards")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return own_data(tmp_path_factory.mktemp("data") / "own.npz")


def with_keras(dataset, *flags):
    """Returns (the method after two epochs with Keras, the metrics of each)."""
    keras.utils.set_random_seed(0)
    config = config_of(dataset, *flags)
    parts = assembly.assemble(config, assembly.load(config))
    logs = []
    log = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logged: logs.append(dict(logged)))
    loop = Loop(parts.method, parts.strategy, callbacks=[MethodHooks(), log])
    loop.run(Position(), 2, parts.training, parts.steps, parts.validation())
    return parts.method, logs


@pytest.mark.timeout(600)
def test_two_epochs_validate_and_weigh_classes_as_keras_does(dataset, tmp_path):
    flags = (*RUN, "--epochs=2", "--learning_rate=0.01", "--validation_fraction=0.1")
    flags += ("--class_weights=hedge:1",)
    method, expected = with_keras(dataset, *flags)
    assert export.main([str(tmp_path / "step"), dataset, *flags]) == 0
    done = elsewhere(tmp_path / "step", "--epochs=1")  # in two parts: the weights are in the state
    assert done.returncode == 0, done.stderr
    assert elsewhere(tmp_path / "step").returncode == 0
    found = [json.loads(line) for line in (tmp_path / "step/run/epochs.jsonl").read_text().splitlines()]
    for one, other in zip(found, expected, strict=True):
        assert set(other) <= set(one)
        assert one["val_robust_loss"] == pytest.approx(other["val_robust_loss"], rel=2e-3)
        assert one["val_clean_accuracy"] == pytest.approx(other["val_clean_accuracy"], abs=0.026)  # one of 40
        assert one["val_augmented_when_right"] == pytest.approx(other["val_augmented_when_right"], abs=0.15)
    arrays, _ = shards.read(tmp_path / "step/run/state-0002")
    facts = json.loads((tmp_path / "step/program.json").read_text())["between"]
    weights = method.class_weight.numpy()
    assert np.ptp(weights) > 0.05
    np.testing.assert_allclose(arrays[facts["class_weight"]], weights, rtol=0.01)
    np.testing.assert_allclose(arrays[facts["class_accuracy"]], method.class_accuracy.numpy(), atol=0.03)


def test_absent_classes_count_as_in_the_package():
    counts = np.array([[3.0, 1, 0], [0, 0, 0], [2, 0, 2]])
    np.testing.assert_allclose(between.class_accuracy(counts), [0.75, 0.625, 0.5])
    losses = between.mean_losses(np.array([2.0, 0, 9]), np.array([4.0, 0, 6]))
    np.testing.assert_allclose(losses, [0.5, 1.1, 1.5, 1.1])


def test_weights_follow_the_accuracies_of_training_where_that_is_the_rule():
    """Fair-ARD's formula: 3 t_k^-1 / sum of t_j^-1 = 9 / 11, 18 / 11, 6 / 11, then cut to [5/6, 5/2]."""
    facts = {"class_accuracy": "a", "class_weight": "w", "counts": "c", "class_weights": "inverse:1"}
    counts = np.array([[2.0, 1, 1], [3, 1, 0], [0, 1, 3]])
    changed = between.after_epoch(facts, {"c": counts})
    np.testing.assert_allclose(changed["a"], [0.5, 0.25, 0.75])
    np.testing.assert_allclose(changed["w"], [5 / 6, 18 / 11, 5 / 6], rtol=1e-6)
    assert set(between.after_epoch(facts | {"class_weights": ""}, {"c": counts})) == {"a"}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
