"""Holds: what page, card and console say follows from the numbers, also where little was measured."""

import re
import types

import numpy as np
import pytest

from fairat_tf import errors, model_card, units
from fairat_tf.callbacks.progress import Progress
from fairat_tf.evaluation import summary
from fairat_tf.evaluation.attacking import Outcome
from fairat_tf.reporting import charts, console, files, page, picture, sections, wording

NAMES = ("cat", "a|b", "golden_retriever_of_the_north")


def _result(attacks=("clean", "pgd20"), names=NAMES, each=40, examples=None, norm="linf", epsilon=8 / 255):
    """The first class is right half as often as the others; under an attack all are right a tenth less."""
    labels = np.repeat(np.arange(len(names)), each)
    place = np.tile(np.arange(each), len(names))
    outcomes = []
    for number, attack in enumerate(attacks):
        share = np.where(labels == 0, 0.4, 0.8) - 0.1 * number
        chosen = np.arange(len(labels)) if number == 0 or examples is None else np.arange(examples)
        outcomes.append(Outcome(attack, chosen, (place < share * each)[chosen], labels[chosen], 1.0))
    dataset = {"name": "made up", "split": "test"}
    return summary.summarise(outcomes, labels, names, epsilon, norm, 0, dataset=dataset)


def test_without_an_attack_nothing_is_said_of_robustness():
    result = _result(("clean",))
    sentences = " ".join(wording.summary(result))
    assert sentences.startswith("No attack was run") and "67 right as they are." in sentences
    assert "least recognised class is cat, with 16 of its 40 images being right" in sentences
    text = page.render(result)
    for word in ("deceive", "protected", "under clean", "staying", "white box"):
        assert word not in text
    assert text.count('<svg class="bar"') == len(NAMES)


@pytest.mark.parametrize(
    ("attacks", "told"),
    [
        (("clean", "square"), "black box"),
        (("clean", "noise", "pgd20"), "white box"),
        (("clean",), "nothing"),
    ],
)
def test_what_the_adversary_knows_is_that_of_the_attacks(attacks, told):
    assert told in wording.knows(attacks)


def test_an_attack_on_a_part_is_told_in_the_first_sentences():
    assert "pgd20 reached 50 of the 120 images" in wording.summary(_result(examples=50))[0]
    assert "reached" not in " ".join(wording.summary(_result()))


def test_the_baseline_tile_is_there_only_where_rho_is_a_number():
    result = _result()
    for value, shown in ((float("nan"), False), (None, False), (0.25, True)):
        result["fairness"]["pgd20"]["rho"] = value
        assert ("rho:" in sections.tiles(result)) == shown and "nan" not in sections.tiles(result)


def test_what_chance_takes_from_the_worst_class_is_told_only_beyond_the_noise_of_the_bootstrap():
    told = [wording.worse_by_chance({"bias": bias, "bias_error": 0.001}) for bias in (-0.02, -0.002, 0.02)]
    assert told == [0.02, 0.0, 0.0]
    alone = _result(each=10)["fairness"]["pgd20"]["worst_class"]["bootstrap"]
    assert 0 < alone["bias_error"] < 0.005


@pytest.mark.parametrize(
    ("norm", "epsilon", "told"),
    [
        ("linf", 8 / 255, "at most 8/255 (3.1 % of the range"),
        ("linf", 1.0, "at most 1 (100 % of the range"),
        ("l2", 0.5, "at most 0.5 in"),
        ("l2", 4.0, "at most 4 in"),
    ],
)
def test_the_radius_is_told_as_people_write_it(norm, epsilon, told):
    assert told in wording.allowed(norm, epsilon)
    assert f"epsilon {units.pixels(epsilon)}" in console.classwise_table(_result(norm=norm, epsilon=epsilon))


def test_the_console_fits_80_columns_whatever_the_worst_class_is_called():
    names = ("golden_retriever_of_the_north", "b", "c")
    text = console.classwise_table(_result(names=names))
    assert max(map(len, text.splitlines())) <= 80 and "(golden_retri…)" in text


