"""Cases in turns, round by round; medians, spread and ratios within a round.

with Workers({"tensorflow": sys.executable, "torch": torch_python}) as workers:
    timings = measure(workers, cases, rounds=7)
ratio, low, high = timings["ours"].against(timings["peer"])
"""

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case

ROOT = Path(__file__).resolve().parent.parent


class Workers:
    """The worker processes, by side; each is started when it is first needed."""

    def __init__(self, pythons: dict[str, str]):
        self.pythons = pythons
        self._running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends all workers; the next `ask` starts new ones."""
        for process in self._running.values():
            process.stdin.close()
            process.wait()
        self._running = {}

    def ask(self, side: str, **command: Any) -> dict[str, Any]:
        """Returns the worker's answer."""
        if side not in self._running:
            self._running[side] = subprocess.Popen(
                [self.pythons[side], "-m", "benchmarks.worker", side],
                cwd=ROOT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "OMP_WAIT_POLICY": "PASSIVE"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        process = self._running[side]
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        return json.loads(line) if line else {"error": f"the {side} worker ended"}


@dataclasses.dataclass(eq=False)
class Timing:
    """What was measured of a case: seconds of each round, or why there are none."""

    case: Case
    first: float = 0.0
    wall: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)
    error: str = ""

    def seconds(self, clock: str = "wall") -> tuple[float, float, float]:
        """Returns median and quartiles."""
        return spread(getattr(self, clock))

    def against(self, other: "Timing", clock: str = "wall") -> tuple[float, float, float]:
        """Returns median and quartiles of this case's seconds divided by the other's in the same round."""
        return spread(np.divide(getattr(self, clock), getattr(other, clock)))


def spread(values: Any) -> tuple[float, float, float]:
    """Returns (median, lower quartile, upper quartile)."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def measure(workers: Workers, cases: list[Case], rounds: int, warm_up: int = 1) -> dict[str, Timing]:
    """Returns the timing of each case, by name; every round runs every case once."""
    numbers, timings = {}, {case.name: Timing(case) for case in cases}
    for case in cases:
        answer = workers.ask(case.side, make=dataclasses.asdict(case))
        timings[case.name].error = answer.get("error", "")
        if "made" in answer:
            numbers[case.name], timings[case.name].first = answer["made"], answer["seconds"]
    for turn in range(warm_up + rounds):
        for case in cases:
            if case.name not in numbers or timings[case.name].error:
                continue
            answer = workers.ask(case.side, run=numbers[case.name])
            timings[case.name].error = answer.get("error", "")
            if turn >= warm_up and "wall" in answer:
                timings[case.name].wall.append(answer["wall"])
                timings[case.name].cpu.append(answer["cpu"])
    return timings


def peak_memory(workers: Workers, case: Case) -> tuple[str, str]:
    """Returns the largest resident size in MiB of a process that runs the case twice, and before it does.

    In place of the first stands the error, if there was one.
    """
    workers.stop()
    before = workers.ask(case.side, memory=0)
    answer = workers.ask(case.side, make=dataclasses.asdict(case))
    if "made" in answer:
        answer = workers.ask(case.side, run=answer["made"])
    if "error" not in answer:
        answer = workers.ask(case.side, memory=0)
    workers.stop()
    whole = f"{answer['peak'] / 2**20:.0f}" if "peak" in answer else answer["error"]
    return whole, f"{before['peak'] / 2**20:.0f}"
