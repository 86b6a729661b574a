"""Which epoch the best network is of, which of a method's networks, and that file and facts stay together."""

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


# ---- file and facts, wherever training ends --------------------------------------------------------------


@pytest.fixture
def keeper(tmp_path):
    def make(best=None):
        callback = callback_for(method, tmp_path / "best/model.keras")
        callback.best = best or {}
        return callback

    method = support.make_method("pgd_at")
    return make


def ends(callback, epoch, score):
    """Ends an epoch: its number is what every weight of the network is."""
    fill(callback.model.network, epoch)
    callback.on_epoch_end(epoch, {"val_robust_accuracy": score})


def held(tmp_path):
    """Returns the epoch of the network in the file, and the names of the folder."""
    weights = keras.models.load_model(tmp_path / "best/model.keras").get_weights()
    return {float(w.flat[0]) for w in weights}, {path.name for path in (tmp_path / "best").iterdir()}


def test_a_kill_before_the_checkpoint_brings_the_older_network_back(keeper, tmp_path):
    first = keeper()
    ends(first, 0, 0.3)
    first.saved()
    facts = first.best
    ends(first, 1, 0.4)  # killed here: the facts of epoch 1 were not saved
    again = keeper(facts)
    again.restored()
    assert held(tmp_path) == ({0.0}, {"model.keras"})
    ends(again, 1, 0.2)  # another result than the first time
    again.saved()
    assert held(tmp_path) == ({0.0}, {"model.keras"}) and again.best == {"score": 0.3, "epoch": 0}


def test_a_kill_after_the_checkpoint_keeps_the_newer_network(keeper, tmp_path):
    first = keeper()
    ends(first, 0, 0.3)
    first.saved()
    ends(first, 1, 0.4)  # the checkpoint was written; killed before `saved`
    again = keeper(first.best)
    again.restored()
    assert held(tmp_path) == ({1.0}, {"model.keras"})


def test_keras_own_fit_leaves_one_file(keeper, tmp_path):
    callback = keeper()
    for epoch, score in enumerate([0.1, 0.3, 0.2]):
        ends(callback, epoch, score)
    callback.on_train_end()
    assert held(tmp_path) == ({1.0}, {"model.keras"})


def test_an_epoch_without_validation_is_no_candidate(keeper, tmp_path):
    callback = keeper()
    callback.on_epoch_end(0, {"loss": 1.0, "robust_accuracy": 0.9})
    assert callback.best == {} and not (tmp_path / "best").exists()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
