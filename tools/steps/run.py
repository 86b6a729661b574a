"""Runs the step that `export.py` wrote, with JAX, NumPy and Pillow alone. Experimental.

    python tools/steps/run.py runs/step --records='DIR/cifar10-train*' --seconds=500

Epochs go on from the newest whole state in FOLDER/run, or from FOLDER/start; the state of another export is
refused (exit code 3). After each epoch comes validation, and what follows from it (`between.py`). Then (or
every --save_every epochs) the state is saved, in parts of 16 MB, and a line is added to
FOLDER/run/epochs.jsonl; `last/epoch-0030` and so on are the networks to evaluate, for `./tools/run_step
evaluate` and `collect`. With --seconds it stops, saved, before an epoch that would end later; with --steps it
makes that many steps, prints the loss after each, and saves nothing. An epoch whose loss or network is not
finite is not saved, and the run ends with exit code 6, as training with Keras does.
"""

import argparse
import contextlib
import fcntl
import functools
import glob
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import between
import loaded
import numpy as np
import package
import records
import shards

errors = package.module("errors.py")

_STATES = 2  # that are kept: the newest, and the one before in case it gets damaged


class State:
    """The variables of a run, by place, on the device where a program uses them."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self._arrays: dict[str, Any] = dict(arrays)

    def __getitem__(self, place: str) -> Any:
        """Returns the values, on the device."""
        self._arrays[place] = loaded.on_device(self._arrays[place])
        return self._arrays[place]

    def update(self, changed: dict[str, Any]) -> None:
        """Changes variables."""
        self._arrays |= changed

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all variables: place -> values."""
        return {place: np.asarray(values) for place, values in self._arrays.items()}


class Step:
    """A compiled step of training or validation, which changes the state.

    Args:
      path: the program.
      facts: what `programs.write` says of it.
      state: the run's.
      compiled: as for `loaded.Program`.
    """

    def __init__(self, path: Path, facts: dict[str, Any], state: State, compiled: Path | None = None):
        self.program, self.facts, self.state = loaded.Program(path, compiled), facts, state
        given, captured = len(facts["arguments"]), facts["captured"]
        self.updated = {output: captured[parameter - given] for output, parameter in facts["alias"]}

    def __call__(self, *arguments: np.ndarray) -> dict[str, Any]:
        """Makes one step; returns its metrics, on the device."""
        outputs = self.program([*arguments, *(self.state[place] for place in self.facts["captured"])])
        self.state.update({place: outputs[output] for output, place in self.updated.items()})
        results = [value for place, value in enumerate(outputs) if place not in self.updated]
        return dict(zip(self.facts["results"], results, strict=False))


