"""Which processors compute bfloat16, by what they say of themselves."""

import logging

import pytest
import tensorflow as tf

from fairat_tf import assembly, devices
from fairat_tf.config import Config, Data, Network, Run
from tests import support


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])


@pytest.mark.parametrize(
    ("features", "slow"),
    [
        ("fpu sse4_2 avx avx2 fma", True),  # Zen 3, Haswell
        ("fpu avx2 fma avx512f avx512bw", False),  # Skylake-SP: emulated in AVX-512, and not slow
        ("fpu avx2 avx512f avx512_bf16 amx_bf16", False),
        ("fpu avx2 avx_ne_convert", False),
    ],
)
def test_by_the_features_of_an_x86_processor(features, slow, monkeypatch):
    text = f"processor : 0\nmodel name : one\nflags\t\t: {features}\nbugs :\nprocessor : 1\nflags : avx512f\n"
    monkeypatch.setattr(devices.Path, "read_text", lambda path: text)
    assert devices.emulates_bfloat16() == slow


@pytest.mark.parametrize("text", ["processor : 0\nFeatures : fp asimd bf16\n", ""])
def test_nothing_is_said_of_other_processors(text, monkeypatch):
    monkeypatch.setattr(devices.Path, "read_text", lambda path: text)
    assert not devices.emulates_bfloat16()


def test_nothing_is_said_where_there_is_no_such_file(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(devices.Path, "read_text", missing)
    assert not devices.emulates_bfloat16()


def test_nothing_is_said_where_a_gpu_computes(monkeypatch):
    monkeypatch.setattr(devices, "_processor_features", lambda: {"avx2"})
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    assert not devices.emulates_bfloat16()


@pytest.mark.parametrize(
    ("precision", "slow", "told"),
    [("bfloat16", True, True), ("bfloat16", False, False), ("float32", True, False)],
)
def test_training_warns_of_it(precision, slow, told, monkeypatch, caplog):
    monkeypatch.setattr(devices, "emulates_bfloat16", lambda: slow)
    config = Config(
        data=Data(dataset="tiny", batch_size=16, weak_augmentation="none"),
        network=Network(network="small_cnn", width=4),
        run=Run(precision=precision),
    )
    with caplog.at_level(logging.WARNING):
        assembly.assemble(config, support.tiny_dataset())
    assert ("--precision=float32" in caplog.text) == told


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
