"""Checkpoints: exact, two generations, damage noticed."""

import contextlib
import json

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf.checkpointing import Checkpoints
from fairat_tf.devices import mirrored


def variables(value=0.0):
    return [
        tf.Variable(tf.fill([3], value)),
        tf.Variable(7, dtype=tf.int64),
        tf.Variable([[value]], dtype=tf.float64),
    ]


def saved(folder, *steps):
    for step in steps:
        written = variables(float(step) / 3)
        Checkpoints(folder, written).save({"epoch": step}, step)


def test_restores_every_dtype_bit_for_bit(tmp_path):
    saved(tmp_path, 1)
    fresh = variables()
    assert Checkpoints(tmp_path, fresh).restore() == {"epoch": 1}
    np.testing.assert_array_equal(fresh[0], np.full(3, np.float32(1 / 3)))
    np.testing.assert_array_equal(fresh[2], [[1 / 3]])


def test_nothing_saved_is_none(tmp_path):
    assert Checkpoints(tmp_path / "none", variables()).restore() is None


def test_two_generations_are_kept(tmp_path):
    saved(tmp_path, 5, 30, 200)
    assert [p.name for p in Checkpoints(tmp_path, []).generations()] == ["step-0000000200", "step-0000000030"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "manifest", "missing", "garbage manifest"])
def test_a_damaged_newest_falls_back_and_says_so(tmp_path, damage, caplog):
    saved(tmp_path, 1, 2)
    newest = tmp_path / "step-0000000002"
    data = (newest / "variables.npz").read_bytes()
    if damage == "truncate":
        (newest / "variables.npz").write_bytes(data[:-20])
    elif damage == "flip":
        (newest / "variables.npz").write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    elif damage == "manifest":
        (newest / "manifest.json").unlink()
    elif damage == "missing":
        (newest / "variables.npz").unlink()
    else:
        (newest / "manifest.json").write_text("{")
    assert Checkpoints(tmp_path, variables()).restore() == {"epoch": 1}
    assert "damaged" in caplog.text


def test_an_unfinished_write_is_not_a_generation(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / ".writing").mkdir()
    (tmp_path / ".writing" / "variables.npz").write_bytes(b"half")
    assert Checkpoints(tmp_path, variables()).restore() == {"epoch": 1}
    saved(tmp_path, 2)
    assert Checkpoints(tmp_path, variables()).restore() == {"epoch": 2}


def kept_apart(replicas):
    """Returns a sum of which each replica keeps a part, under that many replicas, and the strategy."""
    strategy = mirrored(tuple(f"CPU:{i}" for i in range(replicas))) if replicas > 1 else None
    with strategy.scope() if strategy else contextlib.nullcontext():
        apart = tf.Variable(
            [0.0],
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        return [apart, tf.Variable([5.0])]


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_a_sum_survives_another_number_of_replicas(tmp_path, before, after):
    old, new = kept_apart(before), kept_apart(after)
    for replica, part in enumerate(getattr(old[0], "values", (old[0],))):
        part.assign([1.0 + replica])
    total = sum(range(1, before + 1))
    Checkpoints(tmp_path, old).save({}, 1)
    Checkpoints(tmp_path, new).restore()
    parts = [float(part[0]) for part in getattr(new[0], "values", (new[0],))]
    assert sum(parts) == total and float(new[1][0]) == 5.0
    assert parts == ([1.0, 2.0] if before == after else [total, 0.0][:after])


def test_other_variables_are_refused(tmp_path):
    saved(tmp_path, 1)
    with pytest.raises(ValueError, match="holds 3 variables, this run has 1"):
        Checkpoints(tmp_path, variables()[:1]).restore()


def test_the_manifest_names_the_hash_of_each_file(tmp_path):
    saved(tmp_path, 1)
    manifest = json.loads((tmp_path / "step-0000000001/manifest.json").read_text())
    assert sorted(manifest) == ["state.json", "variables.npz"] and all(
        len(v) == 64 for v in manifest.values()
    )


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
