"""Evaluations that cannot be made: models, attacks, splits, gates and data that do not fit."""

import pytest

from fairat_tf import evaluate
from tests.bad_input.judging import DATA, GOOD, STORAGE, USAGE, filled, judge, snapshot

MODEL = "--model={shelf}/good.keras"
CASES = [
    ("model not named", [GOOD], USAGE, "model"),
    ("data set not named", [MODEL, "--dataset="], USAGE, "data set"),
    ("no such model", [GOOD, "--model={shelf}/none.keras"], USAGE, "not found"),
    ("damaged model", [GOOD, "--model={shelf}/damaged.keras"], USAGE, "not a .keras file"),
    ("model in an .h5 file", [GOOD, "--model={shelf}/old.h5"], USAGE, ".h5 is refused"),
    ("directory without a model", [GOOD, "--model={shelf}/bare"], USAGE, "holds no model"),
    ("module that is not there", [GOOD, "--model=no_such_module:network"], USAGE, "no_such_module"),
    ("model of five classes", [GOOD, "--model={shelf}/five.keras"], USAGE, "5"),
    ("model of larger images", [GOOD, "--model={shelf}/large.keras"], USAGE, "give --image_size=12"),
    ("probabilities", [GOOD, "--model={shelf}/softmax.keras"], USAGE, "--outputs=softmax"),
    ("weights not a number", [GOOD, "--model={shelf}/nan.keras"], USAGE, "NaN"),
    ("unknown attack", [MODEL, GOOD, "--attacks=pdg20"], USAGE, "Unknown attack 'pdg20'"),
    ("negative epsilon", [MODEL, GOOD, "--epsilon=-1/255"], USAGE, "epsilon"),
    ("l2 without a radius", [MODEL, GOOD, "--norm=l2"], USAGE, "such as --epsilon=128/255"),
    ("epsilon divided by 0", [MODEL, GOOD, "--epsilon=8/0"], USAGE, "8/0"),
    ("unknown norm", [MODEL, GOOD, "--norm=l1"], USAGE, "norm"),
    ("batch of 0", [MODEL, GOOD, "--batch_size=0"], USAGE, "batch_size"),
    ("negative number of examples", [MODEL, GOOD, "--examples=-3"], USAGE, "examples"),
    ("confidence 2", [MODEL, GOOD, "--confidence=2"], USAGE, "confidence"),
    ("budget of no time", [MODEL, GOOD, "--budget=0m"], USAGE, "duration"),
    ("range of one number", [MODEL, GOOD, "--input_range=255"], USAGE, "LOW,HIGH"),
    ("split that is not there", [MODEL, GOOD, "--split=validation"], USAGE, "no split 'validation'"),
    ("unknown group column", [MODEL, GOOD, "--group_by=age"], USAGE, "columns label"),
    ("gate without a bound", [MODEL, GOOD, "--gate=clean.average"], USAGE, "ATTACK.QUANTITY>=NUMBER"),
    ("gate of an attack not run", [MODEL, GOOD, "--gate=autoattack.gap<=0.2"], USAGE, "'autoattack'"),
    ("gate of an unknown class", [MODEL, GOOD, "--gate=clean.class[cat]>=0.2"], USAGE, "no class 'cat'"),
    ("gate above 1", [MODEL, GOOD, "--gate=clean.average>=25"], USAGE, "from 0 to 1"),
    ("baseline that is not there", [MODEL, GOOD, "--baseline={shelf}/bare"], DATA, "run fairat_tf.evaluate"),
    ("pixels that are not numbers", [MODEL, "--dataset=npz:{shelf}/nan.npz"], DATA, "not finite"),
    ("unknown data set to evaluate", [MODEL, "--dataset=cifar11"], USAGE, "Did you mean 'cifar10'?"),
    ("output below a file", [MODEL, GOOD, "--output_dir={shelf}/text.npz/out"], STORAGE, "Not a directory"),
]


@pytest.mark.parametrize(("words", "code", "told"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_evaluate(words, code, told, shelf, tmp_path, capsys):
    before = snapshot(shelf)
    common = [f"--output_dir={tmp_path / 'out'}", "--noprogress", "--checks=none", "--attacks=fgsm"]
    got = evaluate.run(["evaluate", *common, *filled(words, shelf, tmp_path)])
    judge(got, capsys.readouterr().err, code, told)
    assert snapshot(tmp_path) == {} and snapshot(shelf) == before


def test_an_evaluation_with_other_settings_is_kept(shelf, tmp_path, capsys):
    words = ["evaluate", *filled([MODEL, GOOD], shelf, tmp_path), f"--output_dir={tmp_path}"]
    words += ["--noprogress", "--checks=none", "--attacks=fgsm"]
    assert evaluate.run(words) in (0, 5)
    before = snapshot(tmp_path)
    capsys.readouterr()
    judge(evaluate.run([*words, "--seed=1"]), capsys.readouterr().err, STORAGE, "other settings (seed)")
    assert snapshot(tmp_path) == before


def test_without_output_dir_other_settings_get_a_directory_of_their_own(shelf, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", *filled([MODEL, GOOD], shelf, tmp_path), "--noprogress", "--checks=none"]
    words.append("--attacks=clean")
    for more, place in (
        ([], "good"),
        (["--seed=1"], "good-2"),
        (["--seed=2"], "good-3"),
        (["--seed=1"], "good-2"),
    ):
        assert evaluate.run([*words, *more]) in (0, 5)
        assert f"report: evaluation/{place}/report.html" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == ["good", "good-2", "good-3"]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
