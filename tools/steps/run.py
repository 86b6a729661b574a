"""Runs the step that `export.py` wrote, with JAX, NumPy and Pillow alone. Experimental.

    python tools/steps/run.py runs/step --records='DIR/cifar10-train*' --seconds=500

Epochs go on from the newest whole state in FOLDER/run, or from FOLDER/start; the state of another export is
refused (exit code 3). After each epoch (or every --save_every) the state is saved, in parts of 16 MB, and a
line is added to FOLDER/run/epochs.jsonl; `last/epoch-0030` and so on are the networks to evaluate, for
`./tools/run_step evaluate` and `collect`. With --seconds it stops, saved, before an epoch that would end
later; with --steps it makes that many steps, prints the loss after each, and saves nothing.
"""

import argparse
import glob
import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import loaded  # noqa: E402
import numpy as np  # noqa: E402
import records  # noqa: E402
import shards  # noqa: E402


def _order_of_epochs() -> Any:
    """Returns the package's module that says in which order an epoch takes the examples."""
    path = HERE.parents[1] / "fairat_tf" / "data" / "order.py"
    spec = importlib.util.spec_from_file_location("fairat_tf_order", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_STATES = 2  # that are kept: the newest, and the one before in case it gets damaged


class Step:
    """The compiled program; `state` holds the variables on the device, in the order of its parameters."""

    def __init__(
        self,
        folder: Path,
        facts: dict[str, Any],
        arrays: dict[str, np.ndarray],
        compiled: Path | None = None,
    ):
        self.program = loaded.Program(folder / "step.hlo", compiled)
        self.facts, self.given = facts, len(facts["arguments"])
        self.updated = dict(map(tuple, facts["alias"]))
        self.state = [loaded.on_device(arrays[name]) for name in facts["captured"]]
        self.others = {name: a for name, a in arrays.items() if name not in set(facts["captured"])}

    def __call__(self, *arguments: np.ndarray) -> dict[str, Any]:
        """Makes one step; returns its metrics, on the device."""
        outputs = self.program([*arguments, *self.state])
        for output, parameter in self.updated.items():
            self.state[parameter - self.given] = outputs[output]
        results = [value for place, value in enumerate(outputs) if place not in self.updated]
        return dict(zip(self.facts["results"], results, strict=False))

    def set(self, name: str, value: np.ndarray) -> None:
        """Changes a variable, if the program uses it."""
        if name in self.facts["captured"]:
            self.state[self.facts["captured"].index(name)] = loaded.on_device(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all variables: place -> values."""
        pairs = zip(self.facts["captured"], self.state, strict=True)
        return {**self.others, **{name: np.asarray(value) for name, value in pairs}}


class Run:
    """Trains epochs; `folder` as `export.py` wrote it."""

    def __init__(self, folder: Path, files: Sequence[str], compiled: Path | None = None, small: bool = False):
        self.folder, self.into, self.small = folder, folder / "run", small
        self.facts = json.loads((folder / "program.json").read_text())
        self.batch_size = self.facts["arguments"][0][1][0]
        self.images, self.labels = records.examples(folder / "data.npz", files)
        self.start = shards.newest(self.into, "state-") or folder / "start"
        arrays, self.position = shards.read(self.start)
        self.first, begun = shards.read(folder / "start")
        self.program = begun.get("program")
        if self.position.get("program") != self.program:
            raise ValueError(f"{self.start} is of another export: remove {self.into}, or export elsewhere")
        self.step = Step(folder, self.facts, arrays, compiled)
        self.order_of = _order_of_epochs().epoch_order

    def batches(self, epoch: int) -> Any:
        """Yields the arguments of the steps of an epoch."""
        order = self.order_of(len(self.labels), self.facts["config"]["run"]["seed"], epoch)
        for step in range(self.facts["steps"]):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            number = np.int32(epoch * self.facts["steps"] + step)
            yield self.images[rows], self.labels[rows], rows, number

    def begin(self, epoch: int) -> None:
        """Sets what Keras sets before an epoch."""
        self.step.set(self.facts["epoch"], np.asarray(epoch, self.first[self.facts["epoch"]].dtype))
        for name in self.facts["sums"]:
            self.step.set(name, self.first[name])

    def epoch(self, number: int) -> dict[str, Any]:
        """Trains one epoch; returns its metrics and times."""
        self.begin(number)
        began, first, results = time.monotonic(), 0.0, {}
        for place, arguments in enumerate(self.batches(number)):
            results = self.step(*arguments)
            if not place:
                loaded.wait_for(list(results.values()))
                first = time.monotonic() - began
        facts = {name: float(value) for name, value in results.items()}  # waits for the device
        seconds = time.monotonic() - began
        rate = (self.facts["steps"] - 1) / max(seconds - first, 1e-9)
        return {"epoch": number, "seconds": seconds, "first_step": first, "steps_per_second": rate, **facts}

    def save_network(self, done: int) -> None:
        """Saves the evaluated network after `done` epochs."""
        arrays = self.step.arrays()
        network = {name: arrays[name] for name in self.facts["evaluated"]}
        shards.write(self.into / "last" / f"epoch-{done:04d}", network, {"epoch": done}, small=self.small)

    def save(self, done: int) -> None:
        """Saves the state after `done` epochs."""
        facts = {"epoch": done, "step": 0, "program": self.program}
        shards.write(self.into / f"state-{done:04d}", self.step.arrays(), facts)
        for old in sorted(self.into.glob("state-*"))[:-_STATES]:
            shutil.rmtree(old)

    def train(self, until: int, seconds: float, keep_last: int, save_every: int = 1) -> int:
        """Trains to the end of epoch `until` or until the time is up; returns how many epochs are done."""
        began, longest, done = time.monotonic(), 0.0, self.position["epoch"]
        saved = done
        self.into.mkdir(parents=True, exist_ok=True)
        self.forget(done)
        while done < until and time.monotonic() - began + 1.2 * longest < seconds:
            start = time.monotonic()
            facts = self.epoch(done)
            done += 1
            if done > self.facts["epochs"] - keep_last:
                self.save_network(done)
            if done % save_every == 0:
                self.save(done)
                saved = done
            longest = max(longest, time.monotonic() - start)
            self.log(facts)
        if saved < done:
            self.save(done)
        return done

    def forget(self, done: int) -> None:
        """Takes epochs from `done` on out of epochs.jsonl: their state was lost, and they come again."""
        path = self.into / "epochs.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) > done:
            path.write_text("".join(f"{line}\n" for line in lines[:done]))

    def log(self, facts: dict[str, Any]) -> None:
        """Adds a line to epochs.jsonl, and shows it."""
        with (self.into / "epochs.jsonl").open("a") as file:
            file.write(json.dumps(facts) + "\n")
        short = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
        print(json.dumps(short), flush=True)

    def losses(self, steps: int) -> list[float]:
        """Returns the mean loss so far after each of the first steps of the epoch."""
        self.begin(self.position["epoch"])
        found = []
        for _, arguments in zip(range(steps), self.batches(self.position["epoch"]), strict=False):
            found.append(float(self.step(*arguments)["loss"]))
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0 all epochs done, 75 the time was up before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--records", default="", help="pattern of the TFRecord files, the same as for the export"
    )
    parser.add_argument("--epochs", type=int, default=0, help="stop after this many; 0: all of the run")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop, saved, before this time is up"
    )
    parser.add_argument("--keep_last", type=int, default=5, help="networks of the last epochs to keep")
    parser.add_argument("--save_every", type=int, default=1, help="epochs from one saved state to the next")
    parser.add_argument("--steps", type=int, default=0, help="make this many steps and print the losses")
    parser.add_argument("--small", action="store_true", help="round the kept networks to bfloat16")
    parser.add_argument("--compiled", type=Path, help="keep the compiled program here for the next start")
    given = parser.parse_args(argv)
    try:
        run = Run(given.folder, sorted(glob.glob(given.records)), given.compiled, given.small)
    except (OSError, ValueError, KeyError) as error:
        print(f"run_step: {given.folder}: {error}", file=sys.stderr)
        return 3
    if given.steps:
        print(json.dumps(run.losses(given.steps)))
        return 0
    until = given.epochs or run.facts["epochs"]
    return 0 if run.train(until, given.seconds, given.keep_last, given.save_every) >= until else 75


if __name__ == "__main__":
    sys.exit(main())
