"""Holds: the page opens offline, escapes every text, says the right sentence, and draws what it should."""

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest

from fairat_tf import model_card
from fairat_tf.evaluation import groups, summary
from fairat_tf.evaluation.attacking import Outcome
from fairat_tf.reporting import charts, console, files, gallery, group_sections, page, sections, wording

NAMES = ("cat", "<script>alert(1)</script>", 'a "very" long & winding name of a class that goes on', "dog")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_VOID = {"meta", "img", "br", "hr", "wbr", "rect", "line", "circle"}


def _result(classes=NAMES, each=50, gates=True):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(classes)), each)
    level = np.linspace(0.9, 0.1, len(classes))[labels]
    outcomes = []
    right = np.ones(len(labels), bool)
    for name, factor in (("clean", 1.0), ("fgsm", 0.8), ("pgd20", 0.6)):
        right = right & (generator.random(len(labels)) < level * factor + 0.1)
        taken = np.where(right, labels, (labels + 1) % len(classes))
        outcomes.append(Outcome(name, np.arange(len(labels)), right, taken, 1.0))
    result = summary.summarise(
        outcomes,
        labels,
        classes,
        8 / 255,
        "linf",
        0,
        {"path": "<b>m</b>.keras"},
        {"name": "<i>made up</i>", "split": "test"},
    )
    result["groups"] = groups.by_group(result, np.arange(len(labels)) % 2, "<u>side</u>", ("<l>", "r"))
    result["verdict"] = {
        "status": "suspicious",
        "per_class": {},
        "checks": [
            {"name": "zero gradients", "question": "Why <not>?", "outcome": "warn", "message": "m < n",
             "classes": [classes[1]]},
            {"name": "square wins", "question": "q", "outcome": "not run", "message": "none", "classes": []},
        ],
    }  # fmt: skip
    result["curve"] = {"attack": "pgd20", "examples": 40, "points": [
        {"epsilon": e / 255, "accuracy": 1 - e / 10, "ci95": [max(0.9 - e / 10, 0), 1 - e / 12],
         "worst_class": 0.5 - e / 20}
        for e in range(0, 10, 3)]}  # fmt: skip
    result["command"] = "python -m fairat_tf.evaluate --model='<b>'"
    if gates:
        result["gates"] = [{"gate": "pgd20.gap<=0.1", "passed": False, "message": "gap <too> wide"}]
    return result


def _shown():
    image = gallery.data_uri(np.random.default_rng(0).random((8, 8, 3)))
    return [gallery.Shown(NAMES[1], NAMES[0], image, image, image)] * 3


