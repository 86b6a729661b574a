"""Which epoch the best network is of, and which of a method's networks it is."""

import keras
import numpy as np
import pytest

from fairat_tf.callbacks.best_checkpoint import BestCheckpoint
from tests import support


def callback_for(method, path, select="robust_accuracy", **options):
    callback = BestCheckpoint(path, select, **options)
    callback.set_model(method)
    return callback


def fill(network, number):
    network.set_weights([np.full_like(w, number) for w in network.get_weights()])


def test_the_file_is_the_moving_average_of_the_first_epoch_with_the_highest_score(tmp_path):
    method = support.make_method("pgd_at", ema_decay=0.5)
    best = callback_for(method, tmp_path / "best/model.keras")
    for epoch, score in enumerate([0.2, 0.5, 0.5, 0.4]):
        fill(method.network, 10 + epoch)
        fill(method.ema_network, epoch)
        best.on_epoch_end(epoch, {"val_robust_accuracy": score})
    assert best.best == {"epoch": 1, "score": 0.5}
    saved = keras.models.load_model(tmp_path / "best/model.keras").get_weights()
    assert [w.shape for w in saved] == [w.shape for w in method.network.get_weights()]
    assert {float(value) for w in saved for value in w.ravel()} == {1.0}


def test_joined_metrics_are_added_and_those_of_training_are_not_looked_at(tmp_path):
    both = callback_for(
        support.make_method("pgd_at"), tmp_path / "m.keras", "robust_accuracy + robust_worst_class"
    )
    rows = [(0.5, 0.0, 0.9), (0.4, 0.25, 0.1), (0.6, 0.0, 1.0)]
    for epoch, (accuracy, worst, training) in enumerate(rows):
        logs = {"val_robust_accuracy": accuracy, "val_robust_worst_class": worst, "robust_accuracy": training}
        both.on_epoch_end(epoch, logs | {"robust_worst_class": training})
    assert both.best == {"epoch": 1, "score": pytest.approx(0.65)}


def test_an_epoch_that_is_done_again_replaces_its_own_file(tmp_path):
    method = support.make_method("pgd_at")
    best = callback_for(method, tmp_path / "m.keras")
    for number in (3, 4):
        fill(method.network, number)
        best.on_epoch_end(0, {"val_robust_accuracy": 0.5})
    saved = keras.models.load_model(tmp_path / "m.keras").get_weights()
    assert {float(value) for w in saved for value in w.ravel()} == {4.0}


def test_a_worker_that_writes_nothing_still_knows_the_best_epoch(tmp_path):
    silent = callback_for(support.make_method("pgd_at"), tmp_path / "m.keras", writes=False)
    silent.on_epoch_end(0, {"val_robust_accuracy": 0.5})
    assert silent.best == {"epoch": 0, "score": 0.5} and not list(tmp_path.iterdir())


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
