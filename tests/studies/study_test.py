"""Holds: a study runs the right commands in order, and its table shows the results' figures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fairat_tf import errors, evaluate, flags_lib
from fairat_tf.reporting import files
from tests.studies.small_study import (
    ROOT,
    TEXT,
    arguments,
    evaluated,
    folders,
    of_the_last,
    study_run,
)


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
        ["fair", "0.0", "0.0"],  # found with 80 % power: the seeds are alike
    ]


def test_a_network_that_another_run_needs_is_trained_for_it(study, tmp_path, trainer):
    assert study_run.main(arguments(study, tmp_path, "--only=fair")) == 0
    assert folders(trainer) == ["plain-0", "fair-0", "plain-1", "fair-1"]


def test_the_last_networks_count_as_their_mean(study, tmp_path, trainer, capsys):
    study.write_text(of_the_last(study.read_text()).replace("[0, 1]", "[0]"))
    trainer.place = "last/epoch-0001"
    study_run.main(arguments(study, tmp_path))
    files.write(evaluated("plain"), tmp_path / "work/fair-0/last/epoch-0002")  # 30 of 40 beside 20 of 40
    capsys.readouterr()
    assert study_run.main(arguments(study, tmp_path, "--table_only")) == 0
    fair, _ = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| fair")]
    assert fair.split("|")[2].strip().startswith("62.5 ")


@pytest.mark.parametrize("kind, evaluated_too", [("last", [1, 2]), ("final", [2]), ("best", [])])
def test_an_evaluation_of_its_own_is_made_of_the_networks(
    kind, evaluated_too, study, tmp_path, trainer, capsys
):
    """Of runs that are there; and once. What training evaluated has no part in the table."""
    study.write_text(of_the_last(study.read_text()).replace("[0, 1]", "[0]"))
    trainer.place = "last/epoch-0002"
    assert study_run.main(arguments(study, tmp_path)) == 0
    for name in ("plain", "fair"):
        files.write(evaluated(name), tmp_path / "work" / f"{name}-0" / "last/epoch-0001")
    text = study.read_text().replace('"last"', f'"{kind}"').replace('"clean", "pgd20"', '"clean"')
    again = study.with_name("again.toml")
    again.write_text('evaluate = ["--attacks=cw20"]\n' + text)
    trainer.commands.clear()
    assert (
        study_run.main(arguments(again, tmp_path, "--data_dir=D", "--nodownload", "--precision=float32")) == 0
    )
    run = tmp_path / "work/plain-0"
    expected = [
        (run / "last" / f"epoch-{n:04d}.keras", run / "again" / f"epoch-{n:04d}") for n in evaluated_too
    ]
    plain = [c[2:] for c in trainer.commands if "/plain-0" in c[-1]]
    assert plain == [
        [
            "fairat_tf.evaluate",
            "--attacks=cw20",
            "--data_dir=D",
            "--nodownload",
            f"--model={network}",
            f"--output_dir={place}",
        ]
        for network, place in expected or [(run, run / "again")]
    ]
    assert "| plain | 12.5 (" in capsys.readouterr().out  # 5 of 40, what the stand-in for evaluate finds
    trainer.commands.clear()
    assert study_run.main(arguments(again, tmp_path)) == 0
    assert not trainer.commands


def test_another_reference_has_tables_of_its_own(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    first = (tmp_path / "work/summary-study.md").read_text()
    capsys.readouterr()
    trainer.commands.clear()
    assert study_run.main(arguments(study, tmp_path, "--reference=fair")) == 0
    assert "| minus fair |" in capsys.readouterr().out and not trainer.commands
    other = (tmp_path / "work/summary-study-beside-fair.md").read_text()
    assert "| plain | +25.0 (" in other and "| fair | -25.0 (" in first
    assert (tmp_path / "work/summary-study.md").read_text() == first
    assert study_run.main(arguments(study, tmp_path, "--reference=none")) == errors.UsageError.exit_code
    assert "no variant none; there are plain, fair" in capsys.readouterr().err


def test_flags_in_two_words_are_refused(study, tmp_path, trainer, capsys):
    """An evaluation of the study's own would lose the second word."""
    words = arguments(study, tmp_path, "--data_dir", "D")
    assert study_run.main(words) == errors.UsageError.exit_code
    assert "expected flags as --NAME=VALUE, received 'D'" in capsys.readouterr().err and not trainer.commands


