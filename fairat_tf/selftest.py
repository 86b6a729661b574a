"""`python -m fairat_tf.selftest`: does the evaluation catch what it must, on this machine?

python -m fairat_tf.selftest        # exit code 0: every planted weakness caught, the sound model passed
"""

import sys

from absl import flags

from fairat_tf import cli, errors

COMMAND = cli.Command(
    "selftest",
    "Plants weaknesses into a model trained on the spot and checks that the evaluation catches each.",
    example="python -m fairat_tf.selftest",
)

with COMMAND.group("Test") as _values:
    flags.DEFINE_integer("seed", 0, "Of data, training and attacks.", lower_bound=0, flag_values=_values)


def main(values: flags.FlagValues, arguments: list[str]) -> None:
    """Runs the planted models and prints a line for each; raises Unreliable if one is not caught."""
    from fairat_tf.evaluation import planted

    rows = planted.run(values.seed)
    for row in rows:
        print(f"{'ok    ' if row['caught'] else 'MISSED'} {row['model']}: {row['found']}")
    missed = [row["model"] for row in rows if not row["caught"]]
    if missed:
        raise errors.Unreliable(f"not caught: {', '.join(missed)}; do not trust evaluations on this machine")
    print(f"selftest: all {len(rows)} models judged rightly")


def run(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return COMMAND.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
