"""Runs the step that `export.py` wrote, with JAX, NumPy and Pillow alone. Experimental.

    python tools/steps/run.py runs/step --records='DIR/cifar10-train*' --seconds=500

Epochs go on from the newest whole state in FOLDER/run, or from FOLDER/start; the state of another export is
refused (exit code 3). After each epoch the state is saved, in parts of 16 MB, and a line is added to
FOLDER/run/epochs.jsonl; `last/epoch-0030` and so on are the networks to evaluate, for `./tools/run_step
collect`. With --seconds it stops, saved, before an epoch that would end later; with --steps it makes that
many steps, prints the loss after each, and saves nothing.
"""

import argparse
import glob
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_ENABLE_X64"] = "1"  # counters are 64 bits wide
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import jax  # noqa: E402
import jax.extend  # noqa: E402
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

    def __init__(self, folder: Path, facts: dict[str, Any], arrays: dict[str, np.ndarray]):
        from jax._src import compiler
        from jaxlib import _jax

        backend = jax.extend.backend.get_backend()
        module = _jax.mlir.hlo_to_stablehlo((folder / "step.hlo").read_bytes())
        options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
        devices = _jax.DeviceList(tuple(backend.local_devices()[:1]))
        self.program = backend.compile_and_load(module, devices, options)
        self.facts, self.given = facts, len(facts["arguments"])
        self.updated = dict(map(tuple, facts["alias"]))
        self.state = [jax.device_put(arrays[name]) for name in facts["captured"]]
        self.others = {name: a for name, a in arrays.items() if name not in set(facts["captured"])}

    def __call__(self, *arguments: np.ndarray) -> dict[str, Any]:
        """Makes one step; returns its metrics, on the device."""
        given = [jax.device_put(np.asarray(argument)) for argument in arguments]
        done = self.program.execute_sharded(given + self.state)
        outputs = [o[0] for o in done.disassemble_into_single_device_arrays()]
        for output, parameter in self.updated.items():
            self.state[parameter - self.given] = outputs[output]
        results = [value for place, value in enumerate(outputs) if place not in self.updated]
        return dict(zip(self.facts["results"], results, strict=False))

    def set(self, name: str, value: np.ndarray) -> None:
        """Changes a variable, if the program uses it."""
        if name in self.facts["captured"]:
            self.state[self.facts["captured"].index(name)] = jax.device_put(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all variables: place -> values."""
        pairs = zip(self.facts["captured"], self.state, strict=True)
        return {**self.others, **{name: np.asarray(value) for name, value in pairs}}


class Run:
    """Trains epochs; `folder` as `export.py` wrote it."""

    def __init__(self, folder: Path, files: Sequence[str]):
        self.folder, self.into = folder, folder / "run"
        self.facts = json.loads((folder / "program.json").read_text())
        self.batch_size = self.facts["arguments"][0][1][0]
        with np.load(folder / "data.npz") as data:
            self.labels = data["labels"].astype(np.int32)
            if "images" in data:
                self.images = data["images"]
            else:
                stored, classes = records.images_and_labels(files)
                self.images = stored[data["rows"]]
                if not np.array_equal(classes[data["rows"]], self.labels):
                    raise ValueError("the TFRecord files are not those of the export")
        self.start = shards.newest(self.into, "state-") or folder / "start"
        arrays, self.position = shards.read(self.start)
        self.first, begun = shards.read(folder / "start")
        self.program = begun.get("program")
        if self.position.get("program") != self.program:
            raise ValueError(f"{self.start} is of another export: remove {self.into}, or export elsewhere")
        self.step = Step(folder, self.facts, arrays)
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
                jax.block_until_ready(list(results.values()))
                first = time.monotonic() - began
        facts = {name: float(value) for name, value in results.items()}  # waits for the device
        seconds = time.monotonic() - began
        rate = (self.facts["steps"] - 1) / max(seconds - first, 1e-9)
        return {"epoch": number, "seconds": seconds, "first_step": first, "steps_per_second": rate, **facts}

    def save(self, done: int, keep_last: int) -> None:
        """Saves the state after `done` epochs, and the evaluated network of each of the last ones."""
        arrays = self.step.arrays()
        self.into.mkdir(parents=True, exist_ok=True)
        if done > self.facts["epochs"] - keep_last:
            network = {name: arrays[name] for name in self.facts["evaluated"]}
            shards.write(self.into / "last" / f"epoch-{done:04d}", network, {"epoch": done})
        target = self.into / f"state-{done:04d}"
        shards.write(target, arrays, {"epoch": done, "step": 0, "program": self.program})
        for old in sorted(self.into.glob("state-*"))[:-_STATES]:
            shutil.rmtree(old)

    def train(self, until: int, seconds: float, keep_last: int) -> int:
        """Trains to the end of epoch `until` or until the time is up; returns how many epochs are done."""
        began, longest, done = time.monotonic(), 0.0, self.position["epoch"]
        while done < until and time.monotonic() - began + 1.2 * longest < seconds:
            facts = self.epoch(done)
            done += 1
            self.save(done, keep_last)
            longest = max(longest, facts["seconds"])
            with (self.into / "epochs.jsonl").open("a") as log:
                log.write(json.dumps(facts) + "\n")
            print(
                json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}),
                flush=True,
            )
        return done

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
    parser.add_argument("--steps", type=int, default=0, help="make this many steps and print the losses")
    given = parser.parse_args(argv)
    try:
        run = Run(given.folder, sorted(glob.glob(given.records)))
    except (OSError, ValueError, KeyError) as error:
        print(f"run_step: {given.folder}: {error}", file=sys.stderr)
        return 3
    if given.steps:
        print(json.dumps(run.losses(given.steps)))
        return 0
    until = given.epochs or run.facts["epochs"]
    return 0 if run.train(until, given.seconds, given.keep_last) >= until else 75


if __name__ == "__main__":
    sys.exit(main())
