"""Class-wise Keras metrics against plain NumPy loops: masks, absent classes, replicas, XLA."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.metrics.classwise import ClassMean, Confusion

LABELS = np.array([0, 0, 1, 1, 1, 3, 3, 0], np.int32)
PREDICTIONS = np.array([0, 1, 1, 1, 2, 0, 3, 0], np.int32)
MASK = np.array([1, 1, 1, 1, 1, 1, 1, 0], np.float32)


def loops(labels, predictions, mask, classes):
    counts = np.zeros((classes, classes))
    for label, prediction, weight in zip(labels, predictions, mask, strict=True):
        counts[label, prediction] += weight
    return counts


def test_confusion_counts_and_results_by_hand():
    metric = Confusion("robust", 4)
    metric.update_state(LABELS, PREDICTIONS, MASK)
    np.testing.assert_array_equal(metric.matrix(), loops(LABELS, PREDICTIONS, MASK, 4))
    # class 0: 1/2, class 1: 2/3, class 2: absent, class 3: 1/2; over examples 4/7
    np.testing.assert_allclose(metric.per_class(), [0.5, 2 / 3, np.nan, 0.5], rtol=1e-6)
    result = {k: float(v) for k, v in metric.result().items()}
    accuracies = np.array([0.5, 2 / 3, 0.5])
    expected = {
        "robust_accuracy": 4 / 7,
        "robust_worst_class": 0.5,
        "robust_gap": 1 / 6,
        "robust_nsd": accuracies.std() / accuracies.mean(),
    }
    assert result == pytest.approx(expected, rel=1e-5)


def test_unbalanced_classes_are_counted_as_they_are():
    metric = Confusion("clean", 3)
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    metric.update_state(labels, labels)
    assert {k: float(v) for k, v in metric.result().items()} == {
        "clean_accuracy": 1.0,
        "clean_worst_class": 1.0,
        "clean_gap": 0.0,
        "clean_nsd": 0.0,
    }


def test_a_class_at_zero_is_the_worst_and_an_absent_class_is_not():
    metric = Confusion("clean", 3)
    metric.update_state([0, 0, 1], [0, 0, 0])
    assert float(metric.result()["clean_worst_class"]) == 0.0
    metric.reset_state()
    metric.update_state([0, 0], [0, 0])
    assert float(metric.result()["clean_worst_class"]) == 1.0


def test_before_any_example_results_are_finite():
    assert all(np.isfinite(float(v)) for v in Confusion("clean", 3).result().values())
    assert float(ClassMean("loss", 3).result()) == 0.0


def test_class_mean_by_hand():
    metric = ClassMean("loss", 3)
    metric.update_state([0, 0, 2], [1.0, 3.0, 10.0], [1.0, 1.0, 1.0])
    metric.update_state([2, 1], [20.0, 99.0], [1.0, 0.0])
    np.testing.assert_allclose(metric.per_class(), [2.0, np.nan, 15.0])
    assert float(metric.result()) == pytest.approx(34 / 4)


@pytest.mark.parametrize("jit", [False, True])
def test_graph_and_xla_count_the_same(jit):
    metric = Confusion("robust", 4)
    tf.function(lambda: metric.update_state(LABELS, PREDICTIONS, MASK), jit_compile=jit, autograph=False)()
    np.testing.assert_array_equal(metric.matrix(), loops(LABELS, PREDICTIONS, MASK, 4))


def test_replicas_add_up_over_several_steps(mirrored):
    with mirrored.scope():
        metric = Confusion("robust", 4)

    @tf.function(autograph=False)
    def step():
        mirrored.run(lambda: metric.update_state(LABELS, PREDICTIONS, MASK))

    for _ in range(3):
        step()
    np.testing.assert_array_equal(metric.matrix(), 6 * loops(LABELS, PREDICTIONS, MASK, 4))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
