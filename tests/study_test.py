"""tools/study: the right commands in order, what is finished stays, the table shows the results' figures.

A stand-in for `subprocess.run` takes the place of training and writes what a run would leave.
"""

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fairat_tf import errors, eval_lib, flags_lib
from fairat_tf.reporting import files

ROOT = Path(__file__).resolve().parent.parent
_SPEC = importlib.util.spec_from_file_location("study_run", ROOT / "tools" / "studies" / "run.py")
study_run = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(study_run)

TEXT = """
reference = "plain"
seeds = [0, 1]
flags = ["--epochs=2"]
attacks = ["clean", "pgd20"]
networks = "best"

[variants]
plain = ["--method=pgd_at"]
fair = ["--method=frl", "--init_from={plain}"]
"""
LABELS = np.arange(40) % 2
RIGHT = {"plain": 30, "fair": 20, "other": 10}  # of 40, the first ones
TIMES = "epoch,steps,seconds,processor_seconds\n"
COSTS = {  # medians of seconds a step: 2 and 3
    "plain": "0,0,0,0\n0,9,9.0,18.0\n",
    "other": "0,9,9.0,18.0\n",
    "fair": "0,2,7.0,5.0\n1,4,7.0,12.0\n2,1,7.0,9.0\n",
}


class Trainer:
    """Stands for `subprocess.run`: writes an evaluation, or returns the exit code asked for."""

    def __init__(self, codes=()):
        self.codes, self.commands, self.place = dict(codes), [], "evaluation"

    def __call__(self, command, **_):
        self.commands.append(command)
        folder = Path(next(c for c in command if c.startswith("--run_dir=")).partition("=")[2])
        code = self.codes.get(folder.name, 0)
        folder.mkdir(parents=True, exist_ok=True)
        if not code:
            (folder / "metrics.jsonl").write_text("{}\n")
            (folder / "times.csv").write_text(TIMES + COSTS[folder.name.rpartition("-")[0]])
            files.write(evaluated(folder.name.rpartition("-")[0]), folder / self.place)
            (folder / "MODEL_CARD.md").write_text("last of all")
        return subprocess.CompletedProcess(command, code)


def evaluated(variant):
    """Returns the evaluation of a classifier that is right on the first `RIGHT[variant]` examples."""

    def logits_fn(images):
        place = images[:, 0, 0, 0] * 255
        return study_run_logits(place, RIGHT[variant])

    images = np.zeros((40, 4, 4, 1), np.float32)
    images[:, 0, 0, 0] = np.arange(40) / 255
    return eval_lib.evaluate(
        logits_fn, images, LABELS, ["even", "odd"], attacks=("clean",), epsilon=0.0, checks="none"
    )


def study_run_logits(place, right):
    import tensorflow as tf

    parity = tf.cast(tf.round(place), tf.int32) % 2
    said = tf.where(tf.round(place) < right, parity, 1 - parity)
    return tf.one_hot(said, 2)


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TEXT.replace('"clean", "pgd20"', '"clean"'))
    return path


@pytest.fixture
def trainer(monkeypatch):
    stand_in = Trainer()
    monkeypatch.setattr(study_run.subprocess, "run", stand_in)
    return stand_in


def arguments(study, tmp_path, *more):
    return [str(study), f"--work={tmp_path / 'work'}", *more]


def folders(trainer):
    return [Path(command[-1].partition("=")[2]).name for command in trainer.commands]


def test_every_seed_of_every_variant_is_trained_once_in_order(study, tmp_path, trainer):
    assert study_run.main(arguments(study, tmp_path, "--data_dir=D")) == 0
    assert folders(trainer) == ["plain-0", "fair-0", "plain-1", "fair-1"]
    fair = trainer.commands[3]
    assert fair[1:4] == ["-m", "fairat_tf.train", "--epochs=2"]
    assert f"--init_from={tmp_path}/work/plain-1" in fair and "--seed=1" in fair and "--data_dir=D" in fair
    trainer.commands.clear()
    assert study_run.main(arguments(study, tmp_path)) == 0
    assert not trainer.commands


