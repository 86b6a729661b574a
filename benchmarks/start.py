"""What is timed without a worker: the start of a program, and the input pipeline."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import tables
from benchmarks.timing import ROOT, spread


def cores() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Returns the processor's name and what it has for matrix products, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "unknown processor"
    name = re.search(r"model name\s*:\s*(.*)", text)
    extras = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in text]
    return f"{name[1] if name else 'unknown'} ({', '.join(extras)})"


_FIRST_STEPS = """
import time, json
begun = time.perf_counter()
import fairat_tf.train_lib
imported = time.perf_counter()
from benchmarks.cases import Case
from benchmarks.tensorflow_side import make
ready = time.perf_counter()
step = make(Case("", method={method!r}, network={network!r}, width={width}, batch={batch}, steps={steps}))
step(); first = time.perf_counter(); step(); second = time.perf_counter()
print(json.dumps([imported - begun, first - ready, second - first]))
"""


def start(wanted: argparse.Namespace) -> None:
    """Prints the seconds that --help, the import, the first and the second step take, in new processes."""
    names = wanted.names or ["pgd_at", "fairat", "fairat+hard_score=memory", "fairat+hard_score=start"]
    helped = [_seconds("-m", "fairat_tf.train", "--help") for _ in range(wanted.rounds)]
    rows = [["--help", tables.with_spread(spread(helped)), "", ""]]
    for name in names:
        code = _FIRST_STEPS.format(
            method=name, network=wanted.network, width=wanted.width, batch=wanted.batch, steps=wanted.steps
        )
        found = [json.loads(_python("-c", code).splitlines()[-1]) for _ in range(max(1, wanted.rounds // 3))]
        rows.append([name, *[tables.with_spread(spread(column)) for column in zip(*found, strict=True)]])
    print(tables.table(["", "--help or import, s", "build and first step, s", "second step, s"], rows))


def _seconds(*arguments: str) -> float:
    begun = time.perf_counter()
    _python(*arguments)
    return time.perf_counter() - begun


def _python(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def input(wanted: argparse.Namespace) -> None:
    """Prints images a second that `data.pipeline` delivers with each weak augmentation."""
    import numpy as np

    from fairat_tf import augment
    from fairat_tf.data import pipeline
    from fairat_tf.data.dataset import Split

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (20_000, 32, 32, 3), np.uint8)
    split = Split(images, np.arange(len(images), dtype=np.int32) % 10)
    rows = []
    for name in wanted.names or ["crop_flip", "none"]:
        rates = []
        for epoch in range(wanted.rounds):
            batches = pipeline.training_batches(
                split, batch_size=wanted.batch, seed=0, epoch=epoch, augment=augment.get(name)
            )
            iterator = iter(batches)
            next(iterator)
            begun, count = time.perf_counter(), 0
            for batch in iterator:
                count += batch["image"].shape[0]
            rates.append(count / (time.perf_counter() - begun))
        rows.append([name, tables.with_spread(spread(rates), 0)])
    print(tables.table(["weak augmentation", "images a second"], rows))
