"""What the tests of tools/study share: a small study, and training that takes no time.

A stand-in for `children.run` takes the place of training and writes what a run would leave.
"""

import importlib.util
from pathlib import Path

import numpy as np

from fairat_tf import eval_lib, flags_lib
from fairat_tf.reporting import files

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("study_run", ROOT / "tools" / "studies" / "run.py")
study_run = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(study_run)

TEXT = """
reference = "plain"
seeds = [0, 1]
flags = ["--epochs=2"]
attacks = ["clean", "pgd20"]
networks = "best"

[variants]
plain = ["--method=pgd_at"]
fair = ["--method=frl", "--init_from={plain}"]
"""
LABELS = np.arange(40) % 2
RIGHT = {"plain": 30, "fair": 20, "other": 10, "evaluated": 5}  # of 40, the first ones
TIMES = "epoch,steps,seconds,processor_seconds\n"
COSTS = {  # medians of seconds a step: 2 and 3
    "plain": "0,0,0,0\n0,9,9.0,18.0\n",
    "other": "0,9,9.0,18.0\n",
    "fair": "0,2,7.0,5.0\n1,4,7.0,12.0\n2,1,7.0,9.0\n",
}


class Trainer:
    """Stands for `children.run`: writes an evaluation, or returns the exit code asked for."""

    def __init__(self, codes=()):
        self.codes, self.commands, self.place = dict(codes), [], "evaluation"

    def __call__(self, command, _):
        self.commands.append(command)
        if command[2] == "fairat_tf.evaluate":
            return self.evaluate(Path(command[-1].removeprefix("--output_dir=")))
        folder = Path(next(c for c in command if c.startswith("--run_dir=")).partition("=")[2])
        code = self.codes.get(folder.name, 0)
        folder.mkdir(parents=True, exist_ok=True)
        if not code:
            (folder / "config.json").write_text(configured(command).to_json())
            (folder / "metrics.jsonl").write_text("{}\n")
            (folder / "times.csv").write_text(TIMES + COSTS[folder.name.rpartition("-")[0]])
            files.write(evaluated(folder.name.rpartition("-")[0]), folder / self.place)
            (folder / "MODEL_CARD.md").write_text("last of all")
        return code

    def evaluate(self, place):
        code = self.codes.get("again", 0)
        if not code:
            files.write(evaluated("evaluated"), place)
        return code


def configured(command):
    """Returns the configuration that the training command would write into its run directory."""
    parsed = flags_lib.training_command(command[2:])
    parsed.flags.unparse_flags()
    parsed.flags(command[2:])
    return flags_lib.config_from(parsed.flags)


def evaluated(variant):
    """Returns the evaluation of a classifier that is right on the first `RIGHT[variant]` examples."""

    def logits_fn(images):
        place = images[:, 0, 0, 0] * 255
        return study_run_logits(place, RIGHT[variant])

    images = np.zeros((40, 4, 4, 1), np.float32)
    images[:, 0, 0, 0] = np.arange(40) / 255
    return eval_lib.evaluate(
        logits_fn, images, LABELS, ["even", "odd"], attacks=("clean",), epsilon=0.0, checks="none"
    )


def study_run_logits(place, right):
    import tensorflow as tf

    parity = tf.cast(tf.round(place), tf.int32) % 2
    said = tf.where(tf.round(place) < right, parity, 1 - parity)
    return tf.one_hot(said, 2)


def of_the_last(text, kind="last"):
    """Returns the study of `TEXT`, or one made from it, for the networks of the last epochs."""
    return text.replace('"best"', f'"{kind}"').replace('"--epochs=2"', '"--epochs=2", "--keep_last=1"')


def arguments(study, tmp_path, *more):
    return [str(study), f"--work={tmp_path / 'work'}", *more]


def folders(trainer):
    return [Path(command[-1].partition("=")[2]).name for command in trainer.commands]
