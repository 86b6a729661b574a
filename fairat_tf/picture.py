"""`python -m fairat_tf.picture`: class-wise results side by side, as a PNG.

python -m fairat_tf.picture PGD-AT=runs/a/evaluation FairAT=runs/b/evaluation --output=classwise.png
"""

import sys
from pathlib import Path

from absl import flags

from fairat_tf import cli, errors

COMMAND = cli.Command(
    "picture",
    "Draws what each evaluation found class by class, clean and under attack, with 95 % intervals.",
    arguments="[TITLE=]DIR_OR_JSON ...",
    example="python -m fairat_tf.picture FairAT=runs/a/evaluation --output=classwise.png",
)

with COMMAND.group("Picture") as _values:
    flags.DEFINE_string("output", "classwise.png", "The PNG to write.", flag_values=_values)
    flags.DEFINE_list("attacks", ["clean", "pgd20"], "One to three attacks to draw.", flag_values=_values)


def main(values: flags.FlagValues, arguments: list[str]) -> None:
    """Draws and writes the picture."""
    if not arguments:
        raise errors.UsageError("expected a result of fairat_tf.evaluate, got none")
    from fairat_tf.evaluation import comparing
    from fairat_tf.reporting import files, picture

    results = {}
    for argument in arguments:
        title, found, path = argument.partition("=")
        if not found or Path(argument).exists():
            given = Path(argument)  # a folder's dots are part of its name
            title, path = given.stem if given.is_file() else given.name, argument
        name = title
        if name in results:
            raise errors.UsageError(f"two results are called {name!r}: write TITLE={path}")
        results[name] = files.read(path)
        if judged := comparing.doubt(results[name]):
            print(f"fairat_tf: note: {name}: its evaluation was judged {judged}", file=sys.stderr)
    try:
        png = picture.classwise_png(results, values.attacks)
    except ValueError as error:
        raise errors.UsageError(str(error)) from error
    try:
        files.replace(Path(values.output), png)
    except OSError as error:
        raise errors.StorageError(f"{values.output} cannot be written: {error.strerror}") from error
    print(values.output)


def run(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return COMMAND.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
