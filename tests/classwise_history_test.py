"""The premise in the logs: do the classes that a network is unsure of have the least robustness?"""

from types import SimpleNamespace

import numpy as np
import pytest

from fairat_tf.callbacks.classwise_history import ClasswiseHistory

COUNTS = np.arange(16.0).reshape(4, 4)


def history_of(**validation):
    """A record after an epoch of a stand-in model with these class-wise values of validation."""
    values = {
        "training": {"robust": np.zeros(4)},
        "validation": {k: np.array(v) for k, v in validation.items()},
    }
    model = SimpleNamespace(
        train_metrics="training",
        validation_metrics="validation",
        classwise=values.__getitem__,
        robust=SimpleNamespace(matrix=lambda: COUNTS),
    )
    history = ClasswiseHistory(tuple("abcd"))
    history.set_model(model)
    history.on_epoch_begin(0)
    if validation:
        history.on_test_begin()
        history.on_test_end()
    return history


def test_the_premise_is_minus_one_where_the_most_uncertain_class_is_the_least_robust():
    uncertain, robust = [0.1, 0.9, 0.3, 0.8], [0.7, 0.2, 0.6, 0.3]
    logs = {}
    history_of(entropy=uncertain, clean_loss=uncertain, robust=robust).on_epoch_end(0, logs)
    assert logs == pytest.approx({"premise_entropy": -1.0, "premise_cross_entropy": -1.0})


def test_entropy_and_cross_entropy_are_each_compared_with_the_robust_accuracy():
    robust = [0.7, 0.6, 0.3, 0.2]  # ranks 4 3 2 1
    entropy = [1.0, 2.0, 3.0, 9.0]  # ranks 1 2 3 4: the reverse
    loss = [0.2, 0.1, 5.0, 0.3]  # ranks 2 1 4 3: rho = 1 - 6 * (4 + 4 + 4 + 4) / (4 * 15)
    logs = {"loss": 0.5}
    history_of(entropy=entropy, clean_loss=loss, robust=robust).on_epoch_end(0, logs)
    assert logs == pytest.approx({"loss": 0.5, "premise_entropy": -1.0, "premise_cross_entropy": -0.6})


def test_an_epoch_without_validation_has_no_premise():
    history, logs = history_of(), {"loss": 0.5}
    history.on_epoch_end(0, logs)
    assert logs == {"loss": 0.5} and not history.validation and not history.confusion.any()


def test_table_and_confusion_hold_what_was_measured():
    history = history_of(robust=[0.5, 0.25, 1.0, 0.0])
    np.testing.assert_array_equal(history.confusion, COUNTS)
    rows = [(row["split"], row["metric"], row["class"], row["value"]) for row in history.table()]
    robust = zip("abcd", [0.5, 0.25, 1.0, 0.0], strict=True)
    assert rows[:4] == [("train", "robust", name, 0.0) for name in "abcd"]
    assert rows[4:] == [("validation", "robust", name, value) for name, value in robust]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