class Run:
    """Trains epochs; `folder` as `export.py` wrote it."""

    def __init__(self, folder: Path, files: Sequence[str], compiled: Path | None = None, small: bool = False):
        self.folder, self.into, self.small = folder, folder / "run", small
        self.files, self.compiled = files, compiled
        self.facts = json.loads((folder / "program.json").read_text())
        self.batch_size = self.facts["arguments"][0][1][0]
        self.images, self.labels = records.examples(folder / "data.npz", files)
        self.start = self.newest()
        arrays, self.position = shards.read(self.start)
        self.saved = self.position["epoch"]  # epochs in the last whole state
        self.first, begun = shards.read(folder / "start")
        self.program = begun.get("program")
        if self.position.get("program") != self.program:
            raise ValueError(f"{self.start} is of another export: remove {self.into}, or export elsewhere")
        self.state = State(arrays)
        self.step = Step(folder / "step.hlo", self.facts, self.state, compiled)
        self.order_of = package.module("data/order.py").epoch_order

    @functools.cached_property
    def validation(self) -> "Validation":
        """What validates after an epoch; compiled when it is first asked for."""
        return Validation(self)

    def batches(self, epoch: int) -> Any:
        """Yields the arguments of the steps of an epoch."""
        order = self.order_of(len(self.labels), self.facts["config"]["run"]["seed"], epoch)
        for step in range(self.facts["steps"]):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            number = np.int32(epoch * self.facts["steps"] + step)
            yield self.images[rows], self.labels[rows], rows, number

    def begin(self, epoch: int) -> None:
        """Sets what Keras sets before an epoch."""
        place = self.facts["epoch"]
        self.state.update({place: np.asarray(epoch, self.first[place].dtype)})
        self.state.update({name: self.first[name] for name in self.facts["sums"]})

    def epoch(self, number: int) -> dict[str, Any]:
        """Trains one epoch, validates, and does what comes between two epochs; returns metrics and times.

        Raises:
          errors.Diverged: loss or network are not finite.
        """
        facts = self.train_epoch(number)
        self.raise_if_diverged(facts)
        facts |= self.validation()
        self.state.update(between.after_epoch(self.facts["between"], self.state))
        return facts

    def train_epoch(self, number: int) -> dict[str, Any]:
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

    def raise_if_diverged(self, facts: dict[str, Any]) -> None:
        """Looks at the epoch that was just trained, of which nothing is saved yet.

        Raises:
          errors.Diverged: its loss, or the network that is evaluated, is not finite.
        """
        network = (np.asarray(self.state[place]) for place in self.facts["evaluated"])
        if np.isfinite(facts["loss"]) and all(np.isfinite(values).all() for values in network):
            return
        kept = f"the state after epoch {self.saved}" if self.saved else "the start"
        raise errors.Diverged(
            f"training diverged in epoch {facts['epoch'] + 1}: the training loss became {facts['loss']}; "
            f"{kept} is kept; export with a lower --learning_rate to another folder"
        )

    def save_network(self, done: int) -> None:
        """Saves the evaluated network after `done` epochs."""
        arrays = self.state.arrays()
        network = {name: arrays[name] for name in self.facts["evaluated"]}
        shards.write(self.into / "last" / f"epoch-{done:04d}", network, {"epoch": done}, small=self.small)

    def save(self, done: int) -> None:
        """Saves the state after `done` epochs."""
        facts = {"epoch": done, "step": 0, "program": self.program}
        shards.write(self.into / f"state-{done:04d}", self.state.arrays(), facts)
        self.saved = done
        for old in sorted(self.into.glob("state-*"))[:-_STATES]:
            shutil.rmtree(old)

    def train(self, until: int, seconds: float, keep_last: int, save_every: int = 1) -> int:
        """Trains to the end of epoch `until` or until the time is up; returns how many epochs are done.

        Raises:
          errors.Diverged: an epoch's loss or network is not finite; nothing of it is saved.
          errors.StorageError: another process trains in this folder.
        """
        with self.locked():
            return self._train(until, seconds, keep_last, save_every)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this folder."""
        self.into.mkdir(parents=True, exist_ok=True)
        with (self.into / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise errors.StorageError(f"{self.into} is in use by another process; wait for it") from None
            if self.newest() != self.start:
                raise errors.StorageError(f"{self.into} has changed since this was started; start it again")
            yield

    def newest(self) -> Path:
        """Returns the newest whole state."""
        return shards.newest(self.into, "state-") or self.folder / "start"

    def _train(self, until: int, seconds: float, keep_last: int, save_every: int) -> int:
        began, longest, done = time.monotonic(), 0.0, self.position["epoch"]
        self.forget(done)
        while done < until and time.monotonic() - began + 1.2 * longest < seconds:
            start = time.monotonic()
            facts = self.epoch(done)
            done += 1
            self.log(facts)  # before the state: `forget` takes back what was logged and not saved
            if done > self.facts["epochs"] - keep_last:
                self.save_network(done)
            if done % save_every == 0:
                self.save(done)
            longest = max(longest, time.monotonic() - start)
        if self.saved < done:
            self.save(done)
        return done

    def forget(self, done: int) -> None:
        """Takes epochs from `done` on out of epochs.jsonl: their state was lost, and they come again."""
        path = self.into / "epochs.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if len(lines) > done:
            path.write_text("".join(lines[:done]))

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


class Validation:
    """Validates the network of a run after an epoch, as training with Keras does."""

    def __init__(self, run: Run):
        self.facts, self.first, self.state = run.facts["validation"], run.first, run.state
        self.images, self.labels = records.examples(run.folder / "validation.npz", run.files)
        self.size = run.batch_size
        self.step = Step(run.folder / "validate.hlo", self.facts, run.state, run.compiled)

    def batches(self) -> Any:
        """Yields the arguments of the steps, the last batch padded with row 0 and masked."""
        for number, start in enumerate(range(0, len(self.labels), self.size)):
            rows = np.arange(start, start + self.size)
            mask = rows < len(self.labels)
            rows = np.where(mask, rows, 0)
            yield self.images[rows], self.labels[rows], mask.astype(np.float32), np.int32(number)

    def __call__(self) -> dict[str, float]:
        """Returns the metrics of validation, and its seconds."""
        began, results = time.monotonic(), {}
        self.state.update({name: self.first[name] for name in self.facts["sums"]})
        for arguments in self.batches():
            results = self.step(*arguments)
        found = {f"val_{name}": float(value) for name, value in results.items()}
        return found | {"val_seconds": time.monotonic() - began}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0 all done, 75 the time was up, or an error's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--records", default="", help="pattern of the TFRecord files, the same as for the export"
    )
    parser.add_argument("--epochs", type=int, default=0, help="stop after this many; 0: all of the run")
    parser.add_argument(
        "--seconds",
        type=float,
        default=float("inf"),
        help="stop, saved, before this time is up, compiling included",
    )
    parser.add_argument("--keep_last", type=int, default=5, help="networks of the last epochs to keep")
    parser.add_argument("--save_every", type=int, default=1, help="epochs from one saved state to the next")
    parser.add_argument("--steps", type=int, default=0, help="make this many steps and print the losses")
    parser.add_argument("--small", action="store_true", help="round the kept networks to bfloat16")
    parser.add_argument("--compiled", type=Path, help="keep the compiled program here for the next start")
    given, began = parser.parse_args(argv), time.monotonic()
    try:
        run = Run(given.folder, sorted(glob.glob(given.records)), given.compiled, given.small)
        _ = given.steps or run.validation
    except (OSError, ValueError, KeyError) as error:
        return _failed(f"{given.folder}: {error}", errors.DataError.exit_code)
    if given.steps:
        print(json.dumps(run.losses(given.steps)))
        return 0
    until, left = given.epochs or run.facts["epochs"], given.seconds - (time.monotonic() - began)
    try:
        return 0 if run.train(until, left, given.keep_last, given.save_every) >= until else 75
    except errors.CommandError as error:
        return _failed(str(error), error.exit_code)
    except OSError as error:
        return _failed(f"{run.into} cannot be written: {error}", errors.StorageError.exit_code)


def _failed(told: str, code: int) -> int:
    print(f"run_step: {told}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
