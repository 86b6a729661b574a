"""Every command of the documentation is carried out, on little data and with small networks.

DIR is a folder with SVHN's and CIFAR's original files, made here; `street_digits`, `celeb_a` and what a page
takes for granted (a trained run, a saved model, evaluations) are stand-ins. Training commands go as far as a
timed gradient pass by default, and to the end behind `slow`, with all others in the order of their page.
"""

import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fairat_tf
from fairat_tf import evaluate, picture, train
from fairat_tf.data.dataset import NO_YES, Dataset, Split
from fairat_tf.data.splitting import limited
from tests import support
from tests.documented import ALL, command_of, main_of, title

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {
    "--download": "needs the network",
    "fairat_tf.selftest": "takes minutes; tests/evaluation/verdict_test.py and tools/test --slow",
    "./tools/": "tests/environment_test.py",
}
SMALL = [
    "--width=2",
    "--batch_size=8",
    "--attack_steps=1",
    "--validation_steps=1",
    "--epochs=1",
    "--nodownload",
]
SMALL += ["--validation_fraction=0.2", "--evaluate_examples=10", "--limit_train=40", "--notensorboard"]
QUICK = ["--examples=20", "--checks=none", "--noprogress", "--save_examples"]
COMMANDS = [(page, words) for page, words in ALL if not any(part in " ".join(words) for part in ELSEWHERE)]


def program(words):
    return words[2].removeprefix("fairat_tf.")


def of(name):
    return [(page, words) for page, words in COMMANDS if program(words) == name]


