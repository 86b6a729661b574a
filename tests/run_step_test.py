"""tools/run_step: the exported step trains as Keras does, elsewhere and in parts, and its files are whole."""

import fcntl
import io
import json
import resource
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fairat_tf import assembly, errors
from fairat_tf.training_loop import Loop, Position
from tests import support
from tests.step_support import RUN, config_of, elsewhere, loaded, own_data

STEPS = 20
shards, records = loaded("shards"), loaded("records")
export, collect = loaded("export"), loaded("collect")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return own_data(tmp_path_factory.mktemp("data") / "own.npz")


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("step") / "step"
    assert export.main([str(folder), dataset, *RUN]) == 0
    return folder


@pytest.fixture
def fresh(exported, tmp_path):
    """Returns a copy of the export that no other test has trained."""
    import shutil

    return Path(shutil.copytree(exported, tmp_path / "step", ignore=shutil.ignore_patterns("run")))


@pytest.mark.timeout(300)
def test_twenty_steps_have_the_losses_of_keras(dataset, exported):
    keras.utils.set_random_seed(0)
    config = config_of(dataset, *RUN)
    parts = assembly.assemble(config, assembly.load(config))
    loop, losses = Loop(parts.method, parts.strategy), []
    parts.method.reset_metrics()
    for batch in parts.training(Position()).take(STEPS):
        loop._train_step(batch)
        losses.append(loop.results(parts.method.train_metrics)["loss"])
    there = elsewhere(exported, f"--steps={STEPS}")
    assert there.returncode == 0, there.stderr
    np.testing.assert_allclose(json.loads(there.stdout), losses, rtol=2e-4)
    assert len(losses) == STEPS and np.ptp(losses) > 0.05  # it learns, and the two do so alike


@pytest.mark.timeout(300)
def test_training_in_parts_ends_with_the_same_bits_and_comes_back_into_keras(fresh, exported, tmp_path):
    assert elsewhere(fresh, "--epochs=1").returncode == 0
    assert elsewhere(fresh, "--seconds=0").returncode == 75  # no time for another epoch
    assert elsewhere(fresh).returncode == 0
    assert elsewhere(exported).returncode == 0
    (_, state), (_, whole) = (sorted((f / "run").glob("state-*")) for f in (fresh, exported))
    parts, (arrays, facts) = shards.read(state)[0], shards.read(whole)
    assert facts["epoch"] == 3 and state.name == whole.name == "state-0003"
    assert all(np.array_equal(parts[name], arrays[name], equal_nan=True) for name in arrays)
    log = [json.loads(line) for line in (fresh / "run/epochs.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [0, 1, 2] and log[2]["robust_accuracy"] > log[0][
        "robust_accuracy"
    ]

    target = tmp_path / "network.keras"
    assert collect.main([str(fresh / "run/last/epoch-0003"), str(target)]) == 0
    network = keras.models.load_model(target)
    names = json.loads((fresh / "program.json").read_text())["evaluated"]
    for variable, name in zip(network.weights, names, strict=True):
        np.testing.assert_array_equal(variable.numpy(), parts[name])


@pytest.mark.timeout(300)
def test_an_epoch_that_diverges_leaves_the_state_before_it(fresh):
    assert elsewhere(fresh, "--epochs=1").returncode == 0
    state, log = fresh / "run/state-0001", fresh / "run/epochs.jsonl"
    arrays, facts = shards.read(state)
    huge = {name: a * np.float32(1e30) if a.dtype == np.float32 else a for name, a in arrays.items()}
    shards.write(state, huge, facts)
    before = log.read_text()
    found = elsewhere(fresh)
    assert found.returncode == errors.Diverged.exit_code
    assert "training diverged in epoch 2" in found.stderr and "after epoch 1 is kept" in found.stderr
    assert "Traceback" not in found.stderr
    assert [path.name for path in (fresh / "run").glob("state-*")] == ["state-0001"]
    assert not (fresh / "run/last/epoch-0002").exists() and log.read_text() == before


@pytest.mark.timeout(300)
def test_a_kill_between_log_and_state_repeats_the_epoch_and_its_line(fresh):
    assert elsewhere(fresh, "--epochs=1").returncode == 0
    log = fresh / "run/epochs.jsonl"
    first = log.read_text()
    log.write_text(first + first.replace('"epoch": 0', '"epoch": 1') + '{"epoch": 2, "lo')
    assert elsewhere(fresh, "--epochs=2").returncode == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1] and lines[1]["loss"] != lines[0]["loss"]


