"""Each flag file takes a step of training on files in the data sets' original formats, made small here.

The networks have the depth that the file names and few channels; the full width stands behind `slow`.
"""

import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from fairat_tf import assembly, flags_lib, train
from fairat_tf.training_loop import Position
from tests import support

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "flags").glob("*.flags"))
ORIGINAL = ("svhn", "cifar10", "cifar100")


def flags_of(path):
    """Returns flag -> value as written in the file, without the help of absl."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("--")]
    return dict(line[2:].partition("=")[::2] for line in lines)


def named(*data_sets):
    return [path for path in FILES if flags_of(path)["dataset"] in data_sets]


def words(path, folder, *more):
    smaller = ["--batch_size=4", "--attack_steps=1", "--validation_steps=1", "--epochs=1", "--nodownload"]
    return ["train", f"--flagfile={path}", f"--data_dir={folder}", *smaller, *more]


def teacher_for(argv, folder):
    """Returns the flag of a teacher of ten classes, where the method asks for one."""
    command = flags_lib.training_command(argv)
    if "teacher" not in command.flags:
        return []
    support.tiny_network(classes=10, shape=(32, 32, 3)).save(folder / "teacher.keras")
    return [f"--teacher={folder / 'teacher.keras'}"]


def first_step(argv):
    """Returns (parts, training metrics, largest change of a weight) of one step with these flags."""
    command = flags_lib.training_command(argv)
    command.flags(argv)
    config = flags_lib.config_from(command.flags)
    parts = assembly.assemble(config, assembly.load(config))
    before = [keras.ops.convert_to_numpy(w) for w in parts.method.network.trainable_variables]
    logs = parts.method.train_step(next(iter(parts.training(Position()))))
    after = [keras.ops.convert_to_numpy(w) for w in parts.method.network.trainable_variables]
    change = max(np.abs(a - b).max() for a, b in zip(after, before, strict=True))
    return parts, {name: float(value) for name, value in logs.items()}, change


def check_step(path, folder, *more):
    argv = words(path, folder, *more)
    parts, logs, change = first_step(argv + teacher_for(argv, folder))
    written, config = flags_of(path), parts.config
    assert (config.method, config.network.network) == (
        written.get("method", "fairat"),
        written["network"],
    )
    assert parts.dataset.num_classes == (100 if written["dataset"] == "cifar100" else 10)
    assert parts.dataset.image_shape == (32, 32, 3)
    assert np.isfinite(logs["loss"]) and np.isfinite(change) and change > 0
    assert int(parts.method.optimizer.iterations) == 1
    assert float(parts.method.optimizer.learning_rate) <= float(written["learning_rate"]) * (1 + 1e-6)
    if "nohard_reattack" in written:
        assert parts.method.options.hard_reattack is False


def test_every_flag_file_names_a_data_set_that_is_tried_here_or_drawn():
    assert named(*ORIGINAL, "street_digits") == FILES and len(named(*ORIGINAL)) >= 18


def test_the_recipes_of_the_three_data_sets():
    for path in FILES:
        written = flags_of(path)
        if "_preact_resnet18_" not in path.name and "_wrn28_10_" not in path.name:
            continue
        svhn = written["dataset"] == "svhn"
        assert written["learning_rate"] == ("0.01" if svhn else "0.1"), path.name
        assert written["weak_augmentation"] == ("none" if svhn else "crop_flip"), path.name
        assert (written["epochs"], written["batch_size"], written["weight_decay"]) == ("110", "128", "5e-4")
        assert path.name.startswith(written["dataset"]) and written["method"].split("_")[0] in path.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_header_names_source_command_time_and_figures(path):
    header = path.read_text().partition("\n--")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert re.search(r"et al\.|Source:|Recipe:", header)
    assert f"python -m fairat_tf.train --flagfile=flags/{path.name}" in header
    assert re.search(r"^# Time: .*(minute|GPU)", header, re.M) and re.search(
        r"^# Expected\b.*:", header, re.M
    )


@pytest.mark.parametrize("path", named(*ORIGINAL), ids=lambda path: path.stem)
def test_one_step_of_each_flag_file(path, originals):
    check_step(path, originals, "--width=2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["svhn_preact_resnet18_fairat", "cifar100_preact_resnet18_pgd_at", "cifar10_wrn28_10_fairat"]
)
def test_one_step_with_all_channels(name, originals):
    check_step(ROOT / "flags" / f"{name}.flags", originals)


def test_a_flag_file_from_start_to_run_directory(originals, tmp_path, monkeypatch, capsys):
    path = ROOT / "flags/svhn_preact_resnet18_fairat.flags"
    smaller = ["--width=2", "--notensorboard", "--evaluate=", "--validation_fraction=0.5"]
    monkeypatch.setattr(sys, "argv", words(path, originals, *smaller, f"--run_dir={tmp_path / 'run'}"))
    assert train.run() == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert record["epoch"] == 0 and np.isfinite(record["loss"])
    network = keras.models.load_model(tmp_path / "run/best/model.keras")
    assert network.input_shape == (None, 32, 32, 3) and network.output_shape == (None, 10)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
