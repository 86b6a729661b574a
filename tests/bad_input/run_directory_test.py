"""Run directories that cannot be used, or hold another run: every byte of it has to stay."""

import errno
import fcntl
import os
import shutil

import pytest

from tests.bad_input.judging import GOOD, RUN, SMALL, STORAGE, filled, judge, run_train, snapshot

CASES = [
    ("run directory that is a file", [GOOD, "--run_dir={shelf}/text.npz"], STORAGE, "File exists"),
    ("run directory below a file", [GOOD, "--run_dir={shelf}/text.npz/run"], STORAGE, "Not a directory"),
    ("name too long", [GOOD, "--run_dir={run}/" + 300 * "x"], STORAGE, "too long"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "told"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_train(words, code, told, shelf, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = snapshot(shelf)
    words = [*SMALL, "--run_dir={run}", *words]
    judge(run_train(filled(words, shelf, tmp_path / "run"), monkeypatch), capsys.readouterr().err, code, told)
    assert snapshot(tmp_path) == {} and snapshot(shelf) == before


def test_no_permission_to_write(shelf, tmp_path, monkeypatch, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    real = os.mkdir

    def refuse(path, *arguments, **options):  # root may write everywhere, so the refusal is played
        if str(path).startswith(str(locked)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refuse)
    code = run_train(filled(RUN, shelf, locked / "run"), monkeypatch)
    judge(code, capsys.readouterr().err, STORAGE, "Permission denied")
    assert not list(locked.iterdir())


def damaged(run):
    for folder in (run / "checkpoints").iterdir():
        content = bytearray((folder / "variables.npz").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "variables.npz").write_bytes(content)


def without_manifests(run):
    for folder in (run / "checkpoints").iterdir():
        (folder / "manifest.json").unlink()


def without_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


def unreadable(run):
    (run / "config.json").write_text('{"data": {"dataset": ')


def of_another_version(run):
    (run / "config.json").write_text('{"dataset": "svhn"}')


def untouched(run):
    pass


OCCUPIED = [
    ("another seed", untouched, ["--seed=3"], "seed: 0 there, 3 asked for"),
    ("another method", untouched, ["--method=fairat"], "method: 'pgd_at' there, 'fairat' asked for"),
    ("another epsilon", untouched, ["--epsilon=4/255"], "epsilon"),
    ("more epochs", untouched, ["--epochs=2"], "epochs: 1 there, 2 asked for"),
    ("configuration cut short", unreadable, [], "config.json"),
    ("configuration of another version", of_another_version, [], "not a configuration of this version"),
    ("a bit changed in every checkpoint", damaged, [], "damaged checkpoints only"),
    ("checkpoints removed", without_checkpoints, [], "a trained run whose checkpoints are gone"),
    ("anew in the same directory", untouched, ["--noresume"], "holds a run already"),
    ("checkpoints not finished", without_manifests, [], "damaged checkpoints only"),
]


@pytest.mark.parametrize(("change", "words", "told"), [c[1:] for c in OCCUPIED], ids=[c[0] for c in OCCUPIED])
def test_a_run_is_never_overwritten(change, words, told, finished, shelf, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    change(run)
    before = snapshot(run)
    code = run_train(filled([*RUN, *words], shelf, run), monkeypatch)
    judge(code, capsys.readouterr().err, STORAGE, told)
    assert snapshot(run) == before


def test_data_that_has_changed_since(finished, shelf, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished, tmp_path / "run")
    written = (tmp_path / "run/config.json").read_text()
    moved = written.replace(str(shelf / "good.npz"), str(tmp_path / "data.npz"))
    (tmp_path / "run/config.json").write_text(moved)
    shutil.copy(shelf / "more.npz", tmp_path / "data.npz")
    before = snapshot(tmp_path)
    words = [*filled(RUN, shelf, tmp_path / "run"), f"--dataset=npz:{tmp_path}/data.npz"]
    judge(run_train(words, monkeypatch), capsys.readouterr().err, STORAGE, "was trained on other data")
    assert snapshot(tmp_path) == before


def test_a_run_directory_in_use(finished, shelf, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = snapshot(run)
    with open(run / "lock", "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        code = run_train(filled(RUN, shelf, run), monkeypatch)
    judge(code, capsys.readouterr().err, STORAGE, "in use by another process")
    assert snapshot(run) == before


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
