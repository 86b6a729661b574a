"""The documentation does what it says: commands parse, links lead somewhere, examples run.

Every command in README.md and docs/ is parsed by the program that it names; the pages on own data and on
adding a method or an attack are carried out, with less data and fewer steps.
"""

import ast
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import fairat_tf
from fairat_tf import attacks, methods, rng, train
from fairat_tf.data.dataset import Dataset
from tests import support
from tests.documented import (
    ALL,
    BLOCK,
    LINK,
    PAGES,
    ROOT,
    blocks,
    command_of,
    commands,
    main_of,
    parse,
    recipe_of,
    title,
)

GUIDES = [page for page in PAGES if page.name == "README.md" or page.parent == ROOT / "docs"]
PROGRAMS = {"tensorboard", "pip", "git", "cd", "bazel", "export", "source"}  # known, and not ours to parse
SMALL = ["--attack_steps=1", "--validation_steps=1", "--epochs=1", "--notensorboard", "--width=4"]


def sh_lines(page):
    text = re.sub(r"\\\n\s*", " ", "\n".join(blocks(page, "sh")))
    return [words for words in (shlex.split(line, comments=True) for line in text.splitlines()) if words]


@pytest.mark.parametrize(("page", "words"), ALL, ids=title)
def test_every_command_parses(page, words, added, monkeypatch):
    if words[0].startswith("./tools/"):
        assert (ROOT / words[0]).is_file() and (ROOT / words[0]).stat().st_mode & 0o111
        return
    for word in words:
        if word.startswith("--flagfile="):
            assert (ROOT / word.partition("=")[2]).is_file(), f"{page.name}: {word}"
    monkeypatch.chdir(ROOT)
    parse(words)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_line_of_a_sh_block_is_a_command_that_is_known(page):
    for words in sh_lines(page):
        known = words[:2] == ["python", "-m"] or words[0].startswith("./tools/") or words[0] in PROGRAMS
        assert known, f"{page.name}: {' '.join(words)}"


@pytest.mark.parametrize(
    "line",
    ["train --epochz=1", "train --epochs=0", "train --method=fairrat", "evaluate --modle=a", "data --size=3",
     "train svhn", "no_such_command --x=1"],
)  # fmt: skip
def test_a_command_that_does_not_parse_is_found(line):
    with pytest.raises((flags.Error, ValueError, AssertionError, ImportError)):
        parse(["python", "-m", *f"fairat_tf.{line}".split()])


