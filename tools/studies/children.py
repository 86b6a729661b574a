"""Training runs as child processes that are stopped as gently as the study itself.

code = children.run(["python", "-m", "fairat_tf.train", ...], folder)
"""

import fcntl
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_POLL = 5.0  # seconds


def run(command: Sequence[str], folder: Path) -> int:
    """Runs the command in `folder` to its end and returns its exit code.

    Ctrl-C and SIGTERM go on to the child, once: it saves and ends with its own code. Nothing here ends before
    it. In a process group of its own the child does not get the terminal's Ctrl-C a second time.
    """
    process = subprocess.Popen(command, cwd=folder, process_group=0)

    def pass_on(number: int, _: Any) -> None:
        if process.poll() is None:
            process.send_signal(number)

    kept = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def wait_for_lock(run_directory: Path) -> bool:
    """Waits while another process uses the run directory; returns whether there was one."""
    waited = False
    while _held(run_directory / "lock"):
        if not waited:
            print(f"study: {run_directory} is being trained by another process; waiting", flush=True)
        waited = True
        time.sleep(_POLL)
    return waited


def _held(path: Path) -> bool:
    try:
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
