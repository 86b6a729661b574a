"""What every command line shares: flags in groups, values such as 8/255, one clear line for an error.

    command = cli.Command("evaluate", "Class-wise robust accuracy of a trained classifier.")
    with command.group("Threat model"):
        cli.DEFINE_fraction("epsilon", "8/255", "Radius of the ball, in [0, 1].", flag_values=command.flags)

    def main(values, arguments):
        print(values.epsilon)

    sys.exit(command.run(main))

Nothing here imports TensorFlow, so that `--help` and a misspelt flag answer at once. Flags live in a
`FlagValues` of their own, not in absl's global one: two commands may be imported by one program.
"""

import contextlib
import errno
import io
import logging
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from absl import flags
from absl import logging as absl_logging

import fairat_tf
from fairat_tf import errors, lookup, quiet
from fairat_tf.units import parse_duration, parse_fraction

_STORAGE = {errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT}
_STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_HELP = {"--help", "-help", "-h", "--helpshort", "-helpshort"}
_HELP_FULL = {"--helpfull", "-helpfull"}


class _NumberParser(flags.ArgumentParser):
    """Turns text into a float by a given function and keeps it inside bounds."""

    syntactic_help = "a number"

    def __init__(self, read: Callable[[Any], float], low: float | None = None, high: float | None = None):
        super().__init__()
        self._read, self._low, self._high = read, low, high

    def parse(self, argument: Any) -> float:
        value = self._read(argument)
        if self._low is not None and value < self._low:
            raise ValueError(f"expected at least {self._low:g}, got {argument}")
        if self._high is not None and value > self._high:
            raise ValueError(f"expected at most {self._high:g}, got {argument}")
        return value

    def flag_type(self) -> str:
        return "number"


def DEFINE_fraction(  # noqa: N802 (absl's naming)
    name: str,
    default: str | float | None,
    help: str,
    lower_bound: float | None = 0.0,
    upper_bound: float | None = 1.0,
    flag_values: flags.FlagValues = flags.FLAGS,
) -> flags.FlagHolder:
    """Defines a float flag that also reads `8/255`; the value is a float in the bounds."""
    parser = _NumberParser(parse_fraction, lower_bound, upper_bound)
    return flags.DEFINE(parser, name, default, help, flag_values, flags.ArgumentSerializer())


def DEFINE_duration(  # noqa: N802
    name: str, default: str | None, help: str, flag_values: flags.FlagValues = flags.FLAGS
) -> flags.FlagHolder:
    """Defines a flag such as `30m`; the value is a float in seconds."""
    parser = _NumberParser(parse_duration)
    return flags.DEFINE(parser, name, default, help, flag_values, flags.ArgumentSerializer())


@contextlib.contextmanager
def stop_on_signals(message: str) -> Iterator[None]:
    """Inside, SIGTERM, SIGUSR1 and Ctrl-C raise `errors.Interrupted(message)`: where the state is on disk."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise errors.Interrupted(f"{signal.Signals(number).name}: {message}")

    before = {number: signal.signal(number, stop) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _home_expanded(value: Any) -> Any:
    """Returns a flag's value; in one that begins with ~ the home directory, as the shell leaves it there."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value


def number_pair(texts: list[str], name: str) -> tuple[float, float]:
    """Returns the two numbers of a list flag such as --input_range=0,255.

    Raises:
      UsageError: not two numbers.
    """
    try:
        low, high = (float(text) for text in texts)
    except ValueError:
        raise errors.UsageError(f"--{name}: expected LOW,HIGH, got {','.join(texts)}") from None
    return low, high


def check_radius(values: flags.FlagValues) -> None:
    """Refuses --norm=l2 with the default radius, which is one of linf and would hardly change an image.

    Raises:
      UsageError: `epsilon` was not given.
    """
    if values.norm == "l2" and not values["epsilon"].present:
        raise errors.UsageError("--norm=l2 needs --epsilon, such as --epsilon=128/255")


