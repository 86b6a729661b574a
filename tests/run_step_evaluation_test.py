"""tools/run_step: what the exported evaluation finds elsewhere is what the package finds here."""

import json
import shutil

import keras
import numpy as np
import pytest

from fairat_tf import assembly, errors, eval_lib, final_evaluation, model_files
from fairat_tf.evaluation import comparing
from fairat_tf.reporting import files
from tests import support
from tests.step_support import RUN, config_of, elsewhere, loaded, own_data
from tests.studies.small_study import study_run

export, collect, results, shards = (loaded(name) for name in ("export", "collect", "results", "shards"))
ATTACKS = ("clean", "pgd5", "cw5")
WANTED = ("--evaluate=clean,pgd5,cw5", "--evaluate_examples=36", "--learning_rate=0.05", "--epochs=4")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return own_data(tmp_path_factory.mktemp("data") / "own.npz")


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Returns an export that was trained and evaluated elsewhere, states saved every third epoch."""
    folder = tmp_path_factory.mktemp("step") / "step"
    assert export.main([str(folder), dataset, *RUN, *WANTED]) == 0
    done = elsewhere(folder, "--save_every=3", "--keep_last=2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    done = elsewhere(trained, script="evaluate")
    assert done.returncode == 0, done.stderr
    into = tmp_path_factory.mktemp("results")
    assert results.main([str(trained), str(into)]) == 0
    return done.stdout, into


@pytest.mark.timeout(300)
def test_the_evaluation_elsewhere_is_that_of_the_package(trained, evaluated, dataset, tmp_path):
    target = tmp_path / "network.keras"
    collect.collect(trained / "run/last/epoch-0004", target)
    parts = assembly.assemble(config_of(dataset, *RUN, *WANTED), assembly.load(config_of(dataset, *RUN)))
    test = final_evaluation.sample(parts)
    assert len(test) == 36
    expected = eval_lib.evaluate(
        model_files.load_logits(target), test.images, test.labels, parts.dataset.class_names,
        attacks=ATTACKS, batch_size=250, seed=final_evaluation.SEED, checks="none",
    )  # fmt: skip
    found = files.read(evaluated[1] / "epoch-0004", arrays=True)
    assert found["dataset"]["fingerprint"] == expected["dataset"]["fingerprint"]
    assert found["dataset"]["class_names"] == list(parts.dataset.class_names)
    assert 0.3 < expected["attacks"]["pgd5"]["accuracy"] < expected["attacks"]["clean"]["accuracy"]
    for name in ATTACKS:  # the same draws; the compilers round differently, which may turn an image or two
        one, other = (r["per_example"][f"prediction/{name}"] for r in (found, expected))
        assert np.sum(one != other) <= (0 if name == "clean" else 1)


def test_every_kept_network_is_judged_newest_first_and_not_twice(trained, evaluated):
    lines = [json.loads(line) for line in evaluated[0].splitlines()]
    assert [line["network"] for line in lines] == ["epoch-0004", "epoch-0003"]
    result = files.read(evaluated[1] / "epoch-0004")
    assert lines[0]["pgd5"] == pytest.approx(result["attacks"]["pgd5"]["accuracy"], abs=1e-4)
    again = elsewhere(trained, script="evaluate")
    assert again.returncode == 0 and again.stdout == ""
    folders = [str(evaluated[1] / f"epoch-000{n}") for n in (3, 4)]
    compared = comparing.compare(comparing.load([f"{n}={f}" for n, f in zip("ab", folders, strict=True)]))
    assert set(compared["attacks"]) == set(ATTACKS)


def test_a_study_takes_what_is_kept_for_a_finished_run(trained, evaluated, tmp_path):
    place = tmp_path / "kept" / "fairat-0"
    assert results.main([str(trained), str(tmp_path / "into"), f"--keep={place}"]) == 0
    kept = study_run.Kept(place.parent)
    assert [path.name for path in kept.results("fairat-0")] == [f"fairat-0.epoch-000{n}.json" for n in (3, 4)]
    assert kept.experiment("fairat-0")["method"] == "fairat" and kept.experiment("fairat-0")["epochs"] == 4
    log = [json.loads(line) for line in kept.log("fairat-0", tmp_path).read_text().splitlines()]
    assert len(log) == 4 and "val_robust_accuracy" in log[0]
    found, expected = (
        files.read(path) for path in (kept.results("fairat-0")[1], evaluated[1] / "epoch-0004")
    )
    assert found["attacks"]["pgd5"]["accuracy"] == expected["attacks"]["pgd5"]["accuracy"]
    assert results.main([str(tmp_path), str(tmp_path / "into"), f"--keep={place}"]) == 3


def test_states_are_saved_every_so_often_and_at_the_end(trained):
    assert sorted(p.name for p in (trained / "run").glob("state-*")) == ["state-0003", "state-0004"]
    _, facts = shards.read(trained / "run/state-0004")
    assert facts["epoch"] == 4


def test_epochs_whose_state_was_lost_are_logged_once(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "step")
    shutil.rmtree(copy / "run/state-0004")
    before = (copy / "run/epochs.jsonl").read_text().splitlines()
    with (copy / "run/epochs.jsonl").open("a") as file:
        file.write('{"epoch": 4, "los')  # a kill in the middle of a line
    assert elsewhere(copy, "--save_every=3").returncode == 0
    after = (copy / "run/epochs.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in after] == [0, 1, 2, 3] and after[:3] == before[:3]


def test_no_time_is_told_by_the_exit_code(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "step")
    shutil.rmtree(copy / "run/predictions", ignore_errors=True)
    assert elsewhere(copy, "--seconds=-1", script="evaluate").returncode == 75
    assert not list((copy / "run/predictions").glob("*.npz"))


def test_a_compiled_program_is_kept_for_the_next_start(trained, tmp_path):
    flags = ("--steps=2", f"--compiled={tmp_path / 'kept'}")
    first, second = elsewhere(trained, *flags), elsewhere(trained, *flags)
    assert "compiling step.hlo" in first.stderr and "compiling" not in second.stderr
    assert first.returncode == second.returncode == 0 and first.stdout == second.stdout
    (path,) = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    third = elsewhere(trained, *flags)
    assert third.returncode == 0 and "cannot be used" in third.stderr and third.stdout == first.stdout


def test_an_accelerators_plug_in_takes_the_programs(trained):
    """Plug-ins get programs as portable StableHLO, which knows nothing of TensorFlow's copies."""
    from jaxlib import _jax
    from jaxlib.mlir.dialects import stablehlo

    program = loaded("loaded")
    for path in (trained / "step.hlo", trained / "validate.hlo", *trained.glob("evaluate-*.hlo")):
        module = _jax.mlir.hlo_to_stablehlo(path.read_bytes())
        portable = program.portable(module)
        assert _jax.mlir.serialize_portable_artifact(portable, stablehlo.get_minimum_version())
        assert b"mhlo.copy" not in portable


