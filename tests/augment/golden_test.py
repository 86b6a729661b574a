"""Golden values: what each augmentation makes of fixed pixels with a fixed seed, now and in later versions.

That an augmentation is right is held elsewhere, against NumPy and published tables; this holds that a seed
draws the same tomorrow. A difference means that old runs cannot be repeated: it belongs in CHANGELOG.md.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import augment, rng

GOLDEN = Path(__file__).with_name("golden.json")
PLACES = [(0, 5, 7, 1), (1, 8, 8, 0), (2, 12, 3, 2), (3, 2, 13, 1)]


def pixels():
    """Returns float32 [4, 16, 16, 3]: a different ramp in each image and channel."""
    n, y, x, c = np.meshgrid(*map(np.arange, (4, 16, 16, 3)), indexing="ij")
    return tf.constant((n * 29 + y * 17 + x * 37 + c * 71) % 256 / 255, tf.float32)


def values(name):
    """Returns the mean of each image and four pixels after the augmentation (mixed labels for a mix)."""
    images, seed = pixels(), rng.key(0, "golden")
    if name in augment.mix_names():
        got, labels = augment.get_mix(name)(images, tf.eye(4), seed)
        extra = labels.numpy().max(1).tolist()
    else:
        got, extra = augment.get(name)(images, seed), []
    got = got.numpy().astype(np.float64)
    return [*got.mean((1, 2, 3)).tolist(), *(float(got[place]) for place in PLACES), *extra]


NAMES = [*augment.names(), *augment.mix_names()]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_draws_what_it_always_drew(name):
    np.testing.assert_allclose(values(name), json.loads(GOLDEN.read_text())[name], atol=2e-5)


def test_every_golden_value_belongs_to_an_augmentation_and_tells_something():
    golden = json.loads(GOLDEN.read_text())
    assert list(golden) == NAMES
    plain = golden["none"]
    assert all(np.abs(np.subtract(v[:8], plain)).max() > 1e-3 for name, v in golden.items() if name != "none")


if __name__ == "__main__":
    if "--write" in sys.argv:
        rounded = {name: [round(value, 6) for value in values(name)] for name in NAMES}
        GOLDEN.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {v}" for k, v in rounded.items()) + "\n}\n")
        raise SystemExit
    raise SystemExit(pytest.main([__file__]))
