"""Trains a classifier: `python -m fairat_tf.train --dataset=svhn`.

Exit codes: 0 done; 2 wrong usage; 3 data missing or unreadable; 6 training diverged; 7 run directory
or storage unusable; 75 stopped early but resumable with the same command.
"""

import sys
from typing import Any

from fairat_tf import cli, errors, flags_lib


def main(values: Any, arguments: list[str]) -> None:
    """Trains as the parsed flags say."""
    try:
        config = flags_lib.config_from(values)
    except ValueError as error:
        raise errors.UsageError(str(error)) from error
    from fairat_tf import train_lib

    train_lib.train(config, dry_run=values.dry_run)


def run() -> int:
    """Runs the command line of this process and returns its exit code."""
    try:
        command = flags_lib.training_command(sys.argv)
    except ValueError as error:
        return cli.report(error)
    return command.run(main)


if __name__ == "__main__":
    sys.exit(run())
