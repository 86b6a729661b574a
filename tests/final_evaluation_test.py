"""Holds: the evaluation at the end of a run replaces what training made, and nobody else's results."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, final_evaluation, rng
from fairat_tf.config import Attack, Config, Run
from fairat_tf.reporting import files
from fairat_tf.run_directory import RunDirectory
from fairat_tf.signals import StopSignals
from tests import support


def test_a_folder_of_somebody_else_is_moved_aside(tmp_path):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "evaluation.json").write_text("ten hours of AutoAttack")
    (tmp_path / "evaluation-2").mkdir()
    final_evaluation._make_own(folder)
    assert (tmp_path / "evaluation-3/evaluation.json").read_text() == "ten hours of AutoAttack"
    (folder / "evaluation.json").write_text("own")
    final_evaluation._make_own(folder)
    assert (folder / "evaluation.json").read_text() == "own" and not (tmp_path / "evaluation-4").exists()


@pytest.mark.parametrize(("norm", "epsilon"), [("l2", 0.1), ("linf", 2 / 255)])
def test_a_run_is_judged_by_the_threat_model_of_its_training(tmp_path, norm, epsilon):
    network, dataset = support.tiny_network(), support.tiny_dataset()
    for place in ("best/model.keras", "last/epoch-0002.keras"):
        (tmp_path / place).parent.mkdir()
        network.save(tmp_path / place)
    (tmp_path / "metrics.jsonl").write_text(
        '{"epoch": 0, "loss": 2.0, "val_robust_worst_class": 0.3}\n'
        '{"epoch": 1, "loss": 1.0, "val_robust_worst_class": 0.4}\n'
    )
    config = Config(attack=Attack(norm=norm, epsilon=epsilon), run=Run(evaluate="fgsm"))
    (tmp_path / "config.json").write_text(config.to_json())
    with RunDirectory(str(tmp_path)) as run, StopSignals() as stop:
        result = final_evaluation.evaluated(SimpleNamespace(config=config, dataset=dataset), run, stop)
    images = tf.constant(dataset.test.images / np.float32(255))
    attack = attacks.get("fgsm")(epsilon=epsilon, norm=norm)
    moved = attack(network, images, tf.constant(dataset.test.labels), rng.key(0, "not used"))
    answers = [np.argmax(network(each), axis=1) for each in (images, moved)]
    right = np.logical_and.reduce([answer == dataset.test.labels for answer in answers])
    assert 0 < right.sum() < (answers[0] == dataset.test.labels).sum()
    for folder in ("evaluation", "last/epoch-0002"):
        found = files.read(tmp_path / folder)
        assert found["threat_model"] == result["threat_model"] == {"norm": norm, "epsilon": epsilon}
        assert found["attacks"]["fgsm"]["correct"] == right.sum()
    page = (tmp_path / "report.html").read_text()
    assert re.search(r"<h2>Training</h2>.*val_robust_worst_class", page, re.S)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
