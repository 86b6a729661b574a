"""Holds: what is finished stays and is never mixed; processes share a study and stop gently."""

import json
import signal
import subprocess
import sys
import time

import pytest

from fairat_tf import errors
from fairat_tf.reporting import files
from tests.studies.small_study import (
    ROOT,
    arguments,
    evaluated,
    folders,
    of_the_last,
    study_run,
)


def test_several_processes_share_a_study(study, tmp_path, trainer, capsys):
    study.write_text(study.read_text() + 'other = ["--method=trades"]\n')
    assert study_run.main(arguments(study, tmp_path, "--only=other")) == 0
    assert folders(trainer) == ["other-0", "other-1"]
    assert "No table yet: it needs runs of plain" in capsys.readouterr().out
    assert study_run.main(arguments(study, tmp_path, "--only=plain")) == 0
    assert len(trainer.commands) == 4 and "| plain" in capsys.readouterr().out
    assert study_run.main(arguments(study, tmp_path, "--only=absent,fair")) == 2
    assert "no variant absent" in capsys.readouterr().err


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
    told = {"summary-study.md", "fair-1.config.json"}
    assert kept >= {*told, "fair-1.evaluation.json", "fair-1.jsonl", "fair-1.times.csv"}
    assert str(tmp_path) not in (tmp_path / "kept/fair-1.config.json").read_text()
    first = capsys.readouterr().out.partition("| variant")[2]
    trainer.commands.clear()
    assert study_run.main([str(study), f"--work={tmp_path / 'elsewhere'}", keep]) == 0
    assert not trainer.commands
    assert capsys.readouterr().out.partition("| variant")[2] == first


def test_what_was_kept_in_part_is_kept_again(study, tmp_path, trainer, monkeypatch):
    study.write_text(of_the_last(study.read_text()).replace("[0, 1]", "[0]"))
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
    assert len(list((tmp_path / "kept").glob("plain-0.epoch*.json"))) == 1
    trainer.commands.clear()
    assert study_run.main(words) == 0
    assert len(list((tmp_path / "kept").glob("plain-0.epoch*.json"))) == 2 and not trainer.commands


@pytest.mark.parametrize("kept", [True, False])
def test_runs_that_were_made_with_other_flags_are_refused(study, tmp_path, trainer, capsys, kept):
    more = [f"--keep={tmp_path / 'kept'}"] if kept else []
    assert study_run.main(arguments(study, tmp_path, *more)) == 0
    (tmp_path / "work/plain-1/MODEL_CARD.md").unlink()
    for path in (tmp_path / "kept").glob("plain-1*"):
        path.unlink()
    study.write_text(study.read_text().replace("--epochs=2", "--epochs=12"))
    before = len(trainer.commands)
    assert study_run.main(arguments(study, tmp_path, *more)) == errors.DataError.exit_code
    assert "plain-0 was made with other flags than asked for (epochs: 2 and 12)" in capsys.readouterr().err
    assert len(trainer.commands) == before


def test_what_is_younger_than_a_kept_run_had_its_default_there(study, tmp_path, trainer, capsys):
    words = [*arguments(study, tmp_path, f"--keep={tmp_path / 'kept'}"), "--only=plain"]
    assert study_run.main(words) == 0
    for path in (tmp_path / "kept").glob("*.config.json"):
        facts = json.loads(path.read_text())
        assert facts.pop("options.hard_balanced", None) is None and facts.pop("mix") == ""
        path.write_text(json.dumps(facts))
    assert study_run.main(words) == 0
    study.write_text(study.read_text().replace("--epochs=2", "--mix=mixup"))
    assert study_run.main(words) == errors.DataError.exit_code
    assert "mix: '' and 'mixup'" in capsys.readouterr().err


def test_the_last_networks_need_to_be_kept(study, tmp_path, trainer, capsys):
    study.write_text(study.read_text().replace('"best"', '"last"'))
    assert study_run.main(arguments(study, tmp_path)) == errors.UsageError.exit_code
    assert "plain keeps no network of the last epochs" in capsys.readouterr().err and not trainer.commands
    study.write_text(of_the_last(study.read_text()))
    assert study_run.main(arguments(study, tmp_path)) == 0 and len(trainer.commands) == 4  # none wrote any
    assert study_run.main(arguments(study, tmp_path, "--table_only")) == 0
    assert "No table yet" in capsys.readouterr().out