class _Checker(html.parser.HTMLParser):
    """Collects tags, attributes and text, and that tags nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        assert not any(key.startswith("on") for key, _ in attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def _checked(text):
    checker = _Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def test_the_page_is_whole_escaped_and_offline():
    text = page.render(_result(), _shown())
    checker = _checked(text)
    assert not {"script", "link", "iframe", "object", "i "} & set(checker.tags) and "alert(1)" in "".join(
        checker.text
    )
    assert all(link.startswith("data:image/png;base64,") for link in checker.links)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text
    for raw in ("<b>m</b>", "<i>made up</i>", "<u>side</u>", "gap <too>", "m < n", "Why <not>"):
        assert raw not in text


def test_every_section_is_there_and_may_be_missing():
    text = page.render(_result(), _shown())
    for heading in ("Required bounds", "Accuracy by class", "All attacks", "How far does",
                    "turned into", "Examples",
                    "Can the attack be believed? suspicious", "Threat model", "How to repeat"):  # fmt: skip
        assert heading in text
    bare = _result(gates=False)
    del bare["groups"], bare["curve"]
    assert "Required bounds" not in page.render(bare)


def test_the_sentence_names_the_worst_class_and_the_doubt():
    sentences = wording.summary(_result(("cat", "bird", "ship", "dog")))
    assert sentences[0].startswith("Some checks raise doubts")
    assert "least protected class is dog" in sentences[2] and "best protected is cat" in sentences[2]
    assert sentences[3] == "Below the average by more than chance explains: dog."


def test_where_all_is_right_the_last_attack_is_told_and_no_class_is_called_weaker():
    labels, right = np.arange(40) % 2, np.ones(40, bool)
    outcomes = [Outcome(name, np.arange(40), right, labels, 1.0) for name in ("clean", "fgsm", "pgd20")]
    result = summary.summarise(outcomes, labels, ("cat", "dog"), 8 / 255, "linf", 0)
    assert summary.strongest(result) == "pgd20"
    sentences = " ".join(wording.summary(result))
    assert "(pgd20)" in sentences and "protected alike, with 100 % of their images" in sentences
    assert "least protected" not in sentences
    assert "Fewer than 30 images of classes cat (20), dog (20): their figures are rough." in sentences
    assert (
        summary.strongest(summary.summarise(outcomes[:1], labels, ("cat", "dog"), 0.1, "linf", 0)) == "clean"
    )


def test_the_console_tells_what_was_required_and_whether_an_attack_was_checked():
    result = _result()
    met = {"gate": "fgsm.average>=0.2", "passed": True, "message": "fgsm average: 32.0 %, required >= 20 %"}
    result["gates"].append(met)
    text = " ".join(console.classwise_table(result).split())
    assert "gate missed: gap <too> wide" in text and "gate met: fgsm average: 32.0 %" in text
    assert "no check was made" not in text
    result["verdict"] = {"status": "not checked", "checks": []}
    assert "no check was made of whether these attacks work" in " ".join(
        console.classwise_table(result).split()
    )


def test_a_class_of_two_images_is_told_as_such_everywhere():
    labels = np.repeat([0, 1, 2], [100, 40, 2])
    outcomes = [Outcome("clean", np.arange(142), labels < 2, labels, 1.0)]
    result = summary.summarise(outcomes, labels, ("common", "rare", "tiny"), 8 / 255, "linf", 0)
    told, remark = wording.summary(result), "ewer than 30 images of class tiny (2): its figures are rough"
    assert "tiny, with 0 of its 2 images being right (95 % interval 0.0 to" in " ".join(told)
    assert f"F{remark}." in told and f"f{remark}" in console.classwise_table(result)
    assert 'tiny <small class="soft">(2 images)</small>' in page.render(result)
    assert f"; f{remark}." in model_card._results(result)


def test_the_sentence_names_the_worst_group_and_whether_it_is_chance():
    result = _result(("cat", "bird", "ship", "dog"))
    column = np.where(np.arange(200) % 50 < 3, 2, np.arange(200) % 2)
    right = np.where(column == 2, np.arange(200) % 3 == 0, column == 1)
    result["per_example"]["correct/pgd20"] = right.astype(np.int8)
    result["attacks"]["pgd20"]["accuracy"] = float(right.mean())
    result["attacks"]["fgsm"]["accuracy"] = 0.9
    result["groups"] = groups.by_group(result, column, "Male", ("no", "yes", "unknown"))
    last = wording.summary(result)[-1]
    assert last.startswith("The least protected group is Male: no, with 0 of its 92 images staying right")
    assert last.endswith("Below the average by more than chance explains: Male: no.")


def test_every_group_is_shown_with_its_size():
    result = _result()
    column = np.where(np.arange(200) < 5, 0, 2)
    result["groups"] = groups.by_group(result, column, "Male", ("<no>", "none", "yes"))
    text = group_sections.groups(result)
    _checked(text)
    for shown in ("Male: &lt;no&gt;<br><small class=\"soft\">5 images, few<",
                  "Male: none<br><small class=\"soft\">0 images, few<", "no images",
                  "Male: yes<br><small class=\"soft\">195 images<"):  # fmt: skip
        assert shown in text
    assert text.count("<tr>") == 1 + len(NAMES) and text.count("<td>") == 3 * len(NAMES)
    right = result["groups"]["attacks"]["pgd20"]["per_class_and_group"]["cat"]["yes"]
    assert right["total"] == 45
    assert f'<td>{100 * right["accuracy"]:.1f}<br><small class="soft">45</small></td>' in text


def test_many_groups_go_down_the_table():
    result = _result()
    result["groups"] = groups.by_group(result, np.arange(200) % 30, "age")
    text = group_sections.groups(result)
    assert text.count("<tr>") == 31 and text.count("<td>") == 30 * len(NAMES)
    assert max(map(len, console.classwise_table(result).splitlines())) <= 80


def test_a_result_without_groups_leaves_no_table_of_older_ones(tmp_path):
    result = _result()
    files.write(result, tmp_path)
    lines = (tmp_path / "groups.csv").read_text().splitlines()
    assert lines[0].startswith("attack,<u>side</u>,class,accuracy") and len(lines) == 1 + 3 * 5 * 2
    del result["groups"]
    files.write(result, tmp_path)
    assert not (tmp_path / "groups.csv").exists()


def test_classes_below_the_average_need_more_than_chance():
    rows = {"a": {"correct": 50, "total": 100}, "b": {"correct": 45, "total": 100}}
    assert wording.clearly_below({"per_class": rows, "accuracy": 0.475}) == []
    rows["b"]["correct"] = 20
    assert wording.clearly_below({"per_class": rows, "accuracy": 0.35}) == ["b"]


def test_bars_are_as_long_as_their_values():
    text = charts.bar(0.42, (0.39, 0.45), "robust", 0.5)
    assert (
        'class="robust" width="42.00%"' in text
        and 'x1="39.00%" x2="45.00%"' in text
        and 'x1="50.00%"' in text
    )


def test_lines_put_values_where_they_belong():
    text = charts.lines({"a": [(0, 0.0), (4, 1.0)]}, "x")
    # frame: 9 % to 97 % across, 86 % (value 0) to 6 % (value 1) down
    assert 'x1="9.00%" y1="86.00%" x2="97.00%" y2="6.00%"' in text
    assert charts.lines({}, "x") == ""


def test_many_classes_list_the_largest_confusions():
    text = sections.confusion(_result(tuple(f"class {i}" for i in range(30)), each=6))
    assert "turned into" in text and text.count("<tr>") == 21


def test_training_curves_ignore_broken_lines(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"epoch": 0, "loss": 1.5, "val_accuracy": 0.2}\nbroken\n{"epoch": 1, "loss": NaN}\n[]\n'
    )
    text = sections.training(tmp_path)
    assert "val_accuracy" in text and "loss" in text
    assert sections.training(tmp_path / "nowhere") == "" and sections.training(None) == ""


def test_perturbations_are_stretched_around_grey():
    change = np.array([[[0.02, -0.02, 0.0]]])
    np.testing.assert_allclose(gallery.visible(change), [[[1.0, 0.0, 0.5]]])
    np.testing.assert_allclose(gallery.visible(change * 0), 0.5)


def test_the_console_fits_80_columns_and_marks_the_worst():
    text = console.classwise_table(_result())
    assert max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if line.startswith("dog"))
    assert row.count("<") == 3


def test_many_attacks_go_below_each_other():
    result = _result()
    for place in range(9):
        name = f"attack-with-a-long-name-{place}"
        result["attacks"][name], result["fairness"][name] = (
            result["attacks"]["fgsm"],
            result["fairness"]["fgsm"],
        )
    text = console.classwise_table(result)
    assert max(map(len, text.splitlines())) <= 80 and text.count("worst class ") > 12


def test_files_round_trip_and_csv(tmp_path):
    result = _result()
    files.write(result, tmp_path)
    again = files.read(tmp_path, arrays=True)
    assert again["attacks"] == files.finite(result["attacks"])
    np.testing.assert_array_equal(
        again["per_example"]["correct/pgd20"], result["per_example"]["correct/pgd20"]
    )
    lines = (tmp_path / "evaluation.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 5 and lines[0].startswith("attack,class,accuracy,ci95_low")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, False), (500, True)])
def test_a_browser_draws_it(tmp_path, width, dark):
    from PIL import Image

    path = page.write(_result(), tmp_path, _shown())
    picture = tmp_path / "page.png"
    scheme = (
        ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    )
    subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
         "--disable-sync",
         "--disable-background-networking", "--disable-component-update",
         f"--user-data-dir={tmp_path / 'profile'}",
         *scheme, f"--screenshot={picture}", f"--window-size={width},2400", path.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.shape[1] == width
    paper = pixels[2, 2]
    assert (paper.max() < 64) if dark else (paper.min() > 240)
    # Bars of both colours and text are there, and nothing reaches the right edge (no overflow).
    colours = {"robust": (0x6A, 0xAA, 0xF0), "worst": (0xF2, 0x93, 0x5C)} if dark else {
        "robust": (0x25, 0x63, 0xA8), "worst": (0xB4, 0x40, 0x0F)}  # fmt: skip
    for colour in colours.values():
        assert (np.abs(pixels - colour).max(axis=2) < 12).sum() > 500
    assert np.abs(pixels[:, -6:] - paper).max() < 24


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_groups_fit_a_telephone(tmp_path):
    """Chromium's windows are 500 pixels wide at least, so the page stands in a frame of 390."""
    from PIL import Image

    result = _result()
    names = ("outdoors_at_night_in_the_rain_without_any_space", "fog", "snow", "none", "sun")
    result["groups"] = groups.by_group(result, np.arange(200) % 5, "group", names)
    page.write(result, tmp_path, _shown())
    frame = tmp_path / "frame.html"
    style = "border:0;width:390px;height:5000px"
    frame.write_text(f'<body style="margin:0;background:#0f0"><iframe src="report.html" style="{style}">')
    picture = tmp_path / "frame.png"
    subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
         f"--user-data-dir={tmp_path / 'profile'}", "--blink-settings=preferredColorScheme=1",
         f"--screenshot={picture}", "--window-size=600,5000", frame.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert (pixels[:, 395] == (0, 255, 0)).all()
    assert (np.abs(pixels[:, :390] - (0x25, 0x63, 0xA8)).max(axis=2) < 12).sum() > 500
    assert (pixels[:, 382:390] > 230).all()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
