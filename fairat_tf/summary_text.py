"""What a run tells a person before it starts and after it ends; plain text, 80 columns.

print(recipe(config, parts)); print(estimate(parts))
"""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from importlib import metadata
from typing import Any

import numpy as np
import tensorflow as tf

import fairat_tf
from fairat_tf.assembly import Parts
from fairat_tf.attacks.pgd import loss_and_gradient
from fairat_tf.config import Config
from fairat_tf.objectives import losses
from fairat_tf.units import pixels

_SAMPLE = 32  # examples with which the time is estimated first
_QUICK = 0.5  # seconds; where the first estimate of a whole batch is below, it is measured
_FEW = 20  # validation images of a class below which a person is told: accuracy moves in steps of 5 %


def recipe(config: Config, parts: Parts) -> str:
    """Returns the configuration in words, a line for each part."""
    data, network, attack, how = config.data, config.network, config.attack, config.optimization
    parameters = sum(int(np.prod(v.shape)) for v in parts.method.network.trainable_variables)
    own = " (the data set's own)" if parts.dataset.validation is not None else ""
    changed = ", ".join(f"{k}={v}" for k, v in config.options.items())
    lines = [
        f"{config.method} on {data.dataset}, seed {config.run.seed}",
        f"  data       {len(parts.train)} train, {len(parts.validation_split)} validation{own}, "
        f"{len(parts.dataset.test)} test; {parts.dataset.num_classes} classes; batch {data.batch_size}; "
        f"augmentation {data.weak_augmentation}" + _mixing(data),
        f"  network    {network.network}, {parameters:,} parameters, {config.run.precision}",
        f"  attack     PGD-{attack.steps}, {attack.norm}, epsilon {pixels(attack.epsilon)}, "
        f"step {pixels(attack.step_size)}; images, loss and steps in float32",
        f"  schedule   {how.epochs} epochs, SGD {how.learning_rate:g} ({how.schedule}), "
        f"momentum {how.momentum:g}, weight decay {how.weight_decay:g}, EMA {how.ema_decay:g}",
    ]
    if changed:
        lines.append(f"  {config.method:<10} {changed}")
    lines += _few_to_choose_by(parts)
    return "\n".join(_wrapped(line) for line in lines)


def _few_to_choose_by(parts: Parts) -> list[str]:
    counts = parts.validation_split.counts(parts.dataset.num_classes)
    if counts.min() >= _FEW:
        return []
    name = parts.dataset.class_names[counts.argmin()]
    remedy = "" if parts.dataset.validation is not None else "; a larger --validation_fraction helps"
    return [
        f"  note       only {counts.min()} validation images of class {name}: which epoch is the best is "
        f"partly chance{remedy}"
    ]


def _mixing(data: Any) -> str:
    return f", {data.mix} with chance {data.mix_probability:g}" if data.mix else ""


def _wrapped(line: str, width: int = 79) -> str:
    indent = " " * 13 if line.startswith("  ") else ""
    return textwrap.fill(line, width, subsequent_indent=indent, drop_whitespace=True, break_long_words=False)


def estimate(parts: Parts) -> str:
    """Returns a sentence with the time that training will take, from timed gradient passes."""
    config, method = parts.config, parts.method
    whole, size = config.data.batch_size, min(_SAMPLE, config.data.batch_size)

    @tf.function(autograph=False, reduce_retracing=True)
    def gradient_pass(images: tf.Tensor) -> tf.Tensor:
        labels = tf.zeros(tf.shape(images)[:1], tf.int32)
        return loss_and_gradient(method.inference, losses.cross_entropy, images, labels)[1]

    def seconds(examples: int) -> float:
        images = tf.zeros([examples, *parts.dataset.image_shape])
        gradient_pass(images)
        began = time.perf_counter()
        gradient_pass(images).numpy()
        return time.perf_counter() - began

    one, share = seconds(size) * whole / size, max(1, whole // parts.strategy.num_replicas_in_sync)
    if one < _QUICK:  # of a device's part, which has to fit into its memory
        one = min(seconds(share) for _ in range(3)) * whole / share
    validation = len(parts.validation_split) / config.data.batch_size * (config.attack.validation_steps + 2)
    epoch = one * (parts.steps * method.passes + validation) / _speedup(parts)
    in_all = epoch * config.optimization.epochs
    return f"  time       about {_duration(epoch)} an epoch, {_duration(in_all)} in all"


def _speedup(parts: Parts) -> int:
    """Returns how many devices compute beside each other: logical CPU devices share the cores."""
    return 1 if parts.config.run.cpu_devices else parts.strategy.num_replicas_in_sync


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def environment(before: str = "") -> str:
    """Returns JSON with versions, devices and the state of the source tree, as they are now.

    `before` is what it returned when training began: that stays, and what differs now is added to its list
    "continued".
    """
    packages = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "tensorflow-datasets")
    facts: dict[str, Any] = {
        "fairat_tf": fairat_tf.__version__,
        "source": _revision(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages if _version(name)},
        "platform": platform.platform(),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "command": sys.argv[1:],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    try:
        first = json.loads(before)
        first.setdefault("continued", []).append({k: v for k, v in facts.items() if first.get(k) != v})
    except (ValueError, AttributeError):  # none yet, or damaged
        first = facts
    return json.dumps(first, indent=2) + "\n"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _revision() -> str:
    """Returns the git commit of the source tree, with "+changes" where files differ; "" outside one."""
    root = pathlib.Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain"])
        commit, changes = (
            subprocess.run(c, cwd=root, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for c in commands
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit + ("+changes" if changes else "")


def places(path: pathlib.Path) -> str:
    """Returns where the results of a run lie and how to look at them."""
    rows = {
        "best/model.keras": "the network, for Keras alone",
        "export/": "SavedModel: serve, probabilities, serve_uint8",
        "metrics.jsonl": "each epoch's metrics; classwise.csv by class; times.csv",
        "curves.png": "loss and validation accuracy by epoch",
        "evaluation/": "the test split by class, as JSON and CSV",
        "report.html": "the result for everybody, opens offline",
        "MODEL_CARD.md": "data, threat model, results, limits",
    }
    shown = {name: text for name, text in rows.items() if (path / name).exists()}
    lines = [f"{path}/", *(f"  {name:<18}{text}" for name, text in shown.items())]
    board = path / "tensorboard"
    return "\n".join(
        [*lines, *([f"TensorBoard: {_tensorboard()} --logdir {shlex.quote(str(board))}"] * board.exists())]
    )


def _tensorboard() -> str:
    """Returns what starts TensorBoard in this shell: its name, or its place beside this Python."""
    beside = pathlib.Path(sys.executable).with_name("tensorboard")
    if shutil.which("tensorboard") or not beside.exists():
        return "tensorboard"
    return shlex.quote(os.path.relpath(beside))


def configuration_table(config: Config) -> list[tuple[str, str]]:
    """Returns (name, value) of every field, for reports."""
    rows = [("method", config.method), *config.options.items()]
    for section in config.sections().values():
        rows += dataclasses.asdict(section).items()
    return [(name, str(value)) for name, value in rows]
