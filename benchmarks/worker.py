"""A process that makes cases of one side and runs them when told to: JSON lines in, JSON lines out.

    python -m benchmarks.worker tensorflow

{"make": {case}} -> {"made": number, "seconds": first run, tracing included}
{"run": number}  -> {"wall": s, "cpu": s}, processor time of all threads
{"memory": 0}    -> {"peak": bytes}, the largest resident size of the process so far
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case


def _clocked(function: Callable[[], Any]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def main(side: str) -> None:
    """Serves until the input ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    make = importlib.import_module(f"benchmarks.{side}_side").make
    made: list[Callable[[], Any]] = []
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            command = json.loads(line)
            if "make" in command:
                begun = time.perf_counter()
                function = make(Case(**command["make"]))
                function()
                made.append(function)
                answer = {"made": len(made) - 1, "seconds": time.perf_counter() - begun}
            elif "run" in command:
                answer = _clocked(made[command["run"]])
            else:
                answer = {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        except Exception as error:  # a case that a library cannot run is a line of the table
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
