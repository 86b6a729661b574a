"""Holds: one command evaluates three kinds of models; exit codes and messages are as documented."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from fairat_tf import errors, evaluate
from fairat_tf.config import Attack, Config
from fairat_tf.evaluation import running
from fairat_tf.reporting import files
from fairat_tf.run_directory import RunDirectory

QUICK = ["--checks=quick", "--noprogress", "--attacks=fgsm,pgd20", "--batch_size=40"]


@pytest.fixture(scope="module")
def models(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small.network.save(folder / "plain.keras")
    small.network.export(folder / "export", verbose=False)
    (folder / "run" / "best").mkdir(parents=True)
    small.network.save(folder / "run" / "best" / "model.keras")
    (folder / "run" / "config.json").write_text("{}")
    (folder / "run" / "MODEL_CARD.md").touch()  # training has ended
    (folder / "run" / "metrics.jsonl").write_text(
        '{"epoch": 0, "loss": 2.0, "val_accuracy": 0.3}\n{"epoch": 1, "loss": 1.0}\n'
    )
    return folder


def _run(small, model, out, *extra):
    return evaluate.run(
        ["evaluate", f"--model={model}", f"--dataset=npz:{small.npz}", f"--output_dir={out}", *QUICK, *extra]
    )


@pytest.mark.parametrize("name", ["plain.keras", "export", "run"])
def test_three_kinds_of_models(small, models, tmp_path, name, capsys):
    assert _run(small, models / name, tmp_path / name) == 0
    result = files.read(tmp_path / name, arrays=True)
    predicted = np.argmax(small.network.predict(small.images / np.float32(255), verbose=0), axis=1)
    np.testing.assert_array_equal(result["per_example"]["prediction/clean"], predicted)
    assert result["dataset"]["class_names"] == list(small.names)
    printed = capsys.readouterr().out
    assert "worst class" in printed and max(map(len, printed.splitlines()[:-1])) <= 80
    assert (tmp_path / name / "report.html").stat().st_size > 5000


def test_a_run_directory_gets_its_evaluation_inside(small, models):
    arguments = ["evaluate", f"--model={models / 'run'}", f"--dataset=npz:{small.npz}", *QUICK]
    assert evaluate.run(arguments) == 0
    page = (models / "run" / "evaluation" / "report.html").read_text()
    assert "Training" in page and "val_accuracy" in page


@pytest.mark.parametrize(
    ("norm", "epsilon", "told"), [("linf", 8 / 255, 0), ("l2", 0.5, 1), ("linf", 0.1, 1)]
)
def test_another_threat_model_than_that_of_training_is_told(tmp_path, norm, epsilon, told):
    config = Config(attack=Attack(norm=norm, epsilon=epsilon))
    (tmp_path / "config.json").write_text(config.to_json())
    notes = running._other_threat(running.Request(model=str(tmp_path / "best/model.keras"), dataset="x"))
    assert len(notes) == told
    assert all(note.startswith("judged by linf, epsilon 8/255; it was trained against ") for note in notes)


def test_module_function(small, models, tmp_path, monkeypatch):
    (tmp_path / "made_model.py").write_text(
        f"import keras\ndef network():\n    return keras.models.load_model({str(models / 'plain.keras')!r})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert _run(small, "made_model:network", tmp_path / "out") == 0


def test_fractions_and_decimals_are_the_same_epsilon(small, models, tmp_path):
    assert _run(small, models / "plain.keras", tmp_path / "a", "--epsilon=4/255") == 0
    assert _run(small, models / "plain.keras", tmp_path / "b", f"--epsilon={4 / 255!r}") == 0
    first, second = (files.read(tmp_path / name) for name in "ab")
    assert first["threat_model"] == second["threat_model"]
    assert first["attacks"]["fgsm"]["correct"] == second["attacks"]["fgsm"]["correct"]


def test_examples_are_drawn_evenly_and_it_is_said(small, models, tmp_path):
    assert _run(small, models / "plain.keras", tmp_path, "--examples=20") == 0
    data = files.read(tmp_path)["dataset"]
    assert data["per_class"] == [5, 5, 5, 5] and "5 of each class" in data["sampling"] and data["of"] == 80


def test_groups_gate_and_evidence(small, models, tmp_path):
    code = _run(
        small, models / "plain.keras", tmp_path, "--group_by=side", "--save_examples",
        "--gate=clean.average>=0.5", "--gate=fgsm.worst_group>=0.01",
    )  # fmt: skip
    assert code == 0
    result = files.read(tmp_path)
    assert result["groups"]["sizes"] == {"0": 40, "1": 40}
    assert [row["passed"] for row in result["gates"]] == [True, True]
    assert sorted(p.name for p in (tmp_path / "evidence").iterdir()) == ["fgsm.npz", "pgd20.npz"]


def test_groups_of_folders_are_named_everywhere(small, models, tmp_path, capsys):
    import csv

    data = small.folders(tmp_path / "images", ("hill", "<coast>", "sea & sky"))
    (tmp_path / "images" / f"0_{small.names[0]}" / "tunnel").mkdir()
    out = tmp_path / "out"
    code = evaluate.run(
        ["evaluate", f"--model={models / 'plain.keras'}", f"--dataset={data}", f"--output_dir={out}", *QUICK,
         "--group_by=group", "--split=train", "--examples=40", "--gate=clean.group[hill]>=0.1"]
    )  # fmt: skip
    assert code == 0
    printed, err = capsys.readouterr()
    result = files.read(out)
    assert list(result["groups"]["sizes"]) == ["<coast>", "hill", "sea & sky", "tunnel"]
    assert result["groups"]["sizes"]["tunnel"] == 0 and sum(result["groups"]["sizes"].values()) == 40
    assert all(f"  {name} " in printed for name in result["groups"]["sizes"]) and "(few)" in printed
    page = (out / "report.html").read_text()
    assert ">&lt;coast&gt;<br>" in page and ">sea &amp; sky<br>" in page and ">tunnel<br>" in page
    with open(out / "groups.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4 * (len(small.names) + 1)
    whole = next(r for r in rows if (r["attack"], r["group"], r["class"]) == ("pgd20", "hill", "(all)"))
    parts = [r for r in rows if (r["attack"], r["group"]) == ("pgd20", "hill") and r["class"] != "(all)"]
    assert int(whole["total"]) == sum(int(r["total"]) for r in parts) == result["groups"]["sizes"]["hill"]
    assert "Reading" not in err


def test_an_attribute_of_a_tfds_set_without_class_label(small, models, tmp_path, capsys):
    """As with celeb_a, the label is chosen by the data set's name and a boolean attribute groups."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(12, 12, 3)),
        "attributes": {"Male": tfds.features.Scalar(np.bool_), "Young": tfds.features.Scalar(np.bool_)},
        "drawn": {"pattern": tfds.features.ClassLabel(names=list(small.names))},
    }
    male = small.labels % 2 == 0
    rows = {"image": small.images, "attributes": {"Male": male, "Young": ~male},
            "drawn": {"pattern": small.labels.astype(np.int64)}}  # fmt: skip
    tfds.dataset_builders.store_as_tfds_dataset(
        name="people",
        version="1.0.0",
        data_dir=tmp_path / "tfds",
        split_datasets={name: tf.data.Dataset.from_tensor_slices(rows) for name in ("train", "test")},
        features=tfds.features.FeaturesDict(features),
    )
    arguments = ["evaluate", f"--model={models / 'plain.keras'}", f"--data_dir={tmp_path / 'tfds'}", *QUICK]
    out = tmp_path / "out"
    grouped = ["--group_by=Male", "--gate=fgsm.group[yes]<=1", f"--output_dir={out}"]
    assert evaluate.run([*arguments, "--dataset=people:pattern", *grouped]) == 0
    printed, err = capsys.readouterr()
    assert "by Male, under" in printed and "Reading" not in err
    result = files.read(out, arrays=True)
    assert result["groups"]["sizes"] == {"no": int((~male).sum()), "yes": int(male.sum())}
    is_male = result["per_example"]["labels"] % 2 == 0
    for attack, found in result["groups"]["attacks"].items():
        right = result["per_example"][f"correct/{attack}"]
        assert found["per_group"]["yes"]["correct"] == right[is_male].sum()
        assert found["per_group"]["no"]["correct"] == right[~is_male].sum()
    page = (out / "report.html").read_text()
    assert "Male: yes" in page and "Male: no" in page and "Accuracy by Male" in page
    assert evaluate.run([*arguments, "--dataset=people", f"--output_dir={out}"]) == 3
    message = capsys.readouterr().err
    assert "Possible: Male, Young, pattern." in message and len(message.strip().splitlines()) == 1


