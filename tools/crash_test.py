"""Kills a training run with SIGKILL at random moments and compares its end with that of an undisturbed run.

    ./tools/crash_test --kills=50

One run directory is trained by the same command again and again, each process killed at a moment of one of
three kinds, in turn: any time from its start on; any time once it trains; while a checkpoint is being
written. A checkpoint follows every step. A process that ends before its kill finishes its run; the next run
begins, until there were as many kills as asked for, and the last run is let finish.

Compared bit for bit: every variable of the last checkpoint (weights, optimiser, moving average, what the
method remembers, metric sums of each replica), its position and best score, the weights of the best network,
metrics.jsonl and classwise.csv.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
KINDS = ("any time", "while training", "while writing a checkpoint")
LOGS = ("metrics.jsonl", "classwise.csv")
SMALL = (
    "--method=fairat", "--hard_score=memory", "--augmentation=crop", "--ema_decay=0.9", "--network=small_cnn",
    "--width=4", "--batch_size=16", "--attack_steps=2", "--validation_steps=1", "--epochs=3",
    "--weak_augmentation=crop", "--checkpoint_minutes=0", "--evaluate=", "--notensorboard",
)  # fmt: skip
_LONGEST = 900.0  # seconds after which a process that does not end is a failure of its own


@dataclasses.dataclass
class Kill:
    """One kill: whose, its kind, the step of the newest checkpoint, and whether a write was cut off by it."""

    run: str
    kind: str
    seconds: float
    step: int
    cut: bool


def make_data(path: pathlib.Path) -> None:
    """Writes 384 images of three classes, and test images, as for --dataset=npz:PATH."""
    labels = np.arange(384) % 3
    images = np.random.default_rng(0).integers(0, 200, (384, 8, 8, 3)).astype(np.uint8)
    images[:, :4, :4] += (25 * labels)[:, None, None, None].astype(np.uint8)
    test = {"test_images": images[:12], "test_labels": labels[:12]}
    np.savez(path, train_images=images, train_labels=labels, **test)


class Trial:
    """The command under test, and its run directories below a folder."""

    def __init__(self, folder: pathlib.Path, devices: int, seed: int):
        make_data(folder / "data.npz")
        self.folder, self.random = folder, random.Random(seed)
        self.until_trained = (
            10.0  # seconds from the start of a process to its first checkpoint, the last time
        )
        several = (f"--devices={devices}", f"--cpu_devices={devices}") if devices > 1 else ()
        words = (f"--dataset=npz:{folder / 'data.npz'}", *SMALL, *several)
        self.command = [sys.executable, "-m", "fairat_tf.train", *words]

    def start(self, run: pathlib.Path) -> subprocess.Popen:
        """Starts a process that trains, or goes on, in `run`."""
        run.parent.mkdir(parents=True, exist_ok=True)
        with open(run.with_suffix(".log"), "a") as log:
            return subprocess.Popen([*self.command, f"--run_dir={run}"], cwd=ROOT, stdout=log, stderr=log)

    def finish(self, process: subprocess.Popen, run: pathlib.Path) -> float:
        """Waits for a process that is not to be killed; returns the seconds it took."""
        began = time.monotonic()
        code = process.wait(_LONGEST)
        if code:
            log = run.with_suffix(".log").read_text()
            raise SystemExit(f"{run} ended with exit code {code}:\n{log[-2000:]}")
        return time.monotonic() - began

    def kill(self, process: subprocess.Popen, run: pathlib.Path, kind: str) -> Kill | None:
        """Kills the process at a moment of the kind; None where it ended before.

        Args:
          process: just started.
          run: its run directory.
          kind: one of KINDS.
        """
        began, writing = time.monotonic(), run / "checkpoints" / ".writing"
        before, left_over = newest(run), stamp(writing)
        if kind == KINDS[0]:
            moment = self.random.uniform(0.0, 1.5 * self.until_trained)
            ready = lambda: time.monotonic() - began > moment  # noqa: E731
        else:
            later = before + self.random.randint(0, 4)
            seen = lambda: newest(run) > later  # noqa: E731
            ready = seen if kind == KINDS[1] else lambda: seen() and writing.exists()
        trained = False
        while not ready():
            if not trained and newest(run) > before:
                trained, self.until_trained = True, time.monotonic() - began
            if process.poll() is not None:
                self.finish(process, run)
                return None
            if time.monotonic() - began > _LONGEST:
                raise SystemExit(f"{run}: nothing happened for {_LONGEST:.0f} s")
            time.sleep(0.0002 if kind == KINDS[2] else 0.002)
        time.sleep(self.random.uniform(0.0, 0.002))
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            return None
        return Kill(
            run.name, kind, time.monotonic() - began, newest(run), stamp(writing) not in (0, left_over)
        )


def stamp(path: pathlib.Path) -> int:
    """Returns when a folder was last changed, in ns; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def newest(run: pathlib.Path) -> int:
    """Returns the optimiser step of the newest checkpoint; -1 where there is none."""
    names = [folder.name for folder in (run / "checkpoints").glob("step-*")]
    return max((int(name.split("-")[1]) for name in names), default=-1)


