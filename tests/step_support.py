"""What the tests of tools/run_step share: its modules, a run to export, and the Python elsewhere."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

from fairat_tf import flags_lib
from tests import support

ROOT = Path(__file__).resolve().parent.parent
RUN = (
    "--method=fairat", "--network=small_cnn", "--width=4", "--batch_size=16", "--attack_steps=2",
    "--epochs=3", "--weak_augmentation=crop", "--ema_decay=0.9", "--evaluate=",
)  # fmt: skip


def loaded(name):
    """Returns a module of tools/steps; they find each other by the folder, as when they are run."""
    folder = str(ROOT / "tools/steps")
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location(name, f"{folder}/{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def config_of(*flags):
    argv = ["train", *flags]
    command = flags_lib.training_command(argv)
    command.flags.unparse_flags()
    command.flags(argv)
    return flags_lib.config_from(command.flags)


def elsewhere(folder, *flags, script="run"):
    """Runs the exported step, or its evaluation, in a Python of its own."""
    command = [sys.executable, str(ROOT / f"tools/steps/{script}.py"), str(folder), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def own_data(path):
    """Writes a small data set into the file; returns the flag that names it."""
    split, test = support.tiny_split(400), support.tiny_split(40, seed=1)
    names = {"test_images": test.images, "test_labels": test.labels}
    np.savez(path, train_images=split.images, train_labels=split.labels, **names)
    return f"--dataset=npz:{path}"