def test_there_are_commands_of_every_program():
    used = {words[2].removeprefix("fairat_tf.") for _, words in ALL if words[0] == "python"}
    assert {"train", "evaluate", "compare", "data", "verify", "selftest"} <= used


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_relative_links_lead_to_files(page):
    targets = LINK.findall(BLOCK.sub("", page.read_text()))
    local = [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing, f"{page.relative_to(ROOT)} links to {missing}"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_python_in_the_pages_names_what_exists(page, added):
    for body in blocks(page, "python"):
        if body.startswith(" "):
            ast.parse(f"x = {{{body}}}")
            continue
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("fairat_tf"):
                module = importlib.import_module(node.module)
                for name in node.names:
                    found = hasattr(module, name.name)
                    assert found or importlib.import_module(f"{node.module}.{name.name}")


# ---- pages that are carried out -----------------------------------------------------------------------


def test_the_python_of_the_readme(monkeypatch, capsys):
    (code,) = blocks(ROOT / "README.md", "python")
    classes = tuple("0123456789")
    splits = [support.tiny_split(60, seed, classes=10, shape=(32, 32, 3)) for seed in (0, 1)]
    monkeypatch.setattr(fairat_tf.data, "load", lambda name: Dataset(name, classes, *splits))
    for written, smaller in (("batch_size=128", "batch_size=16"), ("steps=10", "steps=1")):
        assert written in code
        code = code.replace(written, smaller)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert np.isfinite(names["model"].history.history["val_robust_accuracy"]).all()
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10


def run_in(folder, words, monkeypatch):
    """Runs a command of the documentation in a folder; returns its exit code."""
    monkeypatch.chdir(folder)
    argv = words[2:]
    if words[2] == "fairat_tf.train":
        monkeypatch.setattr(sys, "argv", [*argv, *SMALL, "--evaluate="])
        return train.run()
    if words[2] == "fairat_tf.evaluate":
        argv += ["--checks=none", "--noprogress", "--attacks=clean,fgsm"]
    return command_of(words[2].removeprefix("fairat_tf."), argv).run(main_of(words[2]), argv)


def test_own_data_from_the_files_to_the_evaluation(tmp_path, monkeypatch, capsys):
    page = ROOT / "docs/own_data.md"
    monkeypatch.chdir(tmp_path)
    for body in blocks(page, "python"):
        exec(compile(body, page.name, "exec"), {})
    done = []
    for words in commands(page):
        data_sets = re.findall(r"(?:^|=)((?:folder|npz):\S+)", "\n".join(words), re.M)
        name = data_sets[0] if data_sets else ""
        if name.startswith(("folder:", "npz:")):
            assert run_in(tmp_path, words, monkeypatch) == 0, capsys.readouterr().err[-2000:]
            done.append((words[2].removeprefix("fairat_tf."), name.partition(":")[0]))
    assert {("data", "folder"), ("train", "folder"), ("evaluate", "folder")} <= set(done)
    assert {("data", "npz"), ("train", "npz"), ("evaluate", "npz")} <= set(done)
    shown = capsys.readouterr().out
    assert "2 classes, images 32x32x3" in shown and "3 classes, images 28x28x1" in shown
    assert "group columns: age" in shown
    assert (tmp_path / "sheet.png").is_file() and (tmp_path / "runs/own/evaluation/report.html").is_file()


def test_the_tags_of_the_tensorboard_page_exist():
    method = support.make_method("fairat")
    tags = {f"train/{name}" for name in method.results(method.train_metrics)}
    tags |= {f"validation/{name}" for name in method.results(method.validation_metrics)}
    tags |= {"validation/premise_entropy", "validation/premise_cross_entropy"}  # train_test reads one
    told = set(re.findall(r"`((?:train|validation)/\w+)`", (ROOT / "docs/tensorboard.md").read_text()))
    assert len(told) >= 14 and told <= tags
    classwise = {metric.name for metric in (*method.train_metrics, *method.validation_metrics)}
    charts = re.findall(r"`(\w+) by class`", (ROOT / "docs/tensorboard.md").read_text())
    assert charts and set(charts) <= classwise


def trained(name, **options):
    """Returns (first loss, weights after three steps) of a method on the tiny network."""
    method = support.make_method(name, **options)
    split = support.tiny_split()
    logs = [method.train_step(support.batch_of(split, 16, 16 * i)) for i in range(3)]
    return float(logs[0]["loss"]), method.network.get_weights()


def test_the_added_method_is_what_its_page_says(added):
    plain, weights = trained("pgd_at")
    loss, same = trained("focal_at", focal_gamma=0.0)
    assert loss == plain
    for a, b in zip(same, weights, strict=True):
        np.testing.assert_array_equal(a, b)
    method = support.make_method("focal_at", focal_gamma=2.0)
    batch = methods.get("focal_at").training_batch(method, *unpacked())
    values, logits = (tensor.numpy().astype(np.float64) for tensor in method.per_example_loss(batch))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = (p / p.sum(1, keepdims=True))[np.arange(16), batch.labels]
    np.testing.assert_allclose(values, (1 - p) ** 2 * -np.log(p), rtol=2e-5)


def unpacked():
    from fairat_tf.methods.batches import unpack

    return unpack(support.batch_of(support.tiny_split())), rng.key(0, "test")


def test_the_added_method_has_flags_help_and_ranges(added):
    text = parse(["python", "-m", "fairat_tf.train", "--method=focal_at", "--help"])
    assert "--focal_gamma" in text and "0 is PGD-AT [2.0]" in text
    with pytest.raises(ValueError, match=r"focal_gamma must be in \[0, inf\); received -1.0"):
        parse(["python", "-m", "fairat_tf.train", "--method=focal_at", "--focal_gamma=-1"])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_added_attack_is_what_its_page_says(norm, added):
    generator = np.random.default_rng(0)
    images = generator.uniform(0.3, 0.7, (30, 8, 8, 3)).astype(np.float32)
    weights = generator.normal(size=(8 * 8 * 3, 2)).astype(np.float32)

    def logits_fn(points):
        return tf.reshape(points - 0.5, [-1, 8 * 8 * 3]) @ weights

    # With two classes the gradient of a linear network is everywhere along the difference of its weights.
    labels = np.argmax(logits_fn(images), -1).astype(np.int32)
    away = (weights[:, 1 - labels] - weights[:, labels]).T.reshape(images.shape)
    length = np.sqrt((away**2).sum((1, 2, 3), keepdims=True))
    step = np.sign(away) if norm == "linf" else away / length
    attack = attacks.get("smooth-fgsm")(epsilon=0.02, norm=norm)
    adversarial = attack(logits_fn, tf.constant(images), tf.constant(labels), rng.key(0, "test"))
    np.testing.assert_allclose(adversarial, images + 0.02 * step, atol=1e-6)


@pytest.mark.slow
def test_both_pages_carried_out_in_a_copy_pass_the_batteries(tmp_path):
    for name in ("fairat_tf", "tests", "docs", "flags", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".*cache"))
        else:
            shutil.copy(source, tmp_path)
    for page, folder in (("adding_a_method.md", "methods"), ("adding_an_attack.md", "attacks")):
        name, text, line = recipe_of(page)
        (tmp_path / f"{name.replace('.', '/')}.py").write_text(text)
        table = tmp_path / "fairat_tf" / folder / "__init__.py"
        before, after = table.read_text().split("    {\n", 1)
        table.write_text(before + "    {\n" + line + after)
    cases = tmp_path / "tests/attacks/conformance_test.py"
    (case,) = [
        code
        for code in blocks(ROOT / "docs/adding_an_attack.md", "python")
        if re.match(r' +"[\w-]+": \{', code)
    ]
    cases.write_text(cases.read_text().replace("CASES = {\n", f"CASES = {{\n{case}", 1))
    files = ["tests/methods/conformance_test.py", "tests/attacks/conformance_test.py"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "focal_at or smooth-fgsm or every_registered", *files],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 15


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