def digits(size=60, classes=10, side=32, groups=()):
    split = support.tiny_split(size, classes=classes, shape=(side, side, 3))
    columns = {name: (np.arange(size) // classes % 2).astype(np.int32) for name in groups}
    return Split(split.images, split.labels, columns)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """Drawn and downloaded data sets, small."""
    real = fairat_tf.data.load
    names = tuple("0123456789")

    def load(name, **options):
        if name == "street_digits":
            train = limited(digits(), options.get("limit_train", 0), options.get("seed", 0), 10)
            return Dataset(name, names, train, digits(20))
        if name.startswith("celeb_a"):
            faces = digits(40, 2, 64, ["Male"])
            return Dataset(name, NO_YES, faces, faces, group_names={"Male": NO_YES})
        return real(name, **options)

    monkeypatch.setattr(fairat_tf.data, "load", load)


@pytest.fixture
def desk(tmp_path, originals, monkeypatch):
    """A folder in which the commands are given, with what they take for granted."""
    (tmp_path / "flags").symlink_to(ROOT / "flags")
    shutil.copytree(ROOT / "docs/results", tmp_path / "docs/results")
    monkeypatch.chdir(tmp_path)
    support.tiny_network(classes=10, shape=(32, 32, 3)).save("plain.keras")
    support.tiny_network(classes=10, shape=(32, 32, 3)).export("export", verbose=False)
    support.tiny_network(classes=2, shape=(64, 64, 3)).save("faces.keras")
    for kind, i in np.ndindex(2, 30):
        path = tmp_path / f"pictures/{'ab'[kind]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 24, 3), 60 + 100 * kind + i, np.uint8)).save(path)
    return originals


def given(words, folder):
    """Returns the arguments as a person would write them who has the files in `folder`."""
    filled = [re.sub(r"^(--data_dir=)DIR$", rf"\1{folder}", word) for word in words[2:]]
    filled = [word.replace("folder:PATH", "folder:pictures") for word in filled]
    filled = [word for word in filled if not word.startswith("--cpu_devices=")]  # conftest has made them
    filled = [word.replace("RUN_OR_KERAS_FILE_OR_SAVEDMODEL", "plain.keras") for word in filled]
    if "..." in filled:
        filled.remove("...")
        filled += ["--model=plain.keras", "--dataset=cifar10", f"--data_dir={folder}", "--output_dir=gated"]
        filled += ["--attacks=clean,cw20"]
    if "--dataset=cifar10" in filled and not any(word.startswith("--data_dir") for word in filled):
        filled.append(f"--data_dir={folder}")
    return filled


def run_training(words, folder, monkeypatch, *more):
    monkeypatch.setattr(sys, "argv", [*given(words, folder), *SMALL, *more])
    return train.run()


@pytest.mark.parametrize(("page", "words"), of("train"), ids=title)
def test_training_commands_begin(page, words, desk, added, monkeypatch, capsys):
    if "folder:birds" in " ".join(words) or "npz:" in " ".join(words):
        return  # tests/documentation_test.py trains to the end
    code = run_training(words, desk, monkeypatch, "--dry_run")
    shown = capsys.readouterr()
    assert code == 0, shown.err[-2000:]
    assert "--help" in words or re.search(r"time +about", shown.out)


def test_the_picture_of_the_readme_is_drawn_by_its_command(desk, capsys):
    ((_, words),) = of("picture")
    assert picture.run(given(words, desk)) == 0, capsys.readouterr().err
    drawn, kept = (
        np.asarray(Image.open(p), float) for p in ("docs/classwise.png", ROOT / "docs/classwise.png")
    )
    assert drawn.shape == kept.shape and np.abs(drawn - kept).mean() < 2.0
    assert (ROOT / "docs/classwise.png").stat().st_size < 100_000


@pytest.mark.parametrize(("page", "words"), of("data"), ids=title)
def test_data_commands(page, words, desk, capsys):
    if "folder:" in " ".join(words) or "npz:" in " ".join(words):
        return  # tests/documentation_test.py
    argv = given(words, desk)
    assert command_of("data", argv).run(main_of("fairat_tf.data"), argv) == 0, capsys.readouterr().err
    assert "10 classes, images 32x32x3" in capsys.readouterr().out


def taken_for_granted(page, folder, monkeypatch):
    """Makes what a page presupposes from other pages: a run, and evaluations of it with several seeds."""
    if page.name in ("adding_an_attack.md", "evaluate.md"):
        monkeypatch.setattr(
            sys, "argv", ["train", "--flagfile=flags/quick.flags", "--run_dir=runs/first", *SMALL]
        )
        assert train.run() == 0
    if page.name == "methods_small.md":  # the teacher that the study trains
        shutil.copytree("export", "runs/float32/trades-0/export")
    if page.name == "fairat_cifar10.md":  # what tools/run_step collects
        shutil.copy("plain.keras", "fairat.keras")
    if page.name == "evaluate.md":
        options = ["--model=plain.keras", "--dataset=cifar10", f"--data_dir={folder}", "--epsilon=2/255"]
        argv = ["evaluate", *options, *QUICK, "--attacks=clean,fgsm,pgd20,cw20", "--output_dir=natural"]
        assert evaluate.run(argv) in (0, 5)
        for name in ("a1", "a2", "a3", "b1", "b2", "b3"):
            shutil.copytree("natural", f"runs/{name}")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", sorted({page for page, _ in COMMANDS}), ids=title)
def test_all_commands_of_a_page_in_order(page, desk, added, monkeypatch, capsys):
    if page.name == "own_data.md":
        pytest.skip("tests/documentation_test.py carries it out")
    taken_for_granted(page, desk, monkeypatch)
    for words in (words for where, words in COMMANDS if where == page):
        name, argv = program(words), given(words, desk)
        if name == "train":
            code = run_training(words, desk, monkeypatch)
        elif name == "evaluate":
            code = evaluate.run([*argv, *QUICK])
            code = 0 if code == 5 or (code == 4 and "--gate" in " ".join(words)) else code
        else:
            code = command_of(name, argv).run(main_of(words[2]), argv)
        assert code == 0, f"{' '.join(words)}\n{capsys.readouterr().err[-3000:]}"


# ---- the picture itself -----------------------------------------------------------------------------------


def result(**accuracies):
    """Returns what `classwise_png` reads of a result: attack -> accuracies of the classes a, b, ..."""

    def of_attack(values):
        per_class = {"abc"[i]: {"accuracy": v, "ci95": [v, v]} for i, v in enumerate(values)}
        worst = min(per_class, key=lambda name: per_class[name]["accuracy"])
        lowest = {"name": worst, "accuracy": min(values)}
        return {"accuracy": float(np.mean(values)), "worst_class": lowest, "per_class": per_class}

    return {"attacks": {name: of_attack(values) for name, values in accuracies.items()}}


def bar_lengths(png, colour):
    """Returns the widths, in pixels and by line, of the runs of a colour."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    counts = (np.abs(pixels - wanted).sum(-1) < 12).sum(1)
    return counts[: int(0.85 * len(counts))]  # without the legend


def test_bars_are_as_long_as_the_accuracies_and_the_worst_is_red():
    from fairat_tf.reporting import picture as drawing

    png = drawing.classwise_png(
        {"one": result(clean=[0.8, 0.6, 0.4], pgd20=[0.5, 0.1, 0.3])}, ("clean", "pgd20")
    )
    clean, robust, red = (
        bar_lengths(png, colour) for colour in (drawing._SHADES[0], drawing._SHADES[1], drawing._WORST)
    )
    unit = clean.max() / 0.8
    assert robust.max() == pytest.approx(0.5 * unit, abs=4) and red.max() == pytest.approx(0.1 * unit, abs=4)
    first, last = np.flatnonzero(red > 2)[[0, -1]]
    assert (robust[first : last + 1] == 0).all() and robust[:first].any() and robust[last + 1 :].any()


@pytest.mark.parametrize(
    ("results", "attacks", "told"),
    [
        ({}, ("clean",), "expected a result"),
        ({"a": result(clean=[0.5, 0.5])}, ("pgd20",), "it holds clean"),
        ({"a": result(clean=[0.5, 0.5])}, ("clean",) * 4, "one to three"),
        ({"a": result(clean=[0.5, 0.5]), "b": result(clean=[0.5] * 3)}, ("clean",), "other classes"),
    ],
)
def test_what_cannot_be_drawn_is_said(results, attacks, told):
    from fairat_tf.reporting import picture as drawing

    with pytest.raises(ValueError, match=told):
        drawing.classwise_png(results, attacks)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
