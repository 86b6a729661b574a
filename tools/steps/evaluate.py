"""Evaluates the networks that `run.py` trained, with JAX, NumPy and Pillow alone. Experimental.

    python tools/steps/evaluate.py runs/step --records='DIR/cifar10-test*' --seconds=100

The networks of FOLDER/run/last are judged, the newest first, by the attacks that the export's --evaluate
named: FOLDER/run/predictions/epoch-0030.npz, of which `./tools/run_step results` makes evaluations. With
--seconds it begins no network that would be ready later (exit code 75).
"""

import argparse
import glob
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import loaded
import numpy as np
import records
import shards


class Judge:
    """The programs of an export's evaluation, compiled, and the test examples.

    Raises:
      ValueError: the export named no attack, or the TFRecord files are not its own.
    """

    def __init__(self, folder: Path, files: Sequence[str], compiled: Path | None = None):
        facts = json.loads((folder / "program.json").read_text())
        self.facts, self.evaluated = facts["evaluation"], facts["evaluated"]
        if not self.facts["programs"]:
            raise ValueError("it was exported with --evaluate= and has nothing to evaluate by")
        self.images, self.labels = records.examples(folder / "test.npz", files)
        with np.load(folder / "constants.npz") as constants:
            self.constants = {name: loaded.on_device(constants[name]) for name in constants}
        names = self.facts["programs"]
        self.programs = {name: loaded.Program(folder / f"evaluate-{name}.hlo", compiled) for name in names}

    def judge(self, network: Path) -> dict[str, np.ndarray]:
        """Returns, by attack: predictions int32 [N], images that were not finite, seconds.

        As in `evaluation.attacking.Bench`, an image that is wrong from the start is not attacked.
        """
        arrays, _ = shards.read(network)
        own = {str(i): loaded.on_device(arrays[name]) for i, name in enumerate(self.evaluated)}
        everything = np.arange(len(self.labels))
        found = self._run("clean", everything, own)
        clean = found["predictions/clean"]
        right = everything[clean == self.labels]
        for name in [name for name in self.programs if name != "clean"]:
            under = self._run(name, right, own)
            predictions = clean.copy()
            predictions[right] = under[f"predictions/{name}"]
            found |= under | {f"predictions/{name}": predictions}
        return found

    def _run(self, name: str, places: np.ndarray, own: dict[str, Any]) -> dict[str, np.ndarray]:
        began, size = time.monotonic(), self.facts["batch_size"]
        weights = [{**own, **self.constants}[key] for key in self.facts["programs"][name]["captured"]]
        outputs = []
        for number, start in enumerate(range(0, len(places), size)):
            rows = places[np.minimum(np.arange(start, start + size), len(places) - 1)]  # the last is padded
            batch = [self.images[rows], self.labels[rows], np.int32(number)]
            outputs.append(self.programs[name]([*batch, *weights]))
        predictions, finite = (
            np.concatenate([np.asarray(o[place]) for o in outputs] or [np.zeros(0, np.int32)])[: len(places)]
            for place in (0, 1)
        )
        return {
            f"predictions/{name}": predictions.astype(np.int32),
            f"lost/{name}": np.int64(len(places) - finite.astype(bool).sum()),
            f"seconds/{name}": np.float64(time.monotonic() - began),
        }


def evaluate(folder: Path, judge: Judge, seconds: float) -> bool:
    """Judges what is not judged yet; returns whether all is done."""
    began, longest, target = time.monotonic(), 0.0, folder / "run" / "predictions"
    target.mkdir(parents=True, exist_ok=True)
    for network in sorted((folder / "run" / "last").glob("epoch-*"), reverse=True):
        path, start = target / f"{network.name}.npz", time.monotonic()
        if path.exists():
            continue
        if start - began + 1.2 * longest > seconds:
            return False
        found = judge.judge(network)
        temporary = path.with_suffix(".writing")
        with temporary.open("wb") as file:
            np.savez(file, **found)
        os.replace(temporary, path)
        right = {n: np.mean(found[f"predictions/{n}"] == judge.labels) for n in judge.programs}
        longest = max(longest, time.monotonic() - start)
        told = {"network": network.name, **{n: round(float(v), 4) for n, v in right.items()}}
        print(json.dumps(told | {"seconds": round(time.monotonic() - start, 1)}), flush=True)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0 all networks done, 75 the time was up before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", default="", help="pattern of the TFRecord files that hold the test set")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no network that would be ready later"
    )
    parser.add_argument("--compiled", type=Path, help="keep the compiled programs here for the next start")
    given, began = parser.parse_args(argv), time.monotonic()
    try:
        judge = Judge(given.folder, sorted(glob.glob(given.records)), given.compiled)
        return 0 if evaluate(given.folder, judge, given.seconds - (time.monotonic() - began)) else 75
    except (OSError, ValueError, KeyError) as error:
        print(f"run_step: {given.folder}: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