class Command:
    """A command line: its flags, in groups, and how it ends.

    Args:
      name: the module's name under `fairat_tf` ("evaluate").
      summary: what it does, a sentence or two; shown by `--help`.
      arguments: how positional arguments are shown ("RUN RUN ..."); empty: there are none.
      example: a whole command line that works.
      values: where the flags live; a new `FlagValues` if not given.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        arguments: str = "",
        example: str = "",
        values: flags.FlagValues | None = None,
    ):
        self.name, self.summary, self.arguments, self.example = name, summary, arguments, example
        self.flags = flags.FlagValues() if values is None else values
        self._groups: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def group(self, title: str) -> Iterator[flags.FlagValues]:
        """The flags defined inside the `with` block appear under `title` in `--help`."""
        before = set(self.flags)
        yield self.flags
        self._groups.setdefault(title, []).extend(name for name in self.flags if name not in before)

    def run(self, main: Callable[[flags.FlagValues, list[str]], Any], argv: list[str] | None = None) -> int:
        """Parses `argv` (default: the process's), calls `main(values, arguments)`, returns the exit code.

        `--help` prints the groups and gives 0; a wrong flag gives 2 and one line on stderr; a
        `CommandError` gives its own code and its message; anything unforeseen a traceback and 1.
        """
        _accept_any_text()
        with _without_reader():
            return self._run(main, list(sys.argv if argv is None else argv))

    def _run(self, main: Callable[[flags.FlagValues, list[str]], Any], argv: list[str]) -> int:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # leaves the rest to other processes
        asked = set(argv[1 : argv.index("--") if "--" in argv else None])
        if asked & (_HELP | _HELP_FULL):
            print(self.help_text(full=bool(asked & _HELP_FULL)))
            return errors.EXIT_OK
        if "--version" in asked and "version" not in self.flags:
            print(f"fairat_tf {fairat_tf.__version__}")
            return errors.EXIT_OK
        logging.basicConfig(format="note: %(message)s")
        absl_logging.set_verbosity(absl_logging.ERROR)  # TFDS' talk of its folders
        try:
            arguments = self.parse(argv)
            quiet.import_tensorflow()
            main(self.flags, arguments)
            return errors.EXIT_OK
        except Exception as error:
            return report(error)
        except KeyboardInterrupt:
            print("fairat_tf: stopped by Ctrl-C.", file=sys.stderr)
            return 128 + signal.SIGINT

    def parse(self, argv: list[str]) -> list[str]:
        """Reads the flags of `argv` (program name first) into `flags`; returns the positional arguments.

        Raises:
          UsageError: an unknown flag, a wrong value, or words where no arguments are expected.
        """
        self.flags.unparse_flags()
        try:
            rest = self.flags(argv)[1:]
        except (flags.Error, UnicodeDecodeError) as error:  # the latter: a flag file that is no text
            raise errors.UsageError(f"{error} (see python -m fairat_tf.{self.name} --help)") from None
        for name in self.flags:
            self.flags[name].value = _home_expanded(self.flags[name].value)
        if rest and not self.arguments:
            raise errors.UsageError(
                f"expected flags only, got {' '.join(rest)!r}; write --flag=value "
                f"(see python -m fairat_tf.{self.name} --help)"
            )
        return rest

    def help_text(self, full: bool = False) -> str:
        """Returns the text of `--help`; with `full` also absl's own flags."""
        usage = f"python -m fairat_tf.{self.name} [--flag=value ...] {self.arguments}".rstrip()
        lines = [*textwrap.wrap(self.summary, 90), "", f"  {usage}"]
        if self.example:
            lines += ["", "Example:", *(f"  {line}" for line in self.example.splitlines())]
        for title, names in self._groups.items():
            lines += ["", f"{title}:"]
            for name in names:
                lines += self._flag_help(name)
        lines += ["", "Also: --flagfile=FILE (flags from a file), --version, --helpfull."]
        if full:
            lines += ["", self.flags.get_help()]
        return "\n".join(lines)

    def _flag_help(self, name: str) -> list[str]:
        flag = self.flags[name]
        shown = f"--[no]{name}" if flag.boolean else f"--{name}"
        default = flag.default_unparsed
        if isinstance(default, (list, tuple)):
            default = ",".join(map(str, default))
        text = (flag.help or "").split(";\n")[0]
        if default not in (None, ""):
            text += f" [{str(default).lower() if flag.boolean else default}]"
        body = textwrap.wrap(text, 64) or [""]
        if len(shown) > 22:
            return [f"  {shown}", *(f"{'':26}{line}" for line in body)]
        return [f"  {shown:<24}{body[0]}", *(f"{'':26}{line}" for line in body[1:])]


class _Lasting:
    """A stream whose reader may leave (`| head`): the command goes on, and what it says goes nowhere."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text, if anybody reads it."""
        return self._tried(lambda: self._stream.write(text)) or len(text)

    def flush(self) -> None:
        """Hands over what is written."""
        self._tried(self._stream.flush)

    def _tried(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # also for the flush at exit
            return None


@contextlib.contextmanager
def _without_reader() -> Iterator[None]:
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Lasting, streams)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = streams


def _accept_any_text() -> None:
    """Lets a terminal that lacks a character show "?" in its place, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _interruption(error: BaseException | None) -> errors.Interrupted | None:
    """Returns the interruption that an error came from, if it did."""
    while error is not None and not isinstance(error, errors.Interrupted):
        error = error.__cause__ or error.__context__
    return error


def report(error: Exception) -> int:
    """Prints one line about `error` on stderr (a traceback if it was unforeseen); returns the exit code.

    A signal that a library took for a failure of its own (Keras while it loads, TFDS while it prepares) is
    still one; where the state could not be written, that counts.
    """
    if not isinstance(error, errors.StorageError):
        error = _interruption(error) or error
    if isinstance(error, errors.CommandError):
        code = error.exit_code
    elif isinstance(error, lookup.UnknownNameError):
        code = errors.UsageError.exit_code
    elif isinstance(error, OSError) and error.errno in _STORAGE:
        code = errors.StorageError.exit_code
    else:
        traceback.print_exception(error)
        code = errors.EXIT_INTERNAL
    print("fairat_tf: " + " ".join(str(error).split()), file=sys.stderr)
    return code
