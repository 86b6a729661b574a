"""What assembly gives every method, and the weights that `--init_from` brings."""

import dataclasses

import keras
import numpy as np
import pytest

from fairat_tf import assembly, errors
from fairat_tf.config import Attack, Config, Data, Network, Optimization
from tests import support

FACTS = Data(dataset="tiny", batch_size=16, weak_augmentation="none")
NET = Network(network="small_cnn", width=4)
RUN = Optimization(epochs=3, learning_rate=0.1, schedule="constant")


def assembled(method="trades", network=NET, optimization=RUN):
    config = Config(
        data=FACTS, network=network, attack=Attack(steps=2), optimization=optimization, method=method
    )
    return assembly.assemble(config, support.tiny_dataset())


def test_every_method_gets_the_shared_options_and_the_length_of_the_run():
    wanted = {
        "ema_decay": 0.9,
        "awp_gamma": 0.01,
        "awp_warmup": 0.2,
        "label_smoothing": 0.1,
        "class_label_smoothing": 0.2,
        "class_weights": "1,1,2,1",
    }
    method = assembled(optimization=dataclasses.replace(RUN, **wanted)).method
    assert {name: getattr(method, name) for name in wanted} == wanted
    assert method.epochs == 3


def test_init_from_brings_all_weights(tmp_path):
    source = assembled().method.network
    source.set_weights([w + 0.25 for w in source.get_weights()])
    source.save(tmp_path / "model.keras")
    started = assembled(network=dataclasses.replace(NET, init_from=str(tmp_path / "model.keras"))).method
    for a, b in zip(source.get_weights(), started.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_init_from_another_network_is_refused_with_both_shapes(tmp_path):
    support.tiny_network().save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match=r"other weights than the network asked for \(.*instead of"):
        assembled(network=dataclasses.replace(NET, init_from=str(tmp_path / "other.keras")))


def test_init_from_nowhere_is_refused(tmp_path):
    with pytest.raises(errors.UsageError, match="nowhere.keras"):
        assembled(network=dataclasses.replace(NET, init_from=str(tmp_path / "nowhere.keras")))


def test_init_from_what_is_no_keras_model_is_refused(tmp_path):
    support.tiny_network().export(tmp_path / "saved", verbose=False)
    with pytest.raises(ValueError, match="holds no Keras model"):
        assembly.copy_weights(str(tmp_path / "saved"), keras.Sequential())


def test_a_method_that_fine_tunes_says_so_when_it_starts_from_nothing(caplog):
    assembled("frl")
    assert "--init_from" in caplog.text
    caplog.clear()
    assembled("trades")
    assert "--init_from" not in caplog.text


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