@pytest.mark.timeout(300)
def test_a_folder_in_use_and_a_full_disk_are_one_line_each(fresh):
    (fresh / "run").mkdir()
    with (fresh / "run/lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        found = elsewhere(fresh)
    assert found.returncode == errors.StorageError.exit_code and "in use by another process" in found.stderr
    small = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, small[1]))  # also of the process that is started
    try:
        found = elsewhere(fresh, "--epochs=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, small)
    assert found.returncode == errors.StorageError.exit_code and "Traceback" not in found.stderr
    assert "cannot be written" in found.stderr and not list((fresh / "run").glob("state-*"))


def test_the_start_is_the_network_that_keras_starts_with(dataset, exported, tmp_path):
    collect.collect(exported / "start", tmp_path / "start.keras")
    keras.utils.set_random_seed(0)
    config = config_of(dataset, *RUN)
    expected = assembly.assemble(config, assembly.load(config)).method.evaluated_network
    images = support.tiny_split(8).images / 255.0
    found = keras.models.load_model(tmp_path / "start.keras")(images, training=False)
    np.testing.assert_array_equal(found, expected(images, training=False))


def test_what_needs_keras_between_epochs_is_refused_in_one_line(dataset, tmp_path, capsys):
    for flags, word in (
        (["--method=wat"], "wat"),
        (["--method=dafa"], "dafa"),
        (["--method=fairat", "--hard_combine=append", "--split_bn"], "split_bn"),
    ):
        assert export.main([str(tmp_path / "no"), dataset, *RUN[1:], *flags]) == errors.UsageError.exit_code
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert told.startswith("run_step: ") and word in told
    assert not (tmp_path / "no/step.hlo").exists()


def test_records_that_are_not_there_are_missing_data(dataset, tmp_path, capsys):
    given = [str(tmp_path / "no"), dataset, *RUN, f"--records={tmp_path}/*-train*"]
    assert export.main(given) == errors.DataError.exit_code
    assert "no such file" in capsys.readouterr().err


def test_a_folder_that_is_not_whole_is_told(tmp_path):
    found = elsewhere(tmp_path)
    assert found.returncode == 3 and found.stderr.startswith("run_step: ") and "Traceback" not in found.stderr
    with pytest.raises(errors.DataError, match=r"program\.json"):
        collect.collect(tmp_path / "last", tmp_path / "x.keras")


# ---- shards ---------------------------------------------------------------------------------------------


def test_arrays_come_back_from_parts_of_limited_size(tmp_path):
    weights = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(np.float32)
    arrays = {
        "a": weights, "zero": np.zeros((1000, 4), np.float32), "same": weights.copy(), "step": np.int64(12),
        "flag": np.array([True, False]), "empty": np.zeros((0, 3), np.float32),
    }  # fmt: skip
    shards.write(tmp_path / "s", arrays, {"epoch": 4}, limit=100)
    found, facts = shards.read(tmp_path / "s")
    assert facts == {"epoch": 4} and list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.asarray(array).dtype and found[name].shape == np.shape(array)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "s").glob("*.bin"))]
    assert max(sizes) <= 100 and sum(sizes) == weights.nbytes + 8 + 2  # zeros and the copy cost nothing


def test_small_states_are_rounded_as_tensorflow_rounds(tmp_path):
    values = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    values[:3] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1e-30  # two ties: to even
    shards.write(tmp_path / "s", {"w": values, "n": np.arange(3)}, {}, small=True)
    found, _ = shards.read(tmp_path / "s")
    np.testing.assert_array_equal(found["w"], tf.cast(tf.cast(values, tf.bfloat16), tf.float32).numpy())
    np.testing.assert_array_equal(found["n"], np.arange(3))


