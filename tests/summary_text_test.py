"""What a run tells before it starts: its mixing, and that a handful of validation images chooses badly."""

import dataclasses

import pytest

from fairat_tf import assembly, summary_text
from fairat_tf.config import Config, Data, Network, Optimization
from tests import support


def told(size, **data):
    config = Config(
        data=Data(batch_size=8, weak_augmentation="none", validation_fraction=0.25, **data),
        network=Network(network="small_cnn", width=2),
        optimization=Optimization(epochs=1, learning_rate=0.1, schedule="constant"),
        method="pgd_at",
    )
    dataset = dataclasses.replace(support.tiny_dataset(), train=support.tiny_split(size))
    parts = assembly.assemble(config, dataset)
    return " ".join(summary_text.recipe(parts.config, parts).split())


def test_few_validation_images_are_told():
    assert "only 4 validation images of class a: which epoch is the best is" in told(64)
    assert "note" not in told(320)


def test_mixing_stands_beside_the_augmentation():
    assert "augmentation none, mixup:0.3 with chance 0.5 " in told(64, mix="mixup:0.3", mix_probability=0.5)
    assert "augmentation none network" in told(64)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
