"""Holds: radius, norm, confidence and budget of the command line are those of the work, not its defaults."""

from types import SimpleNamespace

import numpy as np
import pytest

from fairat_tf import attacks, errors, evaluate, verify
from fairat_tf.reporting import files

EPSILON = 8 / 255


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "plain.keras"
    small.network.save(path)
    return path


@pytest.fixture
def run(small, model, tmp_path):
    """Evaluates into a folder of its own; returns (exit code, result)."""

    def run(name, *words):
        words = [
            "--checks=none",
            "--noprogress",
            "--batch_size=40",
            f"--output_dir={tmp_path / name}",
            *words,
        ]
        code = evaluate.run(["evaluate", f"--model={model}", f"--dataset=npz:{small.npz}", *words])
        return code, files.read(tmp_path / name)

    return run


def _right_under_one_step(small, epsilon):
    """Returns how many of the examples stand after one step along the sign of the gradient."""
    import tensorflow as tf

    images = tf.constant(small.images / np.float32(255))
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = small.logits_fn(images)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(small.labels, logits)
    direction = np.sign(tape.gradient(loss, images))
    moved = np.clip(images + np.float32(epsilon) * direction, 0, 1)
    answers = [np.argmax(logits, axis=1), np.argmax(small.logits_fn(moved), axis=1)]
    return int(np.logical_and.reduce([answer == small.labels for answer in answers]).sum())


def test_the_radius_is_that_of_the_command_line(small, run):
    found = {text: run(text[0], "--attacks=fgsm", f"--epsilon={text}")[1] for text in ("4/255", "8/255")}
    for text, result in found.items():
        epsilon = int(text[0]) / 255
        assert result["threat_model"] == {"norm": "linf", "epsilon": pytest.approx(epsilon, rel=1e-9)}
        assert abs(result["attacks"]["fgsm"]["correct"] - _right_under_one_step(small, epsilon)) <= 1
    right = {text: result["attacks"]["fgsm"]["correct"] for text, result in found.items()}
    assert right["4/255"] > right["8/255"] + 10


def test_images_of_norm_l2_are_within_it_and_beyond_the_default_ball(small, model, run, tmp_path, capsys):
    code, result = run("l2", "--attacks=fgsm,pgd20", "--norm=l2", "--epsilon=0.5", "--save_examples")
    assert code == 0 and result["threat_model"] == {"norm": "l2", "epsilon": 0.5}
    for name in ("fgsm", "pgd20"):
        with np.load(tmp_path / "l2/evidence" / f"{name}.npz") as saved:
            change = saved["adversarial"] - small.images / 255.0
        lengths = np.sqrt(np.square(change).sum((1, 2, 3)))
        assert 0.49 < lengths.max() <= 0.5 + 1e-5
        assert np.abs(change).max() > 1.5 * EPSILON
    assert verify.run(["verify", str(tmp_path / "l2"), f"--model={model}"]) == 0
    assert capsys.readouterr().out.count("80 examples, largest change 0.5") == 2


def test_a_gate_is_judged_at_the_confidence_asked_for(small, run, capsys):
    """All 80 right: Wilson's interval begins at 80 / (80 + z^2), z 1.28, 1.96 and 2.58."""
    for confidence, code in (("0.8", 0), ("0.95", 4), ("0.99", 4)):
        words = ("--attacks=clean", "--gate=clean.average>=0.96", f"--confidence={confidence}")
        found, result = run("gate", *words)
        assert result["attacks"]["clean"]["correct"] == 80
        assert (found, result["gates"][0]["confidence"]) == (code, float(confidence))
    low = {"0.95": 80 / (80 + 1.959964**2), "0.99": 80 / (80 + 2.575829**2)}
    told = [line for line in capsys.readouterr().err.splitlines() if "gate missed" in line]
    for line, (confidence, end) in zip(told, low.items(), strict=True):
        assert f"lower end of the {100 * float(confidence):g} % interval {100 * end:.1f} %" in line


class _Suite:
    """Has AutoAttack's interface and breaks nothing."""

    def __init__(self, **threat):
        del threat

    def attacks(self):
        return {}

    def run(self, logits_fn, images, labels, seed, **options):
        del logits_fn, seed, options
        stands = np.ones(len(labels), bool)
        return SimpleNamespace(
            adversarial=images, robust=stands, robust_after={"apgd-ce": stands}, answers=labels,
            not_finite={"apgd-ce": 0}, seconds={"apgd-ce": 1.0},
        )  # fmt: skip


def test_the_budget_ends_the_suite_and_is_planned_for(run, monkeypatch):
    get = attacks.get
    monkeypatch.setattr(attacks, "get", lambda name: _Suite if name == "autoattack" else get(name))
    free = run("free", "--attacks=autoattack")[1]
    short = run("short", "--attacks=autoattack", "--budget=0.001s")[1]
    assert free["attacks"]["autoattack"]["total"] == 80 and "plan" not in free
    attack = short["attacks"]["autoattack"]
    assert [row["total"] for row in attack["per_class"].values()] == [10] * 4  # the first block of 40
    assert attack["note"].startswith("40 of 80 examples") and short["plan"]["budget"] == 0.001


def test_l2_without_a_radius_is_refused(small, model, capsys):
    words = ["evaluate", f"--model={model}", f"--dataset=npz:{small.npz}", "--norm=l2"]
    assert evaluate.run(words) == errors.UsageError.exit_code
    assert "--norm=l2 needs --epsilon" in capsys.readouterr().err


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
