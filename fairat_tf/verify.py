"""`python -m fairat_tf.verify DIR`: are the saved adversarial images what the result says?

    python -m fairat_tf.verify runs/a/evaluation --model=runs/a

Without --model: ball, range, flags and counts. With it the images are classified again.
"""

import sys
from typing import Any

from absl import flags

from fairat_tf import cli, errors

COMMAND = cli.Command(
    "verify",
    "Checks evidence written by evaluate --save_examples: ball, range, flags and, with a model, predictions.",
    arguments="DIR",
    example="python -m fairat_tf.verify runs/a/evaluation --model=runs/a",
)

with COMMAND.group("Model") as _values:
    flags.DEFINE_string("model", "", "Classify again with this model; as for evaluate.", flag_values=_values)
    flags.DEFINE_enum("outputs", "logits", ["logits", "softmax"], "As for evaluate.", flag_values=_values)
    flags.DEFINE_list("input_range", ["0", "1"], "As for evaluate.", flag_values=_values)
    flags.DEFINE_string("endpoint", "", "As for evaluate.", flag_values=_values)
    flags.DEFINE_bool("trust", False, "As for evaluate.", flag_values=_values)


def main(values: flags.FlagValues, arguments: list[str]) -> None:
    """Verifies, prints a line for each attack, raises DataError if something does not hold."""
    if len(arguments) != 1:
        raise errors.UsageError(f"expected one directory, got {len(arguments)} arguments")
    from fairat_tf.evaluation import evidence

    rows = evidence.verify(arguments[0], _logits_fn(values))
    for row in rows:
        state = "; ".join(row["problems"]) or "holds"
        print(f"{row['attack']}: {row['examples']} examples, largest change {row['largest']:.6f}: {state}")
    if any(row["problems"] for row in rows):
        raise errors.DataError(f"{arguments[0]}: the evidence does not hold")


def _logits_fn(values: flags.FlagValues) -> Any:
    if not values.model:
        return None
    from fairat_tf import model_files

    low, high = cli.number_pair(values.input_range, "input_range")
    model = model_files.load(
        values.model,
        outputs=values.outputs,
        input_range=(low, high),
        endpoint=values.endpoint,
        trust=values.trust,
    )
    return model.logits_fn


def run(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return COMMAND.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