def test_the_table_holds_the_figures_and_the_differences(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    rows = [
        [cell.split(" (")[0].strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ")
    ]
    assert [row for row in rows if row[0] == "plain"] == [
        ["plain", "75.0", "75.0"],
        ["plain", "", "", "1.00"],
    ]
    assert [row for row in rows if row[0] == "fair"] == [
        ["fair", "50.0", "50.0"],
        ["fair", "-25.0", "-25.0", "1.50"],
    ]


def test_several_processes_share_a_study(study, tmp_path, trainer, capsys):
    study.write_text(study.read_text() + 'other = ["--method=trades"]\n')
    assert study_run.main(arguments(study, tmp_path, "--only=other")) == 0
    assert folders(trainer) == ["other-0", "other-1"]
    assert "No table yet: no run of plain" in capsys.readouterr().out
    assert study_run.main(arguments(study, tmp_path, "--only=plain")) == 0
    assert len(trainer.commands) == 4 and "| plain" in capsys.readouterr().out
    assert study_run.main(arguments(study, tmp_path, "--only=absent,fair")) == 2
    assert "no variant absent" in capsys.readouterr().err


def test_a_network_that_another_run_needs_is_trained_for_it(study, tmp_path, trainer):
    assert study_run.main(arguments(study, tmp_path, "--only=fair")) == 0
    assert folders(trainer) == ["plain-0", "fair-0", "plain-1", "fair-1"]


def test_a_kept_result_is_no_network(study, tmp_path, trainer):
    keep = f"--keep={tmp_path / 'kept'}"
    assert study_run.main(arguments(study, tmp_path, keep)) == 0
    (tmp_path / "kept/fair-1.evaluation.json").unlink()
    before = (tmp_path / "kept/plain-1.evaluation.json").read_bytes()
    trainer.commands.clear()
    assert study_run.main([str(study), f"--work={tmp_path / 'elsewhere'}", keep]) == 0
    assert folders(trainer) == ["plain-1", "fair-1"]
    assert (tmp_path / "kept/plain-1.evaluation.json").read_bytes() == before


def test_what_is_kept_is_not_made_again_and_gives_the_same_table(study, tmp_path, trainer, capsys):
    keep = f"--keep={tmp_path / 'kept'}"
    assert study_run.main(arguments(study, tmp_path, keep)) == 0
    kept = {p.name for p in (tmp_path / "kept").iterdir()}
    assert kept >= {"summary.md", "fair-1.evaluation.json", "fair-1.jsonl", "fair-1.times.csv"}
    first = capsys.readouterr().out.partition("| variant")[2]
    trainer.commands.clear()
    assert study_run.main([str(study), f"--work={tmp_path / 'elsewhere'}", keep]) == 0
    assert not trainer.commands
    assert capsys.readouterr().out.partition("| variant")[2] == first


def test_the_last_networks_count_as_their_mean(study, tmp_path, trainer, capsys):
    study.write_text(study.read_text().replace('"best"', '"last"').replace("[0, 1]", "[0]"))
    trainer.place = "last/epoch-0001"
    study_run.main(arguments(study, tmp_path))
    files.write(evaluated("plain"), tmp_path / "work/fair-0/last/epoch-0002")  # 30 of 40 beside 20 of 40
    capsys.readouterr()
    assert study_run.main(arguments(study, tmp_path, "--table_only")) == 0
    fair, _ = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| fair")]
    assert fair.split("|")[2].strip().startswith("62.5 ")


def test_a_run_that_diverged_is_named_and_the_others_go_on(study, tmp_path, trainer, capsys):
    trainer.codes = {"fair-0": errors.Diverged.exit_code}
    assert study_run.main(arguments(study, tmp_path)) == 0
    assert "fair-0: diverged" in capsys.readouterr().out
    assert len(trainer.commands) == 4


def test_a_run_that_needs_one_that_diverged_is_not_made(study, tmp_path, trainer, capsys):
    trainer.codes = {"plain-0": errors.Diverged.exit_code}
    for _ in range(2):
        assert study_run.main(arguments(study, tmp_path)) == 0
        told = capsys.readouterr().out
        assert "* plain-0: diverged; not" in told and "* fair-0: needs plain-0, which diverged; not" in told
        assert folders(trainer) == ["plain-0", "plain-1", "fair-1"]


def test_what_was_kept_in_part_is_kept_again(study, tmp_path, trainer, monkeypatch):
    study.write_text(study.read_text().replace('"best"', '"last"').replace("[0, 1]", "[0]"))
    trainer.place = "last/epoch-0001"
    words = arguments(study, tmp_path, f"--keep={tmp_path / 'kept'}")
    assert study_run.main(words) == 0
    files.write(evaluated("plain"), tmp_path / "work/plain-0/last/epoch-0002")
    whole, written = files.write_packed, []

    def killed(result, path):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        whole(result, path)

    for path in (tmp_path / "kept").glob("plain-0*"):
        path.unlink()
    monkeypatch.setattr(files, "write_packed", killed)
    with pytest.raises(KeyboardInterrupt):
        study_run.main(words)
    monkeypatch.setattr(files, "write_packed", whole)
    assert len(list((tmp_path / "kept").glob("plain-0.*.json"))) == 1
    trainer.commands.clear()
    assert study_run.main(words) == 0
    assert len(list((tmp_path / "kept").glob("plain-0.*.json"))) == 2 and not trainer.commands


def test_only_the_same_seeds_are_paired(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    capsys.readouterr()
    (tmp_path / "work/plain-0/MODEL_CARD.md").unlink()  # plain has seed 1, fair both
    assert study_run.main(arguments(study, tmp_path, "--table_only")) == 0
    assert "t over seeds" not in capsys.readouterr().out
    runner = study_run.Runner(study_run.Study.read(study), tmp_path / "work")
    assert [entry.rpartition("/work/")[2] for entry in runner.entries()] == [
        "plain-1/evaluation",
        "fair-1/evaluation",
    ]


@pytest.mark.parametrize("code", [2, 3, 7, 75])
def test_any_other_failure_ends_the_study_with_its_code(study, tmp_path, trainer, code, capsys):
    trainer.codes = {"plain-0": code}
    assert study_run.main(arguments(study, tmp_path)) == code
    assert len(trainer.commands) == 1 and "plain, seed 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["not toml [", TEXT + "[more]\n", TEXT.replace('"plain"\n', '"absent"\n'), TEXT.replace("[0, 1]", "[]")],
)  # fmt: skip
def test_a_file_that_is_no_study_is_wrong_usage(text, tmp_path, capsys):
    path = tmp_path / "study.toml"
    path.write_text(text)
    assert study_run.main(arguments(path, tmp_path)) == 2
    assert capsys.readouterr().err.startswith("study: ")
    assert study_run.main(arguments(tmp_path / "absent.toml", tmp_path)) == 2


@pytest.mark.parametrize("path", sorted((ROOT / "tools" / "studies").glob("*.toml")), ids=lambda p: p.name)
def test_every_study_of_the_repository_has_flags_that_parse(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    runner = study_run.Runner(study_run.Study.read(path), Path("runs"))
    for variant in runner.study.variants:
        argv = runner.command(variant, 0)[2:]
        command = flags_lib.training_command(argv)
        command.flags.unparse_flags()
        command.flags(argv)
        flags_lib.config_from(command.flags)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