def test_what_is_missing_is_one_line(trained, dataset, tmp_path, capsys):
    bare = tmp_path / "bare"
    assert export.main([str(bare), dataset, *RUN, "--evaluate=", "--attack_steps=1"]) == 0
    for folder, word in ((bare, "nothing to evaluate by"), (tmp_path, "program.json")):
        told = elsewhere(folder, script="evaluate")
        assert told.returncode == 3 and word in told.stderr and "Traceback" not in told.stderr
    capsys.readouterr()
    for folder, word in ((bare, "run/predictions"), (tmp_path / "no", "program.json")):
        assert results.main([str(folder), str(tmp_path / "into")]) == errors.DataError.exit_code
        assert word in capsys.readouterr().err
    assert export.main([str(tmp_path / "a"), dataset, *RUN, "--evaluate=autoattack"]) == 2
    assert "autoattack is no single program" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_network_in_half_precision_is_judged_in_float32(dataset, tmp_path):
    flags = [dataset, *RUN, "--precision=bfloat16", "--evaluate=clean", "--attack_steps=1", "--epochs=1"]
    assert export.main([str(tmp_path / "step"), *flags]) == 0
    shutil.copytree(tmp_path / "step/start", tmp_path / "step/run/last/epoch-0001")
    done = elsewhere(tmp_path / "step", script="evaluate")
    assert done.returncode == 0, done.stderr
    collect.collect(tmp_path / "step/start", tmp_path / "start.keras")
    test = support.tiny_split(40, seed=1)
    logits = model_files.load_logits(tmp_path / "start.keras")(test.images.astype(np.float32) / 255)
    with np.load(tmp_path / "step/run/predictions/epoch-0001.npz") as found:
        np.testing.assert_array_equal(found["predictions/clean"], np.argmax(logits, -1))
    assert keras.config.dtype_policy().name == "float32"


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
