"""No space left on the disk: pretended with every file, and a small disk that is really full."""

import contextlib
import errno
import os
import subprocess

import pytest

from tests.bad_input.judging import RUN, STORAGE, filled, judge, run_train


@pytest.mark.parametrize("after", [0, 7], ids=["with the first file", "within a checkpoint"])
def test_no_space_left(after, shelf, tmp_path, monkeypatch, capsys):
    real, calls = os.fsync, []

    def refuse(descriptor):
        calls.append(descriptor)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    words = filled(RUN, shelf, tmp_path / "run")
    monkeypatch.setattr(os, "fsync", refuse)
    judge(run_train(words, monkeypatch), capsys.readouterr().err, STORAGE, "No space left on device")
    assert len(calls) == after + 1
    monkeypatch.setattr(os, "fsync", real)
    assert not after or run_train(words, monkeypatch) == 0, "the same command goes on once there is space"


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("kilobytes", "words"),
    [(200, []), (24, ["--tensorboard"])],
    ids=["SavedModel", "TensorBoard"],
)
def test_a_disk_that_is_really_full(kilobytes, words, shelf, tmp_path, monkeypatch, capsys):
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        words = filled([*RUN, *words], shelf, disk / "run")
        judge(run_train(words, monkeypatch), capsys.readouterr().err, STORAGE, "No space left on device")
        assert (disk / "run/config.json").stat().st_size > 500


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
