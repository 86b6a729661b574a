"""Holds: numbers are read as people write them, and every way to end has its exit code and one line."""

import errno
import os
import signal
import sys

import pytest
from absl import flags

from fairat_tf import cli, errors, evaluate
from fairat_tf.lookup import UnknownNameError
from fairat_tf.units import parse_duration, parse_fraction


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.0314", 0.0314), ("1e-2", 0.01), (0.5, 0.5)]
)
def test_fractions(text, value):
    assert parse_fraction(text) == value


@pytest.mark.parametrize("text", ["", "8/0", "a/b", "8/255/2", "inf", "nan"])
def test_what_is_no_fraction_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_fraction(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5", 1.5), ("1D", 86400)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["0", "-3m", "m", "soon", "inf"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.fixture
def command():
    made = cli.Command("made_up", "Does nothing.")
    with made.group("Numbers") as values:
        cli.DEFINE_fraction("epsilon", "8/255", "Radius.", flag_values=values)
        flags.DEFINE_multi_string("gate", [], "Bound.", flag_values=values)
    return made


def test_values_are_parsed_and_forgotten_before_the_next_run(command):
    seen = []

    def main(values, arguments):
        seen.append((values.epsilon, list(values.gate)))

    assert command.run(main, ["x", "--epsilon=1/4", "--gate=a", "--gate=b"]) == 0
    assert command.run(main, ["x"]) == 0
    assert seen == [(0.25, ["a", "b"]), (8 / 255, [])]


def test_flag_files(command, tmp_path):
    (tmp_path / "a.flags").write_text("# a comment\n--epsilon=1/2\n")
    seen = []
    assert (
        command.run(
            lambda values, _: seen.append(values.epsilon), ["x", f"--flagfile={tmp_path / 'a.flags'}"]
        )
        == 0
    )
    assert seen == [0.5]


def test_a_flag_file_that_is_no_text(command, tmp_path, capsys):
    (tmp_path / "a.flags").write_bytes(b"\xff\xfe-\x00-\x00")
    assert command.run(lambda *_: None, ["x", f"--flagfile={tmp_path / 'a.flags'}"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_command_goes_on_without_a_reader(command, tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    done = []

    def main(values, arguments):
        print("x" * 100_000)
        print("more", flush=True)
        done.append(True)

    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert command.run(main, ["x"]) == 0 and done
        assert command.run(main, ["x", "--help"]) == 0 and command.run(main, ["x", "--version"]) == 0
        assert sys.stdout is stream


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("m"), 2),
        (UnknownNameError("m"), 2),
        (errors.DataError("m"), 3),
        (errors.GateFailed("m"), 4),
        (errors.Unreliable("m"), 5),
        (errors.Diverged("m"), 6),
        (errors.StorageError("m"), 7),
        (OSError(errno.ENOSPC, "No space left on device"), 7),
        (PermissionError(errno.EACCES, "denied"), 7),
        (errors.Interrupted("m"), 75),
        (RuntimeError("unforeseen"), 1),
    ],
)
def test_exit_codes(command, error, code, capsys):
    def main(values, arguments):
        raise error

    assert command.run(main, ["x"]) == code
    written = capsys.readouterr().err
    assert written.splitlines()[-1].startswith("fairat_tf: ")
    assert ("Traceback" in written) == (code == 1)


def test_a_signal_that_a_library_took_for_a_failure_of_its_own_is_one(command, capsys):
    def main(values, arguments):
        try:
            try:
                raise errors.Interrupted("SIGTERM: the same command goes on")
            except Exception:
                raise TypeError("could not be deserialized properly")  # noqa: B904
        except TypeError as error:
            raise errors.UsageError("cannot be loaded") from error

    assert command.run(main, ["x"]) == 75
    assert capsys.readouterr().err == "fairat_tf: SIGTERM: the same command goes on\n"

    def full(values, arguments):
        try:
            raise errors.Interrupted("SIGTERM: what is done is saved")
        except errors.Interrupted as error:
            raise errors.StorageError("no space left") from error

    assert command.run(full, ["x"]) == 7


def test_help_shows_groups_and_defaults(command, capsys):
    assert command.run(lambda *_: pytest.fail("ran"), ["x", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Numbers:" in text and "Radius. [8/255]" in text and "repeat this option" not in text


def test_arguments_are_refused_where_there_are_none(command, capsys):
    assert command.run(lambda *_: pytest.fail("ran"), ["x", "epsilon", "0.1"]) == 2
    assert "expected flags only" in capsys.readouterr().err


def test_a_signal_becomes_an_interruption_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(errors.Interrupted, match="SIGTERM: goes on"), cli.stop_on_signals("goes on"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_ends_an_evaluation_with_exit_code_75(tmp_path, monkeypatch, capsys, number):
    def stopped(request):
        os.kill(os.getpid(), number)
        pytest.fail("went on after the signal")

    monkeypatch.setattr("fairat_tf.evaluation.running.run", stopped)
    (tmp_path / "m.keras").write_text("a model")
    before = signal.signal(number, lambda *_: None)
    try:
        words = [f"--model={tmp_path / 'm.keras'}", "--dataset=npz:d", f"--output_dir={tmp_path}"]
        code = evaluate.run(["evaluate", *words])
    finally:
        signal.signal(number, before)
    assert code == errors.Interrupted.exit_code == 75
    assert f"fairat_tf: {number.name}: the same command goes on from here" in capsys.readouterr().err


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
