"""The pictures of a run: rows of the gallery, shades of the confusion, curves that follow the log."""

import io
import json
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fairat_tf import attacks, methods
from fairat_tf.callbacks import hard_gallery, pictures
from tests import support


def shade_at(picture, row, column, size):
    """Returns the mean brightness beside the middle of a cell, found by the dark frame of the axes."""
    dark = (picture.sum(-1) < 60).astype(int)
    lines = np.flatnonzero(dark.sum(1) > 0.4 * picture.shape[1])
    columns = np.flatnonzero(dark.sum(0) > 0.4 * picture.shape[0])
    top, bottom, left, right = lines[0], lines[-1], columns[0], columns[-1]
    y = top + (bottom - top) * (row + 0.25) / size
    x = left + (right - left) * (column + 0.25) / size
    return picture[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean()


def test_the_confusion_is_in_per_cent_of_the_true_class():
    counts = np.array([[90, 10, 0], [0, 1, 1], [0, 0, 0]])
    picture = pictures.confusion_picture(counts, ("cat", "dog", "bird"))
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    shades = np.array([[shade_at(picture, r, c, 3) for c in range(3)] for r in range(3)])
    assert shades[0, 0] < shades[1, 1] < shades[0, 1] < shades[0, 2]  # 90, 50, 10 and 0 per cent
    assert shades[1, 1] == pytest.approx(shades[1, 2], abs=2)
    assert shades[2].tolist() == pytest.approx([shades[0, 2]] * 3, abs=2)


@pytest.mark.parametrize("name", ["$10_$20", "$5-$10", "a_b^c", r"\alpha"])
def test_names_are_shown_letter_by_letter(name):
    picture = pictures.confusion_picture(np.eye(2), (name, "b"))
    assert not np.array_equal(picture, pictures.confusion_picture(np.eye(2), ("c", "b")))
    rows = [np.zeros((1, 8, 8, 3))]
    assert pictures.gallery_picture(rows, [name]).shape == pictures.gallery_picture(rows, ["b"]).shape


def test_many_classes_have_no_names():
    assert pictures.confusion_picture(np.eye(100), tuple(map(str, range(100)))).shape[2] == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gallery_shows_each_image_in_its_place(channels):
    levels = np.array([[0.2, 0.4], [0.6, 0.8], [0.0, 1.0]])
    rows = [np.broadcast_to(row[:, None, None, None], (2, 8, 8, channels)) for row in levels]
    picture = pictures.gallery_picture(rows, ["hard", "new view", "attacked"])
    for level in levels.ravel()[:4]:
        value = round(255 * level)
        found = np.argwhere((picture == value).all(-1))
        assert len(found) > 3000, level  # a field of its own grey
    where = {level: np.argwhere((picture == round(255 * level)).all(-1)).mean(0) for level in (0.2, 0.4, 0.6)}
    assert where[0.2][1] < where[0.4][1] and where[0.2][0] < where[0.6][0]


@pytest.fixture
def shown(monkeypatch):
    """Returns a function: options -> the rows of HardGallery's picture for a batch of 64, [rows][columns]."""
    kept = []
    monkeypatch.setattr(
        hard_gallery,
        "gallery_picture",
        lambda rows, names: kept.append(rows) or np.zeros((4, 4, 3), np.uint8),
    )

    def rows_of(**options):
        method = support.make_method("fairat", attack=attacks.get("pgd")(epsilon=0.01, steps=1), **options)
        data = support.batch_of(support.tiny_split(), 64)
        board = types.SimpleNamespace(writer=tf.summary.create_noop_writer())
        gallery = hard_gallery.HardGallery(board, data)
        gallery.set_model(method)
        gallery.on_epoch_end(0)
        return kept.pop()

    return rows_of


@pytest.mark.parametrize("group, size", [(64, 64), (24, 24), (8, 32)])
def test_the_gallery_takes_whole_groups(shown, group, size, monkeypatch):
    sizes = []
    plain = methods.get("fairat").training_batch
    monkeypatch.setattr(
        methods.get("fairat"),
        "training_batch",
        lambda self, batch, seed: sizes.append(len(batch.labels)) or plain(self, batch, seed),
    )
    assert shown(hard_group=group, augmentation="none")[0].shape[0] == 8
    assert sizes == [size]


@pytest.mark.parametrize("combine", ["replace", "append"])
def test_the_gallery_pairs_each_hard_example_with_its_own_view(shown, combine):
    old, view, _ = shown(augmentation="none", easy_fraction=0.5, hard_combine=combine, hard_fraction=0.25)
    np.testing.assert_allclose(old, view, atol=1e-6)
    assert np.ptp(old.mean((1, 2, 3))) > 0.01


def test_the_curves_follow_the_log(tmp_path):
    log = tmp_path / "metrics.jsonl"
    names = ("clean_accuracy", "robust_accuracy", "clean_worst_class", "robust_worst_class")

    def drawn(values):
        lines = [{"loss": 2.0 - v} | {f"val_{name}": v for name in names} for v in values]
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return np.asarray(Image.open(io.BytesIO(pictures.curves_png(log))).convert("RGB"), int)

    low, high = drawn([0.1, 0.1]), drawn([0.9, 0.9])
    assert low.shape == high.shape == (450, 800, 3)
    red = [np.argwhere((p[..., 0] > 180) & (p[..., 1:].max(-1) < 80))[:, 0] for p in (low, high)]
    # the red line of the robust worst class lies high or low; the legend above it is in both
    assert np.median(red[0]) > np.median(red[1]) + 200


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
