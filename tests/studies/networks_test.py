"""Holds: a study's table is of the networks that it names, and each of them is evaluated."""

import json

import pytest

from fairat_tf import errors
from fairat_tf.reporting import files
from tests.studies.small_study import TEXT, arguments, evaluated, folders, of_the_last, study_run


def plain_rows(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("| plain | 7")]


def runner_of_kept(study, tmp_path):
    kept = study_run.Kept(tmp_path / "kept")
    return study_run.Runner(study_run.Study.read(study), tmp_path / "none", (), kept)


def test_kept_results_count_where_they_are_of_the_networks_asked_for(study, tmp_path, trainer, capsys):
    keep = f"--keep={tmp_path / 'kept'}"
    study.write_text(of_the_last(TEXT.replace('"clean", "pgd20"', '"clean"')))
    trainer.place = "last/epoch-0002"
    assert study_run.main(arguments(study, tmp_path, keep)) == 0
    for run in ("plain-0", "plain-1", "fair-0", "fair-1"):
        path = tmp_path / "kept" / f"{run}.epoch-0001.json"  # a worse one, of an epoch before
        files.write_packed(files.read(_other(tmp_path), arrays=True), path)
    capsys.readouterr()
    study.write_text(study.read_text().replace('"last"', '"final"'))
    assert study_run.main(arguments(study, tmp_path, keep)) == 0
    assert plain_rows(capsys)  # 30 of 40, and not the mean with 10 of 40
    study.write_text(study.read_text().replace('"final"', '"best"'))
    runner = runner_of_kept(study, tmp_path)
    assert runner.results("plain", 0) == []


def _other(tmp_path):
    files.write(evaluated("other"), tmp_path / "other")
    return tmp_path / "other"


def test_one_kept_network_is_not_the_mean_of_five(study, tmp_path, trainer):
    keep = f"--keep={tmp_path / 'kept'}"
    study.write_text(of_the_last(TEXT, "final").replace("keep_last=1", "keep_last=2"))
    trainer.place = "last/epoch-0002"
    assert study_run.main(arguments(study, tmp_path, keep, "--only=plain")) == 0
    runner = runner_of_kept(study, tmp_path)
    assert len(runner.results("plain", 0)) == 1
    study.write_text(study.read_text().replace('"final"', '"last"'))
    runner = runner_of_kept(study, tmp_path)
    assert runner.results("plain", 0) == []


@pytest.mark.parametrize("code", [errors.GateFailed.exit_code, errors.Unreliable.exit_code])
def test_a_verdict_on_one_network_does_not_keep_the_others_waiting(code, study, tmp_path, trainer):
    again = _with_own_evaluation(study)
    trainer.place, whole = "last/epoch-0001", trainer.evaluate

    def judged(place):
        whole(place)
        return code

    trainer.evaluate = judged
    assert study_run.main(arguments(again, tmp_path)) == 0
    assert len(folders(trainer)) == 8  # four runs, and the network of each
    trainer.evaluate = lambda place: code  # and nothing written: the model could not be attacked at all
    for run in ("plain-0", "plain-1"):
        (tmp_path / "work" / run / "again/epoch-0001/evaluation.json").unlink()
    assert study_run.main(arguments(again, tmp_path)) == code


def _with_own_evaluation(study):
    again = study.with_name("again.toml")
    again.write_text('evaluate = ["--attacks=cw20"]\n' + of_the_last(study.read_text()))
    return again


def test_networks_that_training_did_not_evaluate_are_evaluated(study, tmp_path, trainer):
    again = _with_own_evaluation(study)
    again.write_text(again.read_text().replace("--keep_last=1", '--keep_last=1", "--evaluate='))
    train = trainer.__call__

    def without_evaluation(command, root):
        code = train(command, root)
        folder = next((c.partition("=")[2] for c in command if c.startswith("--run_dir=")), "")
        if folder:
            place = study.parent / "work" / folder.rpartition("/")[2]
            (place / "evaluation/evaluation.json").unlink()
            (place / "last").mkdir()
            (place / "last/epoch-0002.keras").write_text("a network")
        return code

    study_run.children.run = without_evaluation  # undone by the fixture
    assert study_run.main(arguments(again, tmp_path)) == 0
    assert [c[2] for c in trainer.commands].count("fairat_tf.evaluate") == 4


def test_a_run_without_an_evaluation_gets_one(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    (tmp_path / "work/plain-1/evaluation/evaluation.json").unlink()
    trainer.commands.clear()
    assert study_run.main(arguments(study, tmp_path)) == 0
    assert folders(trainer) == ["plain-1"] and (tmp_path / "work/plain-1/evaluation/evaluation.json").exists()
    study.write_text(study.read_text().replace("--epochs=2", '--epochs=2", "--evaluate='))
    assert study_run.main(arguments(study, tmp_path)) == errors.UsageError.exit_code
    assert "plain has --evaluate= and evaluates nothing" in capsys.readouterr().err


def test_what_was_logged_as_no_number_is_left_empty(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    for run, value in (("plain-0", None), ("plain-1", None), ("fair-0", 0.25), ("fair-1", 0.25)):
        (tmp_path / "work" / run / "metrics.jsonl").write_text(json.dumps({"premise_entropy": value}))
    capsys.readouterr()
    assert study_run.main(arguments(study, tmp_path, "--table_only", "--logged=premise_entropy")) == 0
    told = capsys.readouterr().out
    assert "| plain | 2 |  |" in told and "| fair | 2 | 0.250 |" in told


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ('["--method=pgd_at"]', '"--method=pgd_at"', "variants.plain"),
        ('["--epochs=2"]', '"--epochs=2"', "flags"),
        ("[0, 1]", "0", "seeds"),
        ("[0, 1]", '["0"]', "seeds"),
        ('["clean", "pgd20"]', '"clean"', "attacks"),
    ],
)
def test_what_should_be_a_list_is_named(old, new, name, study, tmp_path, trainer, capsys):
    study.write_text(TEXT.replace(old, new))
    assert study_run.main(arguments(study, tmp_path)) == errors.UsageError.exit_code
    assert f"{name}: expected lists" in capsys.readouterr().err and not trainer.commands


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
