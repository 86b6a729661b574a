"""The whole program, as a user starts it, on small files in the data sets' original formats."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.io
import tensorflow as tf

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--network=small_cnn", "--width=4", "--batch_size=16", "--attack_steps=2", "--validation_steps=2"]


def command(*words):
    return [sys.executable, "-m", "fairat_tf.train", *SMALL, *words]


def run(*words, timeout=280):
    return subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def svhn(tmp_path_factory):
    """Small train_32x32.mat and test_32x32.mat as SVHN has them: X [32, 32, 3, N], label 10 is digit 0."""
    folder = tmp_path_factory.mktemp("svhn")
    generator = np.random.default_rng(0)
    for name, size in (("train", 120), ("test", 40)):
        labels = (np.arange(size) % 10) + 1
        images = generator.integers(0, 90, (size, 32, 32, 3))
        images[np.arange(size), :, 3 * (labels % 10)] += 150  # one bright column tells the digit
        scipy.io.savemat(
            folder / f"{name}_32x32.mat",
            {"X": images.astype(np.uint8).transpose(1, 2, 3, 0), "y": labels[:, None]},
        )
    return folder


@pytest.fixture(scope="session")
def finished(svhn, tmp_path_factory):
    """A finished run of `python -m fairat_tf.train --dataset=svhn`, made small."""
    folder = tmp_path_factory.mktemp("runs") / "svhn run"
    words = [
        "--dataset=svhn",
        f"--data_dir={svhn}",
        "--nodownload",
        "--epochs=2",
        "--validation_fraction=0.2",
        "--keep_last=1",
    ]
    result = run(*words, f"--run_dir={folder}")
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout, words


def test_svhn_from_start_to_saved_model_and_tensorboard(finished):
    folder, stdout, _ = finished
    for name in (
        "config.json",
        "data.json",
        "flags.txt",
        "environment.json",
        "metrics.jsonl",
        "classwise.csv",
        "times.csv",
        "best/model.keras",
        "export/saved_model.pb",
        "evaluation/evaluation.json",
        "last/epoch-0002.keras",
        "last/epoch-0002/evaluation.json",
        "MODEL_CARD.md",
        "curves.png",
        "report.html",
    ):
        assert (folder / name).is_file(), name
    assert len(list((folder / "last").glob("*.keras"))) == 1
    assert any((folder / "tensorboard").iterdir()) and any((folder / "checkpoints").iterdir())
    assert "fairat on svhn" in stdout and "learning rate" not in stdout
    assert "SGD 0.01 (piecewise)" in stdout and "augmentation none" in stdout  # the recipe of SVHN
    assert "worst class" in stdout and "tensorboard --logdir" in stdout
    lines = [line for line in stdout.splitlines() if not line.startswith("TensorBoard: ")]  # holds a path
    assert max(map(len, lines)) <= 110
    page = (folder / "report.html").read_text()
    assert re.search(r"<h2>Training</h2>.*val_robust_worst_class", page, re.S)  # from metrics.jsonl


def test_another_number_of_examples_is_evaluated_anew(finished, tmp_path):
    folder, _, words = finished
    shutil.copytree(folder, tmp_path / "run")
    result = run(*words, f"--run_dir={tmp_path / 'run'}", "--evaluate_examples=20")
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ("evaluation", "last/epoch-0002"):
        found = json.loads((tmp_path / "run" / name / "evaluation.json").read_text())
        assert [a["total"] for a in found["attacks"]["clean"]["per_class"].values()] == [2] * 10


def test_label_10_is_digit_0(finished):
    folder, _, _ = finished
    result = json.loads((folder / "evaluation/evaluation.json").read_text())
    assert result["dataset"]["class_names"] == list("0123456789")
    assert [a["total"] for a in result["attacks"]["clean"]["per_class"].values()] == [4] * 10


def test_logs_hold_every_epoch_and_class(finished):
    folder, _, _ = finished
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [0, 1]
    expected = {
        "loss",
        "robust_accuracy",
        "robust_worst_class",
        "hard_share",
        "val_clean_accuracy",
        "val_robust_accuracy",
        "val_robust_worst_class",
        "val_robust_gap",
        "val_robust_nsd",
        "val_augmented_when_right",
        "premise_entropy",
    }
    assert expected <= set(records[0])
    rows = list(csv.DictReader((folder / "classwise.csv").read_text().splitlines()))
    assert {r["class"] for r in rows} == set("0123456789")
    assert {("train", "hard_share"), ("validation", "robust"), ("validation", "entropy")} <= {
        (r["split"], r["metric"]) for r in rows
    }
    share = [float(r["value"]) for r in rows if r["metric"] == "hard_share" and r["epoch"] == "0"]
    assert 0.3 < np.nanmean(share) < 0.7


def test_best_network_loads_with_keras_alone_and_equals_the_export(finished):
    folder, _, _ = finished
    script = (
        "import sys, keras, numpy as np; m = keras.models.load_model(sys.argv[1]); "
        "assert 'fairat_tf' not in sys.modules; x = np.full((2, 32, 32, 3), 0.5, 'float32'); "
        "print(m.predict(x, verbose=0).tolist())"
    )
    alone = subprocess.run(
        [sys.executable, "-c", script, str(folder / "best/model.keras")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    logits = np.array(json.loads(alone.stdout.strip().splitlines()[-1]))
    exported = tf.saved_model.load(str(folder / "export"))
    served = exported.serve(tf.fill([2, 32, 32, 3], 0.5))
    np.testing.assert_allclose(served, logits, atol=1e-5)


def test_the_model_card_says_what_was_done_and_its_code_loads_the_model(finished):
    folder, _, _ = finished
    card = (folder / "MODEL_CARD.md").read_text()
    headings = re.findall(r"^## (.*)$", card, re.M)
    told = ["Data", "Threat model", "Result by class (test split)", "Limits", "How to load", "Recipe"]
    assert headings == [*told, "Environment"]
    assert "100 training and 20 validation images of 32x32x3" in card
    assert "epsilon 8/255 in pixels of [0, 1], white box" in card
    result = json.loads((folder / "evaluation/evaluation.json").read_text())
    for name in "0123456789":
        values = [100 * attack["per_class"][name]["accuracy"] for attack in result["attacks"].values()]
        (row,) = re.findall(rf"^\| {name} \| (.*) \|$", card, re.M)
        assert [cell.split()[0] for cell in row.split(" | ")] == [f"{value:.1f}" for value in values]
    worst = result["attacks"]["pgd20"]["worst_class"]
    assert re.search(rf"worst class.*{100 * worst['accuracy']:.1f} \(.*\) {worst['name']} \|", card)
    assert "| seed | 0 |" in card and "| hard_fraction | 0.5 |" in card and '"tensorflow' in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    images = np.full((2, 32, 32, 3), 0.5, np.float32)
    names = {"images": tf.constant(images), "pixels": tf.constant(np.full((2, 32, 32, 3), 128, np.uint8))}
    with contextlib.chdir(folder):
        exec(code, names)
    logits = names["network"](images)
    np.testing.assert_allclose(names["served"].serve(images), logits, atol=1e-5)
    np.testing.assert_allclose(names["served"].probabilities(images), tf.nn.softmax(logits), atol=1e-5)


def test_the_environment_of_the_run_is_kept(finished):
    folder, _, _ = finished
    facts = json.loads((folder / "environment.json").read_text())
    assert facts["packages"]["keras"] == keras.__version__ and facts["python"].startswith("3.")
    assert "--dataset=svhn" in facts["command"] and facts["devices"]
    assert (
        "continued" not in facts
        and f'"started": "{facts["started"]}"' in (folder / "MODEL_CARD.md").read_text()
    )
    assert facts["TF_ENABLE_ONEDNN_OPTS"] == os.environ.get("TF_ENABLE_ONEDNN_OPTS", "")


def test_tensorboard_shows_classes_in_one_chart_confusion_and_hparams(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, _ = finished
    assert len(list((folder / "tensorboard").iterdir())) <= 2  # one for each time that the command was given
    tags = set()
    for path in (folder / "tensorboard").iterdir():
        accumulator = EventAccumulator(str(path), size_guidance={"tensors": 0})
        accumulator.Reload()
        tags |= set(accumulator.Tags()["tensors"])
    assert {
        "validation/robust_worst_class",
        "validation/premise_entropy",
        "train/loss",
        "classwise/validation_robust/3",
        "configuration",
        "adversarial confusion (validation)",
        "hard examples",
        "custom_scalars__config__",
        "_hparams_/session_start_info",
    } <= tags


def test_the_same_command_again_says_it_is_done_and_keeps_the_result(finished):
    folder, _, words = finished
    names = ("best/model.keras", "environment.json", "data.json", "metrics.jsonl")
    before = [(folder / name).read_bytes() for name in names]
    again = run(*words, f"--run_dir={folder}")
    assert again.returncode == 0 and "is trained to its end" in again.stdout, again.stderr[-2000:]
    assert [(folder / name).read_bytes() for name in names] == before
    card = (folder / "MODEL_CARD.md").read_text()
    assert run(*words, f"--run_dir={folder}", "--evaluate=").returncode == 0
    assert (folder / "MODEL_CARD.md").read_text() == card


def test_a_damaged_best_network_is_told_in_one_line(finished, tmp_path):
    folder, _, words = finished
    shutil.copytree(folder, tmp_path / "run")
    network = tmp_path / "run/best/model.keras"
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    result = run(*words, f"--run_dir={tmp_path / 'run'}")
    assert result.returncode == 7 and "Traceback" not in result.stderr, result.stderr[-2000:]
    assert "best/model.keras is gone or damaged" in result.stderr


def test_another_configuration_in_the_same_directory_is_refused(finished):
    folder, _, words = finished
    other = run(*words, f"--run_dir={folder}", "--seed=5")
    assert other.returncode == 7 and "seed: 0 there, 5 asked for" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_run_that_is_older_than_an_option_goes_on(finished, tmp_path):
    folder, _, words = finished
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run/config.json"
    facts = json.loads(path.read_text())
    assert facts["options"].pop("hard_ramp_epochs") == 0
    path.write_text(json.dumps(facts))
    again = run(*words, f"--run_dir={tmp_path / 'run'}")
    assert again.returncode == 0 and "is trained to its end" in again.stdout, again.stderr[-2000:]
    other = run(*words, f"--run_dir={tmp_path / 'run'}", "--hard_ramp_epochs=3")
    assert other.returncode == 7 and "hard_ramp_epochs: 0 there, 3 asked for" in other.stderr


def test_sigterm_saves_and_the_same_command_goes_on_to_the_same_end(svhn, finished, tmp_path):
    folder, _, words = finished
    process = subprocess.Popen(
        command(*words, f"--run_dir={tmp_path / 'run'}"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 200
    while not (tmp_path / "run/metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75 and f"--run_dir={tmp_path / 'run'}" in stderr, stderr[-2000:]
    assert run(*words, f"--run_dir={tmp_path / 'run'}").returncode == 0
    for name in ("metrics.jsonl", "classwise.csv"):
        assert (tmp_path / "run" / name).read_text() == (folder / name).read_text()
    weights = [
        keras.models.load_model(d / "best/model.keras").get_weights() for d in (folder, tmp_path / "run")
    ]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_runs_of_every_seed_are_evaluated_on_the_same_examples():
    from types import SimpleNamespace

    from fairat_tf import final_evaluation
    from fairat_tf.config import Config, Run
    from tests import support

    def sampled(seed):
        config = Config(run=Run(seed=seed, evaluate_examples=20))
        return final_evaluation.sample(SimpleNamespace(config=config, dataset=support.tiny_dataset()))

    first, second = sampled(0), sampled(1)
    np.testing.assert_array_equal(first.images, second.images)
    assert np.bincount(first.labels).tolist() == [5] * 4


def test_dry_run_prints_the_recipe_and_writes_nothing(svhn, tmp_path):
    result = run("--dataset=svhn", f"--data_dir={svhn}", "--dry_run", f"--run_dir={tmp_path / 'run'}")
    assert result.returncode == 0 and "110 epochs" in result.stdout and "about" in result.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--dataset=svhn", "--data_dir=EMPTY", "--nodownload"], 3, "train_32x32.mat"),
        (["--dataset=no_such_set", "--nodownload"], 2, "no_such_set"),
        (["--network=resnet"], 2, "Unknown network"),
        (["--augmentation=swirl"], 2, "swirl"),
        (["--schedule=steps"], 2, "steps"),
        (["--batch_size=5000"], 2, "batch_size"),
        (["--devices=77"], 2, "devices must be"),
        (["--select=happiness", "--epochs=1"], 2, "happiness"),
        (["--init_from=NOWHERE"], 2, "NOWHERE"),
        (["--run_dir=/proc/none"], 7, "/proc"),
    ],
    ids=str,
)
def test_what_cannot_be_done_ends_in_one_line(svhn, tmp_path, words, code, told):
    words = [w.replace("EMPTY", str(tmp_path)) for w in words]
    if not any("--dataset" in w for w in words):
        words += ["--dataset=svhn", f"--data_dir={svhn}", "--validation_fraction=0.2"]
    if not any("--run_dir" in w for w in words):
        words.append(f"--run_dir={tmp_path / 'run'}")
    result = run(*words)
    assert result.returncode == code, result.stderr[-2000:]
    assert told in result.stderr and "Traceback" not in result.stderr


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