def test_how_many_networks_are_kept_matters_where_all_count(study, tmp_path, trainer, capsys):
    trainer.place = "last/epoch-0001"
    first = of_the_last(study.read_text(), "final")
    study.write_text(first)
    assert study_run.main(arguments(study, tmp_path)) == 0
    study.write_text(first.replace("keep_last=1", "keep_last=5"))
    assert study_run.main(arguments(study, tmp_path)) == 0
    study.write_text(study.read_text().replace('"final"', '"last"'))
    assert study_run.main(arguments(study, tmp_path)) == errors.DataError.exit_code
    assert "keep_last: 1 and 5" in capsys.readouterr().err


def test_seeds_that_were_made_with_other_flags_share_no_table(study, tmp_path, trainer, capsys):
    assert study_run.main(arguments(study, tmp_path)) == 0
    path = tmp_path / "work/fair-1/config.json"
    path.write_text(path.read_text().replace('"precision": "float32"', '"precision": "bfloat16"'))
    assert study_run.main(arguments(study, tmp_path, "--table_only")) == errors.DataError.exit_code
    told = "fair-1 was made with other flags than fair-0 (precision: 'float32' and 'bfloat16')"
    assert told in capsys.readouterr().err


def test_a_run_that_diverged_elsewhere_is_not_tried_again(study, tmp_path, trainer, capsys):
    trainer.codes, keep = {"fair-0": errors.Diverged.exit_code}, f"--keep={tmp_path / 'kept'}"
    assert study_run.main(arguments(study, tmp_path, keep)) == 0
    trainer.codes = {}
    trainer.commands.clear()
    assert study_run.main([str(study), f"--work={tmp_path / 'elsewhere'}", keep]) == 0
    assert not trainer.commands and "* fair-0: diverged; not in the table" in capsys.readouterr().out


def test_two_studies_share_their_folders_and_keep_their_tables(study, tmp_path, trainer):
    keep = f"--keep={tmp_path / 'kept'}"
    assert study_run.main(arguments(study, tmp_path, keep)) == 0
    first = (tmp_path / "kept/summary-study.md").read_text()
    second = tmp_path / "second.toml"
    second.write_text(study.read_text().replace("[0, 1]", "[0]"))
    assert study_run.main([str(second), f"--work={tmp_path / 'work'}", keep]) == 0
    assert (tmp_path / "kept/summary-study.md").read_text() == first
    assert (tmp_path / "kept/summary-second.md").read_text() != first


def test_a_run_that_another_process_trains_is_waited_for(study, tmp_path, trainer, monkeypatch):
    """The other one ends while this one waits: its run is taken and not made again."""
    trainer.codes = {"plain-0": errors.StorageError.exit_code}

    def ends(folder):
        trainer.codes = {}
        trainer(trainer.commands[0], None)
        trainer.commands.pop()
        return True

    monkeypatch.setattr(study_run.children, "wait_for_lock", ends)
    assert study_run.main(arguments(study, tmp_path)) == 0
    assert folders(trainer) == ["plain-0", "fair-0", "plain-1", "fair-1"]


def test_a_lock_is_waited_for(tmp_path, monkeypatch):
    import fcntl

    children, held, naps = study_run.children, (tmp_path / "lock").open("a"), []
    assert not children.wait_for_lock(tmp_path / "absent") and not children.wait_for_lock(tmp_path)
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr(children.time, "sleep", lambda seconds: (naps.append(seconds), held.close()))
    assert children.wait_for_lock(tmp_path) and len(naps) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_go_on_to_the_training_run_and_its_code_comes_back(number, tmp_path):
    child = (
        "import signal, sys, time, pathlib\n"
        f"signal.signal({int(number)}, lambda *_: (time.sleep(1.0), sys.exit(75)))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\ntime.sleep(60)\n"
    )
    parent = (
        "import sys, pathlib; sys.path.insert(0, 'tools/studies'); import children; "
        f"sys.exit(children.run([sys.executable, '-c', {child!r}], pathlib.Path('.')))"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=30) == 75


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("--frl_rate=0.1", "options.frl_rate: 0.1 and 0.05"),
        ("--learning_rate=0.5", "learning_rate: 0.5 and 0.1"),
    ],
)
def test_defaults_are_asked_for_too(study, tmp_path, trainer, capsys, made, told):
    """What the command leaves to its method or to the data set's recipe is no free choice."""
    text = study.read_text()
    study.write_text(text.replace('"--method=frl", ', f'"--method=frl", "{made}", '))
    assert study_run.main(arguments(study, tmp_path)) == 0
    study.write_text(text)
    assert study_run.main(arguments(study, tmp_path)) == errors.DataError.exit_code
    assert told in capsys.readouterr().err


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
