"""The best network's file and the facts of it stay together, wherever training ends."""

import keras
import numpy as np
import pytest

from fairat_tf.callbacks.best_checkpoint import BestCheckpoint
from tests import support


@pytest.fixture
def keeper(tmp_path):
    def make(best=None):
        callback = BestCheckpoint(tmp_path / "best/model.keras", "robust_accuracy")
        callback.set_model(method)
        callback.best = best or {}
        return callback

    method = support.make_method("pgd_at")
    return make


def ends(callback, epoch, score):
    """Ends an epoch: its number is what every weight of the network is."""
    network = callback.model.network
    network.set_weights([np.full_like(w, epoch) for w in network.get_weights()])
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