def ending(run: pathlib.Path) -> dict[str, bytes]:
    """Returns all that a finished run has to have in common with an undisturbed one, name -> bytes."""
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    with np.load(last / "variables.npz") as saved:
        parts = {f"variable {name}": saved[name].tobytes() for name in saved.files}
    with zipfile.ZipFile(run / "best/model.keras") as archive:
        parts["best network"] = archive.read("model.weights.h5")
    parts["position and best score"] = json.dumps(json.loads((last / "state.json").read_text())).encode()
    return parts | {name: (run / name).read_bytes() for name in LOGS}


def differences(run: pathlib.Path, undisturbed: dict[str, bytes]) -> list[str]:
    """Returns the names of what differs."""
    mine = ending(run)
    return [name for name in {**mine, **undisturbed} if mine.get(name) != undisturbed.get(name)]


def crash(trial: Trial, kills: int) -> tuple[list[Kill], dict[str, list[str]]]:
    """Returns the kills, and for each run that was killed and finished what differs in its end."""
    whole = trial.folder / "undisturbed"
    usual = trial.finish(trial.start(whole), whole)
    expected, done, found, number = ending(whole), [], {}, 0
    say(f"undisturbed: {usual:.1f} s, {newest(whole)} steps")
    while len(done) < kills or f"run{number}" not in found:
        run = trial.folder / f"run{number}"
        process = trial.start(run)
        kind = KINDS[len(done) % len(KINDS)]
        kill = trial.kill(process, run, kind) if len(done) < kills else None
        if kill:
            done.append(kill)
            say(f"kill {len(done)}: {kill.kind}, after {kill.seconds:.1f} s, newest checkpoint {kill.step}")
            continue
        trial.finish(process, run)
        found[run.name] = differences(run, expected)
        say(f"{run.name}: {', '.join(found[run.name]) or 'the same bits'}")
        number += len(done) < kills
    return done, found


def say(text: str) -> None:
    """Prints progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def table(kills: list[Kill], found: dict[str, list[str]]) -> str:
    """Returns the result as a Markdown table."""
    lines = [
        "| moment of the kill | kills | while a checkpoint was half written | before the first checkpoint |"
    ]
    lines.append("| --- | --- | --- | --- |")
    for kind in KINDS:
        own = [kill for kill in kills if kill.kind == kind]
        early = sum(kill.step < 0 for kill in own)
        lines.append(f"| {kind} | {len(own)} | {sum(kill.cut for kill in own)} | {early} |")
    wrong = {name: parts for name, parts in found.items() if parts}
    lines.append("")
    killed = len({kill.run for kill in kills})
    lines.append(f"Runs that were killed and went on to their end: {killed}. Ended otherwise than the")
    lines.append(
        f"undisturbed run: {len(wrong)}." + "".join(f" {k}: {', '.join(v)}." for k, v in wrong.items())
    )
    return "\n".join(lines)


def main() -> int:
    """Runs the test as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--devices", type=int, default=1, help="logical CPU devices to train on")
    parser.add_argument("--folder", default="", help="keep the runs here; default: a temporary folder")
    wanted = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory(prefix="crash_test_") as temporary:
        folder = pathlib.Path(wanted.folder or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        kills, found = crash(Trial(folder, wanted.devices, wanted.seed), wanted.kills)
        print(table(kills, found))
        print(f"\n{len(kills)} kills in {time.monotonic() - began:.0f} s, seed {wanted.seed}, ", end="")
        print(f"{wanted.devices} device{'s' if wanted.devices > 1 else ''}.")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
