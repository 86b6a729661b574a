"""Disks, directories and clocks that fail: a clear end, and nothing lost that was saved.

A full disk during a whole run, a directory in use and damaged checkpoints stand in tests/bad_input/, a
corrupt TFRecord in tests/data/tfds_source_test.py, a killed worker in tests/workers_test.py.
"""

import contextlib
import dataclasses
import datetime
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import errors, run_directory, train_lib
from fairat_tf.checkpointing import Checkpoints
from fairat_tf.config import Attack, Config, Data, Network, Optimization, Run
from fairat_tf.data import pipeline
from fairat_tf.signals import StopSignals
from fairat_tf.training_loop import Loop, Position
from tests import support

LARGE = 1 << 20


def checkpoints(folder, value):
    return Checkpoints(folder, [tf.Variable(np.full(LARGE, value, np.float32))])


@contextlib.contextmanager
def files_of_at_most(size):
    """Inside, a file that grows beyond `size` bytes fails as on a full disk or at the end of a quota."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before_and_the_next_one_works(tmp_path):
    checkpoints(tmp_path, 1.0).save({"epoch": 1}, 1)
    with files_of_at_most(LARGE), pytest.raises(OSError, match="File too large"):
        checkpoints(tmp_path, 2.0).save({"epoch": 2}, 2)
    saved = checkpoints(tmp_path, 0.0)
    assert saved.restore() == {"epoch": 1} and float(saved.variables[0][-1]) == 1.0
    checkpoints(tmp_path, 3.0).save({"epoch": 3}, 3)
    assert saved.restore() == {"epoch": 3} and float(saved.variables[0][-1]) == 3.0


def test_saving_the_same_step_again_never_takes_the_old_one_away_first(tmp_path, monkeypatch):
    kept = checkpoints(tmp_path, 1.0)
    kept.save({"epoch": 0}, 7)
    real, present = os.rename, []

    def rename(source, target, **kwargs):
        present.append(kept.restore())
        real(source, target, **kwargs)

    monkeypatch.setattr(os, "rename", rename)
    for epoch in (1, 2, 3):
        kept.save({"epoch": epoch}, 7)
    assert present == [{"epoch": 0}, {"epoch": 1}, {"epoch": 2}]
    assert kept.restore() == {"epoch": 3} and len(kept.generations()) == 2


@contextlib.contextmanager
def read_only(folder):
    """Inside, nothing can be written into the folder: mounted read-only for root, else by permissions."""
    if os.geteuid():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode
    again = ["mount", "-o", "remount,ro,bind", folder]
    if bound or subprocess.run(again, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here, and permissions do not bind root")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def tiny_config(tmp_path, run):
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    test = {"test_images": images[:9], "test_labels": labels[:9]}
    np.savez(tmp_path / "data.npz", train_images=images, train_labels=labels, **test)
    return Config(
        method="standard",
        data=Data(dataset=f"npz:{tmp_path / 'data.npz'}", batch_size=16, validation_fraction=0.2),
        network=Network(network="small_cnn", width=4),
        attack=Attack(steps=1, validation_steps=1),
        optimization=Optimization(epochs=1),
        run=Run(run_dir=str(run), evaluate="", tensorboard=False),
    )


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_directory_that_became_read_only_is_told_and_stays_as_it_is(tmp_path):
    run = tmp_path / "run"
    config = tiny_config(tmp_path, run)
    train_lib.train(config)
    before = contents(run)
    with read_only(run), pytest.raises(errors.StorageError) as refused:
        train_lib.train(config)
    assert refused.value.exit_code == 7
    assert "Read-only file system" in str(refused.value) or "Permission denied" in str(refused.value)
    assert contents(run) == before
    (tmp_path / "shelf").mkdir()
    with read_only(tmp_path / "shelf"), pytest.raises(errors.StorageError, match="choose another directory"):
        train_lib.train(tiny_config(tmp_path, tmp_path / "shelf/new"))


def test_a_clock_that_runs_backwards_changes_nothing(tmp_path, monkeypatch):
    now = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    split, method = support.tiny_split(64), support.make_method("standard")
    kept = Checkpoints(tmp_path, method.state)
    loop = Loop(method, tf.distribute.get_strategy(), checkpoints=kept, checkpoint_seconds=0.0)
    saved = []
    monkeypatch.setattr(loop, "_save", saved.append)
    loop.run(Position(), 1, lambda p: pipeline.training_batches(split, batch_size=16, seed=0, epoch=0), 4)
    assert [position.step for position in saved] == [1, 2, 3, 4, 0]


def test_a_run_without_a_directory_never_takes_one_that_exists(tmp_path, monkeypatch):
    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2025, 1, 1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_directory.datetime, "datetime", Stopped)
    paths = []
    for _ in range(3):
        paths.append(run_directory.default_path(Config()))
        os.makedirs(paths[-1])
    assert len(set(paths)) == 3


def test_an_operation_that_is_not_deterministic_is_named_where_that_was_asked_for(tmp_path):
    wanted = tiny_config(tmp_path, tmp_path / "run")
    asked = dataclasses.replace(wanted, run=dataclasses.replace(wanted.run, deterministic=True))
    refusal = tf.errors.UnimplementedError(
        None, None, "Deterministic GPU implementation of Foo not available."
    )
    refused = pytest.raises(errors.UsageError, match="--deterministic: .*Foo not available")
    with refused as told, train_lib._nondeterminism_told(asked):
        raise refusal
    assert told.value.exit_code == 2
    with pytest.raises(tf.errors.UnimplementedError), train_lib._nondeterminism_told(wanted):
        raise refusal
    with pytest.raises(tf.errors.InvalidArgumentError), train_lib._nondeterminism_told(asked):
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")


@pytest.mark.slow
def test_a_deterministic_run_repeats_bit_for_bit(tmp_path):
    tiny_config(tmp_path, tmp_path)
    words = ["--network=small_cnn", "--width=4", "--batch_size=16", "--attack_steps=2", "--evaluate="]
    words += [
        "--validation_steps=1",
        "--epochs=2",
        "--notensorboard",
        "--deterministic",
        "--augmentation=crop",
    ]
    for name in "ab":
        command = [sys.executable, "-m", "fairat_tf.train", f"--dataset=npz:{tmp_path}/data.npz", *words]
        subprocess.run([*command, f"--run_dir={tmp_path / name}"], check=True, capture_output=True)
    files = [sorted((tmp_path / name / "checkpoints").glob("*/variables.npz"))[-1] for name in "ab"]
    with np.load(files[0]) as a, np.load(files[1]) as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_data_are_read_ends_at_once(number, monkeypatch):
    def reading(config):
        os.kill(os.getpid(), number)
        raise AssertionError("went on reading")

    monkeypatch.setattr(train_lib, "_prepared", reading)
    with pytest.raises(errors.Interrupted, match="nothing was trained by this command") as told:
        train_lib.train(Config())
    assert told.value.exit_code == 75


def test_a_signal_in_training_is_noted():
    with StopSignals() as stop:
        stop.raise_from_now_on("too early")
        stop.note_from_now_on()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason() == "SIGTERM"
        with pytest.raises(errors.Interrupted, match="SIGTERM: now evaluating"):
            stop.raise_from_now_on("now evaluating")


@pytest.fixture
def harmless():
    """Signals that would end this process do nothing, and what they did comes back after the test."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    yield {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_ctrl_c_after_another_signal_leaves_at_once(harmless, first):
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.Signals[first])
        assert stop.reason() == {"SIGINT": "Ctrl-C"}.get(first, first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert {number: signal.getsignal(number) for number in harmless} == harmless


def test_a_second_sigterm_or_sigusr1_is_noted_as_the_first(harmless):
    with StopSignals() as stop:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:  # which would end pytest
                pytest.fail("did not wait")
            assert stop.reason() == number.name


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