@pytest.mark.timeout(300)
def test_kept_networks_are_rounded_on_demand_and_the_state_is_not(fresh):
    assert elsewhere(fresh, "--small", "--keep_last=1").returncode == 0
    state, _ = shards.read(fresh / "run/state-0003")
    network, _ = shards.read(fresh / "run/last/epoch-0003")
    for name, values in network.items():
        rounded = tf.cast(tf.cast(state[name], tf.bfloat16), tf.float32).numpy()
        np.testing.assert_array_equal(values, rounded if values.dtype == np.float32 else state[name])
    assert any(not np.array_equal(network[name], state[name]) for name in network)


def test_damage_is_found_and_the_state_before_it_used(tmp_path, capsys):
    for epoch in (1, 2):
        shards.write(tmp_path / f"state-{epoch:04d}", {"w": np.full(9, epoch, np.float32)}, {})
    assert shards.newest(tmp_path, "state-").name == "state-0002"
    part = tmp_path / "state-0002/part-000.bin"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(shards.DamagedError, match="damaged"):
        shards.read(tmp_path / "state-0002")
    assert shards.newest(tmp_path, "state-").name == "state-0001"
    assert "part-000.bin is damaged" in capsys.readouterr().err
    assert shards.newest(tmp_path, "nothing-") is None
    (tmp_path / "state-0001/part-000.bin").unlink()
    with pytest.raises(shards.DamagedError, match="damaged states only"):
        shards.newest(tmp_path, "state-")


def test_the_state_of_another_export_is_refused(fresh):
    arrays, facts = shards.read(fresh / "start")
    shards.write(fresh / "run/state-0001", arrays, {**facts, "epoch": 1, "program": "another"})
    found = elsewhere(fresh, "--steps=1")
    assert found.returncode == 3 and "is of another export" in found.stderr


@pytest.mark.parametrize("words", [["--datset=x"], ["dataset=cifar10"], ["--method=nothing"], ["--norm=l2"]])
def test_wrong_words_are_one_line(words, tmp_path, capsys):
    assert export.main([str(tmp_path / "step"), *words]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith("run_step: ") and not (tmp_path / "step").exists()


# ---- records --------------------------------------------------------------------------------------------


def example(image, label, form):
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, form)
    features = {
        "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"train_00001"])),
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[stored.getvalue()])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "weight": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_records_hold_what_tensorflow_reads_from_them(form, tmp_path):
    split = support.tiny_split(12)
    path = str(tmp_path / "own-train.tfrecord-00000-of-00001")
    with tf.io.TFRecordWriter(path) as writer:
        for image, label in zip(split.images, split.labels, strict=True):
            writer.write(example(image, int(label) + 300, form))
    images, labels = records.images_and_labels([path])
    keys = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    read = [tf.io.parse_single_example(r, keys) for r in tf.data.TFRecordDataset(path)]
    np.testing.assert_array_equal(labels, [int(r["label"]) for r in read])
    theirs = np.stack([tf.io.decode_image(r["image"]) for r in read])
    difference = np.abs(images.astype(int) - theirs).max()
    assert difference == 0 if form == "PNG" else difference <= 4  # two ways to round a cosine transform
    order, images = np.random.default_rng(0).permutation(12), theirs
    np.testing.assert_array_equal(export.rows_in([path], images[order], labels[order]), order)
    with pytest.raises(errors.DataError, match="12 examples are not in"):
        export.rows_in([path], 255 - images, labels)
    Path(path).write_bytes(Path(path).read_bytes()[:-3])
    with pytest.raises(ValueError, match="ends within a record"):
        list(records.records(path))


def test_real_cifar_is_the_same_for_both(tfds_cifar10):
    (path,) = Path(tfds_cifar10).glob("cifar10/*/cifar10-test*")
    images, labels = records.images_and_labels([path])
    split = assembly.load(
        config_of("--dataset=cifar10", f"--data_dir={tfds_cifar10}", "--limit_train=100")
    ).test
    rows = export.rows_in([path], split.images[:500], split.labels[:500])
    np.testing.assert_array_equal(labels[rows], split.labels[:500])
    difference = np.abs(images[rows].astype(int) - split.images[:500])
    assert len(images) == len(labels) == 10_000 and difference.max() <= 8 and difference.mean() < 1.0


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
