"""Makes a Keras file of a network that `run.py` trained.

    ./tools/run_step collect runs/step/run/last/epoch-0030 network.keras

FROM is a folder of `last/` or a state; `program.json` is looked for in the folders above it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import shards  # noqa: E402

from fairat_tf import errors  # noqa: E402


def collect(source: Path, target: Path) -> None:
    """Writes the evaluated network of `source` (weights of a network, or a whole state) as a Keras file.

    Raises:
      DataError: no `program.json` above `source`, or its weights are damaged or of another network.
      UsageError, StorageError: `target` is no name of a Keras file, or cannot be written.
    """
    import keras

    import fairat_tf.networks  # noqa: F401 - registers layers

    homes = [folder for folder in source.resolve().parents if (folder / "program.json").is_file()]
    if not homes:
        raise errors.DataError(f"no program.json in the folders above {source}")
    facts = json.loads((homes[0] / "program.json").read_text())
    try:
        arrays, _ = shards.read(source)
        network = keras.models.model_from_json(json.dumps(facts["network"]))
        network.set_weights([arrays[name] for name in facts["evaluated"]])
    except (shards.DamagedError, KeyError, ValueError) as error:
        raise errors.DataError(f"{source}: {error}") from error
    try:
        network.save(target)
    except ValueError as error:
        raise errors.UsageError(f"{target}: expected a name that ends with .keras") from error
    except OSError as error:
        raise errors.StorageError(f"{target} cannot be written: {error.strerror or error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("target", type=Path, metavar="FILE.keras")
    given = parser.parse_args(argv)
    from fairat_tf import quiet

    quiet.import_tensorflow()
    try:
        collect(given.source, given.target)
    except errors.CommandError as error:
        print(f"run_step: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