def test_an_unknown_group_in_a_gate_ends_before_the_attacks(small, models, tmp_path, capsys):
    code = _run(small, models / "plain.keras", tmp_path, "--group_by=side", "--gate=fgsm.group[yes]>=0.1")
    assert code == 2 and "no examples of group 'yes'; the groups are 0, 1" in capsys.readouterr().err
    assert not (tmp_path / "evaluation.json").exists()


def test_noprogress_reaches_the_reading_of_data(small, models, tmp_path, monkeypatch):
    asked = []
    load = running.data.load
    monkeypatch.setattr(running.data, "load", lambda *a, **k: asked.append(k["progress"]) or load(*a, **k))
    assert _run(small, models / "plain.keras", tmp_path, "--group_by=nothing") == 2
    assert asked == [False]


def test_a_missed_gate_is_exit_code_4(small, models, tmp_path, capsys):
    assert _run(small, models / "plain.keras", tmp_path, "--gate=pgd20.worst_class>=0.99") == 4
    assert "gate missed: pgd20 worst class" in capsys.readouterr().err
    assert "✗ missed" in (tmp_path / "report.html").read_text()


def test_an_unreliable_verdict_is_exit_code_5(small, models, tmp_path, capsys, monkeypatch):
    def judged(bench, outcomes, names, checks):
        return {"status": "unreliable", "per_class": {}, "checks": [
            {"name": "zero gradients", "question": "?", "outcome": "fail", "message": "all",
             "classes": []}]}  # fmt: skip

    monkeypatch.setattr("fairat_tf.evaluation.verdict.judge", judged)
    assert _run(small, models / "plain.keras", tmp_path, "--gate=clean.average>=0.1") == 5
    assert "not reliable (zero gradients)" in capsys.readouterr().err


