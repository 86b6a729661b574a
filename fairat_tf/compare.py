"""`python -m fairat_tf.compare`: which model protects its classes better, beyond chance?

python -m fairat_tf.compare plain=runs/a fair=runs/b --output_dir=comparison
python -m fairat_tf.compare plain=runs/a1,runs/a2,runs/a3 fair=runs/b1,runs/b2,runs/b3
"""

import sys

from absl import flags

from fairat_tf import cli

COMMAND = cli.Command(
    "compare",
    "Paired differences between evaluations of the same examples; commas join the seeds of one method.",
    arguments="[NAME=]DIR[,DIR...] [NAME=]DIR[,DIR...] ...",
    example="python -m fairat_tf.compare plain=runs/a fair=runs/b --output_dir=comparison",
)

with COMMAND.group("Comparison") as _values:
    flags.DEFINE_string("output_dir", "comparison", "Where tables and page go.", flag_values=_values)
    flags.DEFINE_integer("draws", 2000, "Of the bootstrap.", lower_bound=100, flag_values=_values)
    flags.DEFINE_integer("seed", 0, "Of the bootstrap.", lower_bound=0, flag_values=_values)


def main(values: flags.FlagValues, arguments: list[str]) -> None:
    """Compares, prints the tables and writes them."""
    from fairat_tf.evaluation import comparing
    from fairat_tf.reporting import comparison

    found = comparing.compare(comparing.load(arguments), values.draws, values.seed)
    paths = comparison.write(found, values.output_dir)
    print(comparison.markdown(found))
    print(*paths, sep="\n")


def run(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return COMMAND.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
