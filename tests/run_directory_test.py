"""A run directory belongs to one process and one configuration."""

import dataclasses
import errno
import os

import numpy as np
import pytest

from fairat_tf import errors, run_directory
from fairat_tf.config import Attack, Config, Data, Optimization, Run
from fairat_tf.run_directory import RunDirectory, data_of, default_path
from tests import support


def test_a_second_process_is_kept_off(tmp_path):
    with (
        RunDirectory(tmp_path / "run"),
        pytest.raises(errors.StorageError, match="in use by another process"),
        RunDirectory(tmp_path / "run"),
    ):
        pass
    with RunDirectory(tmp_path / "run"):
        pass


def test_the_same_configuration_may_go_on_and_another_is_refused_with_the_difference(tmp_path):
    config = Config(optimization=Optimization(epochs=3), options={"hard_fraction": 0.5})
    with RunDirectory(tmp_path / "run") as run:
        run.claim(config)
        run.claim(config)
        run.claim(dataclasses.replace(config, run=Run(run_dir="elsewhere", checkpoint_minutes=1.0)))
        other = dataclasses.replace(
            config, attack=Attack(steps=7), options={"hard_fraction": 0.25}, data=Data(dataset="svhn")
        )
        with pytest.raises(errors.StorageError) as refused:
            run.claim(other)
    for part in ("steps: 10 there, 7 asked for", "options.hard_fraction: 0.5 there, 0.25", "dataset"):
        assert part in str(refused.value)
    assert refused.value.exit_code == 7


def test_a_run_that_is_older_than_an_option_goes_on_with_its_default(tmp_path):
    options = {"hard_fraction": 0.5, "hard_score": "adv"}
    defaults = {"hard_fraction": 0.25, "hard_score": "adv"}
    with RunDirectory(tmp_path / "run") as run:
        run.claim(Config(options={"hard_fraction": 0.5}))  # of a version without hard_score
        run.claim(Config(options=options), defaults)
        with pytest.raises(errors.StorageError, match=r"hard_score: 'adv' there, 'entropy' asked"):
            run.claim(Config(options=options | {"hard_score": "entropy"}), defaults)
        with pytest.raises(errors.StorageError, match="method"):
            run.claim(Config(method="pgd_at", options={}), {})


def test_what_is_refused_at_once_leaves_nothing_behind(tmp_path):
    for name in ("new", "old"):
        (tmp_path / "old").mkdir(exist_ok=True)
        with pytest.raises(ValueError), RunDirectory(tmp_path / name):
            raise ValueError
    assert not (tmp_path / "new").exists() and (tmp_path / "old/lock").exists()
    with pytest.raises(ValueError), RunDirectory(tmp_path / "begun") as run:
        run.write("a.txt", "")
        raise ValueError
    assert (tmp_path / "begun/a.txt").exists()


def test_a_foreign_config_file_is_not_overwritten(tmp_path):
    path = tmp_path / "run/config.json"
    path.parent.mkdir()
    path.write_text('{"something": "else"}')
    with RunDirectory(tmp_path / "run") as run, pytest.raises(errors.StorageError, match="choose another"):
        run.claim(Config())
    assert path.read_text() == '{"something": "else"}'


def test_the_source_is_noted_as_seen_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunDirectory("run") as run:
        run.claim_data(support.tiny_split(40), name="folder:birds")
        run.claim_data(support.tiny_split(40), name="folder:moved")
    assert data_of("run")["source"] == f"folder:{tmp_path}/birds"


def test_other_training_data_are_refused(tmp_path):
    train = support.tiny_split(40)
    with RunDirectory(str(tmp_path / "run")) as run:
        run.claim_data(train)
        run.claim_data(train)
        changed = train.images.copy()
        changed[3, 0, 0, 0] ^= 1
        for other in (train.take(np.arange(39)), dataclasses.replace(train, images=changed)):
            with pytest.raises(errors.StorageError, match=rf"40 training examples then, {len(other)} now"):
                run.claim_data(other)
    (tmp_path / "run/data.json").write_text("")
    assert data_of(tmp_path / "run") is None and data_of(tmp_path) is None


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    run.write("a.txt", "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        run.write("a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_default_paths_name_data_and_method_and_do_not_repeat():
    config = Config(data=Data(dataset="folder:/data/x y"), method="pgd_at")
    assert default_path(config).startswith("runs/folder--data-x y-pgd_at-")


def test_another_teacher_is_refused(tmp_path):
    train = support.tiny_split(40)
    with RunDirectory(str(tmp_path / "run")) as run:
        run.claim_data(train, "first")
        run.claim_data(train, "first")
        with pytest.raises(errors.StorageError, match="another teacher"):
            run.claim_data(train, "second")
        path = tmp_path / "run/data.json"  # of a run that was begun before teachers were noted
        path.write_text(path.read_text().replace(', "teacher": "first"', ""))
        run.claim_data(train, "second")


@pytest.mark.parametrize(
    ("number", "usable"), [(errno.ENOLCK, True), (errno.ENOSYS, True), (errno.EIO, False)]
)
def test_a_file_system_without_locks_is_used_with_a_warning(number, usable, tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_directory.fcntl, "flock", refuse)
    if usable:
        with RunDirectory(tmp_path / "run"):
            assert "has no locks" in caplog.text
    else:
        with pytest.raises(errors.StorageError, match="cannot be locked"), RunDirectory(tmp_path / "run"):
            pass


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
