"""How a command is run on bad input, and what it has to do: one line, its exit code, nothing overwritten.

In the flags {shelf} is a directory of unusable files and {run} the run directory. All in one process;
tests/train_test.py starts the program for a few more.
"""

import sys

from fairat_tf import train

USAGE, DATA, STORAGE = 2, 3, 7
SMALL = [
    "--network=small_cnn", "--width=4", "--batch_size=16", "--attack_steps=1", "--validation_steps=1",
    "--epochs=1", "--validation_fraction=0.2", "--nodownload", "--notensorboard", "--evaluate=",
]  # fmt: skip
GOOD = "--dataset=npz:{shelf}/good.npz"
RUN = [*SMALL, GOOD, "--method=pgd_at", "--run_dir={run}"]


def snapshot(folder):
    """Returns path -> content of all files below, without locks."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def filled(words, shelf, run):
    return [word.replace("{shelf}", str(shelf)).replace("{run}", str(run)) for word in words]


def run_train(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", *words])
    return train.run()


def judge(code, stderr, expected, told):
    """Holds: this exit code, and one line on standard error with these words and an end."""
    lines = [line.rpartition("\r")[2] for line in stderr.rstrip("\n").split("\n")]  # a bar ends with \r
    assert code == expected, stderr[-3000:]
    assert len(lines) == 1, stderr[-3000:]
    assert lines[0].startswith("fairat_tf: ") and told in lines[0], lines[0]
    assert len(lines[0]) < 1000, lines[0]