def test_rho_against_a_baseline(small, models, tmp_path):
    assert _run(small, models / "plain.keras", tmp_path / "a") == 0
    assert _run(small, models / "plain.keras", tmp_path / "b", f"--baseline={tmp_path / 'a'}") == 0
    assert files.read(tmp_path / "b")["fairness"]["clean"]["rho"] == 0.0


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--epsilno=0.1"], 2, "Did you mean: epsilon"),
        (["--epsilon=8/0"], 2, "fraction such as 8/255"),
        (["--attacks=pgd20,sgd"], 2, "Unknown attack 'sgd'"),
        (["--gate=pgd20.best>=1"], 2, "--gate="),
        (["--attacks=autoattack,fab-t,square"], 2, "autoattack runs fab-t, square itself"),
        (["--seed=-1"], 2, "seed"),
        (["--gate=cw20.average>=0.1"], 2, "not among --attacks"),
        (["--group_by=age"], 2, "columns label, side"),
        (["--input_range=0"], 2, "LOW,HIGH"),
        (["--dataset=npz:/nowhere.npz"], 3, "nowhere"),
        (["--model=/nowhere.keras"], 2, "not found"),
        (["--baseline=/nowhere"], 3, "holds no evaluation"),
        (["--baseline={base}", "--epsilon=1/255"], 3, "evaluated with another epsilon than is asked for now"),
        (["--baseline={base}", "--examples=40"], 3, "evaluated with other examples than is asked for now"),
        (["--output_dir=/proc/nowhere"], 7, "proc"),
    ],
)
def test_errors_are_one_line_with_their_code(small, models, tmp_path, capsys, extra, code, message):
    base = models / "base"
    if any("{base}" in flag for flag in extra) and not base.exists():
        assert _run(small, models / "plain.keras", base, "--checks=none") == 0
    capsys.readouterr()
    extra = [flag.format(base=base) for flag in extra]
    assert _run(small, models / "plain.keras", tmp_path, *extra) == code
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fairat_tf: ")]
    assert len(error) == 1 and message in error[0]


