"""Makes evaluations, as `fairat_tf.evaluate` writes them, of the predictions that `evaluate.py` made.

    ./tools/run_step results runs/step runs/results        # runs/results/epoch-0030/evaluation.json, ...

FOLDER is that of the export, brought back with its `run/predictions` and `run/epochs.jsonl`.
`fairat_tf.compare` takes the results like those of any run; with --keep=KEPT/fairat-0 they, the log and the
flags become what a study keeps of a finished run, for `./tools/study ... --keep=KEPT --table_only`. There is
no verdict on the attack: for that, evaluate the network that `collect` makes.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools" / "studies")]

from fairat_tf import errors  # noqa: E402


def result_of(facts: dict[str, Any], labels: np.ndarray, path: Path) -> dict[str, Any]:
    """Returns the evaluation result of the predictions in `path`; `facts` are those of the export."""
    from fairat_tf.evaluation import summary
    from fairat_tf.evaluation.attacking import Outcome, lost_note

    everything, outcomes = np.arange(len(labels)), []
    with np.load(path) as found:
        for name in facts["programs"]:
            predicted, lost = found[f"predictions/{name}"], lost_note(int(found[f"lost/{name}"]))
            seconds = float(found[f"seconds/{name}"])
            right = predicted == labels
            outcomes.append(Outcome(name, everything, right, predicted, seconds, None, lost))
    model = {"path": path.stem, "kind": "program", "parameters": facts["parameters"]}
    threat = (facts["epsilon"], facts["norm"], facts["seed"])
    return summary.summarise(outcomes, labels, facts["class_names"], *threat, model, facts["dataset"])


def write(folder: Path, into: Path) -> list[Path]:
    """Writes the evaluation of every network that was judged; returns their folders.

    Raises:
      DataError: no export, no predictions, or they are of other examples.
    """
    from fairat_tf.reporting import files

    try:
        facts = json.loads((folder / "program.json").read_text())["evaluation"]
        with np.load(folder / "test.npz") as data:
            labels = data["labels"].astype(np.int32)
        there = sorted((folder / "run" / "predictions").glob("*.npz"))
        results = {path.stem: result_of(facts, labels, path) for path in there}
    except (ValueError, KeyError, *errors.DAMAGED) as error:
        raise errors.DataError(f"{folder}: {error}") from error
    if not results:
        raise errors.DataError(f"{folder} holds no run/predictions: ./tools/run_step evaluate makes them")
    for name, result in results.items():
        files.write(result, into / name)
    return [into / name for name in results]


def keep(folder: Path, into: Path, evaluations: Sequence[Path], place: Path) -> None:
    """Keeps evaluations, log and flags of the export in `folder` as those of the run `place`.

    Raises:
      DataError: there is no log, or it cannot be read.
    """
    from kept import Kept

    try:
        config = json.loads((folder / "program.json").read_text())["config"]
        log = (folder / "run" / "epochs.jsonl").read_bytes()
        (into / "config.json").write_text(json.dumps(config))
        (into / "metrics.jsonl").write_bytes(log)
    except (ValueError, KeyError, *errors.DAMAGED) as error:
        raise errors.DataError(f"{folder}: {error}") from error
    Kept(place.parent).add(place.name, into, evaluations, into)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("into", type=Path, metavar="DIR")
    parser.add_argument("--keep", type=Path, metavar="KEPT/VARIANT-SEED", help="keep them as this run's")
    given = parser.parse_args(argv)
    from fairat_tf import quiet

    quiet.import_tensorflow()
    try:
        evaluations = write(given.folder, given.into)
        if given.keep:
            keep(given.folder, given.into, evaluations, given.keep)
        print(*evaluations, sep="\n")
    except errors.CommandError as error:
        print(f"run_step: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