def test_other_seeds_have_tables_of_their_own(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    first = (tmp_path / "work/summary-study.md").read_text()
    trainer.commands.clear()
    assert study_run.main(arguments(study, tmp_path, "--seeds=3,1")) == 0
    assert all("--seed=3" in command or "--seed=1" in command for command in trainer.commands)
    assert any("--seed=3" in command for command in trainer.commands)
    assert (tmp_path / "work/summary-study-seeds-3-1.md").is_file()
    assert (tmp_path / "work/summary-study.md").read_text() == first
    capsys.readouterr()
    for wrong in ("1,1", "1,01", "", "1,", "-1", "a"):
        assert study_run.main(arguments(study, tmp_path, f"--seeds={wrong}")) == errors.UsageError.exit_code
        assert f"whole numbers, as in 0,1, received {wrong!r}" in capsys.readouterr().err


def test_an_evaluation_that_fails_ends_the_study_with_its_code(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    again = study.with_name("again.toml")
    again.write_text('evaluate = ["--attacks=cw20"]\n' + study.read_text())
    trainer.codes = {"again": 75}
    assert study_run.main(arguments(again, tmp_path)) == 75
    assert "plain, seed 0: the evaluation of plain-0 ended with exit code 75" in capsys.readouterr().err
    study.write_text(study.read_text().replace("--epochs=2", "--epochs=3"))
    again.write_text(again.read_text().replace("--epochs=2", "--epochs=3"))
    assert study_run.main(arguments(again, tmp_path)) == errors.DataError.exit_code  # other runs


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


def test_only_the_same_seeds_are_paired(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    capsys.readouterr()
    (tmp_path / "work/plain-0/MODEL_CARD.md").unlink()  # plain has seed 1, fair both
    assert study_run.main(arguments(study, tmp_path, "--table_only")) == 0
    assert "t over seeds" not in capsys.readouterr().out
    runner = study_run.Runner(study_run.Study.read(study), tmp_path / "work")
    work = tmp_path / "work"
    assert runner.finished() == {
        "plain": {1: [work / "plain-1/evaluation"]}, "fair": {1: [work / "fair-1/evaluation"]}
    }  # fmt: skip


def test_a_variant_with_fewer_seeds_is_compared_over_its_own(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    files.write(evaluated("other"), tmp_path / "work/plain-0/evaluation")  # seed 0 of the reference: 25 %
    (tmp_path / "work/fair-0/MODEL_CARD.md").unlink()
    capsys.readouterr()
    assert study_run.main(arguments(study, tmp_path, "--table_only")) == 0
    text = capsys.readouterr().out
    assert "| plain | 50.0 (" in text and "| fair | -25.0 (" in text  # seed 1: 50 % against 75 %
    assert "* fair: its differences are over seed 1\n" in text


def test_choices_are_made_on_what_training_logged(study, tmp_path, trainer, capsys):
    """Of the last networks: the mean of as many epochs, and differences over the seeds that both have."""
    study.write_text(of_the_last(study.read_text()))
    trainer.place = "last/epoch-0002"
    study_run.main(arguments(study, tmp_path))
    for run, average, worst in (("plain-0", 0.5, 0.1), ("plain-1", 0.4, 0.3), ("fair-1", 0.35, 0.25)):
        rows = [
            {"val_robust_accuracy": a, "val_robust_worst_class": w} for a, w in ((9, 9), (average, worst))
        ]
        log = tmp_path / "work" / run / "metrics.jsonl"
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    assert study_run.main(arguments(study, tmp_path, "--table_only")) == 0
    text = capsys.readouterr().out
    assert "| plain | 2 | 45.0 | 20.0 | 65.0 |  |" in text
    assert "| fair | 1 | 35.0 | 25.0 | 60.0 | -10.0 |" in text
    names = "val_robust_worst_class,absent"
    assert study_run.main(arguments(study, tmp_path, "--table_only", f"--logged={names}")) == 0
    text = capsys.readouterr().out
    assert "| plain | 2 | 0.200 |  |" in text and "| fair | 1 | 0.250 |  |" in text


def test_a_table_over_seeds_shows_both_intervals(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    text = capsys.readouterr().out
    assert "| -25.0 (-" in text and "; t -25.0 to -25.0)" in text and "after t Student's" in text
    assert "| fair | 0.0 | 0.0 |" in text.partition("found with 80 % power from")[2]
    picture = tmp_path / "work/summary-study.png"
    assert picture.read_bytes() == (tmp_path / "work/comparison-study/comparison.png").read_bytes()


def test_folders_may_hold_any_sign(study, tmp_path, trainer):
    assert study_run.main([str(study), f"--work={tmp_path / 'c++, a=b'}"]) == 0
    assert (tmp_path / "c++, a=b/summary-study.md").is_file()


def test_the_reference_alone_has_no_table(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path, "--only=plain")) == 0
    assert "No table yet" in capsys.readouterr().out


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


STUDIES = sorted((ROOT / "tools" / "studies").glob("*.toml"))


def test_the_repository_has_studies():
    assert STUDIES


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.name)
def test_every_study_of_the_repository_has_flags_that_parse(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    runner = study_run.Runner(study_run.Study.read(path), Path("runs"))
    for variant in runner.study.variants:
        argv = runner.command(variant, 0)[2:]
        command = flags_lib.training_command(argv)
        command.flags.unparse_flags()
        command.flags(argv)
        flags_lib.config_from(command.flags)
    if runner.study.evaluate:
        evaluate.COMMAND.flags.unparse_flags()
        assert not evaluate.COMMAND.flags(["evaluate", "--model=m", *runner.study.evaluate])[1:]


def test_a_table_of_kept_results_says_nothing_but_the_table(tmp_path):
    kept = shutil.copytree(ROOT / "docs/results/fairat_cifar10_train", tmp_path / "kept")
    flags = [f"--work={tmp_path}", f"--keep={kept}", "--table_only"]
    command = [sys.executable, "tools/studies/run.py", "tools/studies/fairat_cifar10_train.toml", *flags]
    table = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert table.stdout.lstrip().startswith("| variant |") and not table.stderr


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