@pytest.mark.parametrize("name", ["automobile", "a", "golden_retriever_of_the_north"])
def test_the_line_of_an_epoch_fits_80_columns(name):
    history = types.SimpleNamespace(class_names=("x", name), validation={"robust": np.array([0.9, 0.2])})
    progress = Progress(history)
    progress.set_params({"epochs": 200, "steps": 1})
    logs = {"loss": 1.2345, "val_clean_accuracy": 0.845, "val_robust_accuracy": 0.523}
    line = progress._line(9, {**logs, "val_robust_worst_class": 0.222}, 1234.0)
    assert len(line) <= 79 and line.startswith("epoch  10/200  loss 1.234") and line.endswith("  1234 s")
    assert f"worst 22.2 {name[:3] if len(name) > 3 else name}" in line


def test_the_card_begins_with_the_trust_and_keeps_its_columns():
    result = _result()
    result["attacks"]["pgd20"]["note"] = "a note"
    check = {
        "name": "zero gradients",
        "outcome": "fail",
        "message": "90 % are 0",
        "question": "",
        "classes": [],
    }
    result["verdict"] = {
        "status": "unreliable",
        "checks": [check, {**check, "name": "ok", "outcome": "pass"}],
    }
    text = model_card._results(result)
    trust, _, table = text.partition("| class |")
    assert "unreliable" in trust and "zero gradients (fail): 90 % are 0" in trust and "pgd20: a note" in trust
    assert "* ok" not in trust
    rows = [re.split(r"(?<!\\)\|", line) for line in ("| class |" + table).splitlines() if line]
    assert {len(row) for row in rows} == {5}
    assert model_card._results(_result(("clean",))).startswith(wording.NO_ATTACK)


def test_a_class_without_examples_has_no_bar_in_the_picture():
    labels = np.repeat([0, 2], 30)
    outcome = Outcome("clean", np.arange(60), labels == 0, labels, 1.0)
    result = summary.summarise([outcome], labels, NAMES, 0.1, "linf", 0)

    class Panel:
        def __getattr__(self, name):
            return lambda *arguments, **options: self.calls.update({name: (arguments, options)})

        calls = {}

    picture._draw(Panel(), "x", result, ["clean"], list(NAMES))
    (_, shown, _), options = Panel.calls["barh"]
    assert shown.tolist() == [100.0, 0.0, 0.0]
    assert [ends[1] for ends in options["xerr"]] == [0.0, 0.0]
    assert options["xerr"][1][2] > 5  # a class that is always wrong has an interval


def test_curves_of_one_hue_family_differ_by_their_dashes():
    from fairat_tf.reporting.style import CSS

    (dashed,) = re.findall(r"svg line\.s1,svg line\.s3,svg line\.s5 \{ stroke-dasharray", CSS)
    text = charts.lines({"average": [(1, 0.5), (2, 0.6)], "worst class": [(1, 0.1), (2, 0.2)]}, "epoch")
    legend = text.partition("<figcaption")[2]
    assert dashed and re.findall(r'<line class="(s\d)"', legend) == ["s0", "s1"]


def test_training_curves_count_epochs_from_1(tmp_path):
    lines = ['{"epoch": 0, "val_accuracy": 0.2}', '{"epoch": 2, "val_accuracy": 0.3}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    ticks = re.findall(r'text-anchor="middle">([\d.]+)</text>', sections.training(tmp_path))
    assert ticks[0] == "1" and ticks[-1] == "3"


def test_flags_of_another_evaluation_are_refused(tmp_path):
    files.write(_result(), tmp_path)
    kept = (tmp_path / "evaluation.json").read_bytes()
    files.write(_result(each=60), tmp_path)
    files.read(tmp_path, arrays=True)
    (tmp_path / "evaluation.json").write_bytes(kept)
    with pytest.raises(errors.DataError, match="of another evaluation"):
        files.read(tmp_path, arrays=True)


def test_an_interrupted_write_leaves_the_old_figures(tmp_path, monkeypatch):
    """The JSON is written last; with the arrays of another evaluation beside it, it is refused."""
    files.write(_result(), tmp_path)
    old = (tmp_path / "evaluation.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_table", full)
    with pytest.raises(errors.StorageError):
        files.write(_result(each=60), tmp_path)
    assert (tmp_path / "evaluation.json").read_bytes() == old


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