def test_another_model_in_the_same_place_is_refused(small, models, tmp_path, capsys):
    assert _run(small, models / "plain.keras", tmp_path) == 0
    other = keras.models.clone_model(small.network)
    other.set_weights([w * 0.9 for w in small.network.get_weights()])
    other.save(tmp_path / "other.keras")
    assert _run(small, tmp_path / "other.keras", tmp_path) == errors.StorageError.exit_code
    assert "other settings (model)" in capsys.readouterr().err


FUNCTIONS = """
import tensorflow as tf
def first():
    return lambda images: tf.reduce_mean(images, [1, 2]) @ tf.constant([[1.0, 2.0, 3.0, 4.0]] * 3)
def second():
    return lambda images: tf.reduce_mean(images, [1, 2]) @ tf.constant([[4.0, 3.0, 2.0, 1.0]] * 3)
"""


def test_another_function_or_another_range_in_the_same_place_is_refused(
    small, models, tmp_path, capsys, monkeypatch
):
    (tmp_path / "two_models.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    out, other = tmp_path / "out", tmp_path / "other"
    arguments = ("--checks=none", "--attacks=clean")
    assert _run(small, "two_models:first", out, *arguments) == 0
    assert _run(small, "two_models:first", out, *arguments) == 0
    assert _run(small, "two_models:second", out, *arguments) == errors.StorageError.exit_code
    assert "other settings (model, or how it is called)" in capsys.readouterr().err
    assert _run(small, models / "plain.keras", other, *arguments) == 0
    assert _run(small, models / "plain.keras", other, *arguments, "--input_range=0,0.9") == 7


def test_each_model_has_its_own_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v1.2").mkdir()
    (tmp_path / "v1.2.keras").touch()
    found = [evaluate._default_output(m) for m in ("a.b:first", "a.b:second", "v1.2", "v1.2.keras")]
    assert found == [f"evaluation/{name}" for name in ("a.b.first", "a.b.second", "v1.2", "v1.2")]
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").touch()
    assert evaluate._default_output(str(run)) == str(run / "evaluation-early")  # training has its own
    (run / "MODEL_CARD.md").touch()
    assert evaluate._default_output(str(run)) == str(run / "evaluation")


def test_a_taken_folder_gets_a_number_that_belongs_to_no_model(small, tmp_path, monkeypatch):
    taken = []

    def other_settings(request):
        taken.append(request.output_dir)
        if len(taken) < 3:
            raise errors.OtherSettings("taken")
        raise errors.DataError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "run", other_settings)
    Path("epoch-0106.keras").touch()
    code = evaluate.run(["evaluate", "--model=epoch-0106.keras", f"--dataset=npz:{small.npz}"])
    assert code == errors.DataError.exit_code
    assert taken == [f"evaluation/epoch-0106{number}" for number in ("", "-2", "-3")]


def test_two_processes_do_not_share_a_folder(small, tmp_path, capsys):
    with RunDirectory(str(tmp_path)):
        (tmp_path / "m.keras").write_text("a model")
        words = [f"--model={tmp_path}/m.keras", f"--dataset=npz:{small.npz}", f"--output_dir={tmp_path}"]
        code = evaluate.run(["evaluate", *words])
    assert code == errors.StorageError.exit_code and "in use by another process" in capsys.readouterr().err


def test_without_an_attack_there_is_none_to_be_judged(small, models, tmp_path):
    assert _run(small, models / "plain.keras", tmp_path, "--attacks=clean", "--checks=full") == 0
    assert files.read(tmp_path)["verdict"]["status"] == "not checked"


def test_help_is_fast_grouped_and_exit_code_0():
    found = subprocess.run(
        [sys.executable, "-c", "import sys; from fairat_tf import evaluate; "
         "code = evaluate.run(['x', '--help']); "
         "print('tensorflow' in sys.modules); sys.exit(code)"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert found.returncode == 0 and found.stdout.strip().endswith("False")
    assert "Attacks:" in found.stdout and "--epsilon" in found.stdout and "verbosity" not in found.stdout


def test_the_result_is_strict_json(small, models, tmp_path):
    assert _run(small, models / "plain.keras", tmp_path) == 0
    text = (tmp_path / "evaluation.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
