"""Held: .npz files with and without splits, groups and names; pickles and unusable values are refused."""

import pathlib
from typing import Any

import numpy as np
import pytest

from fairat_tf import data
from fairat_tf.data.dataset import DataError, Dataset

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(20) % 2


def load(folder: pathlib.Path, **arrays: Any) -> Dataset:
    np.savez(folder / "my.npz", **arrays)
    return data.load(f"npz:{folder / 'my.npz'}")


def four(**changes: Any) -> dict[str, Any]:
    given = {
        "train_images": IMAGES,
        "train_labels": LABELS,
        "test_images": IMAGES[:4],
        "test_labels": LABELS[:4],
    }
    return {**given, **changes}


def test_splits_groups_and_names(tmp_path: pathlib.Path) -> None:
    age, sex = np.arange(20) * 3, LABELS == 1
    more = {"train_groups_age": age, "test_groups_sex": sex[:4], "class_names": np.array(["cat", "dog"])}
    more |= {"val_images": IMAGES[4:6], "val_labels": LABELS[4:6]}
    found = load(tmp_path, **four(**more))
    assert found.class_names == ("cat", "dog")
    np.testing.assert_array_equal(found.train.images, IMAGES)
    np.testing.assert_array_equal(found.train.labels, LABELS)
    assert found.train.labels.dtype == np.int32
    assert found.train.groups["age"].tolist() == age.tolist()
    assert found.test.groups["sex"].tolist() == [0, 1, 0, 1]
    assert found.validation is not None
    np.testing.assert_array_equal(found.validation.images, IMAGES[4:6])


def test_a_group_column_that_would_not_be_read_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="train_groups_age would not be read; .* called groups_NAME"):
        load(tmp_path, images=IMAGES, labels=LABELS, train_groups_age=LABELS)
    with pytest.raises(
        DataError, match="groups_age would not be read; .* called train_groups_NAME, test_groups_NAME"
    ):
        load(tmp_path, **four(groups_age=LABELS))


def test_other_arrays_are_named(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    load(tmp_path, images=IMAGES, labels=LABELS, comment=np.array(1))
    assert "arrays that are not read: comment" in caplog.text


def test_a_test_split_beside_the_short_form_is_taken(tmp_path: pathlib.Path) -> None:
    found = load(tmp_path, images=IMAGES, labels=LABELS, test_images=IMAGES[:6], test_labels=LABELS[:6])
    assert (len(found.train), len(found.test), found.test_is_drawn) == (20, 6, False)
    assert load(tmp_path, images=IMAGES, labels=LABELS).test_is_drawn


def test_names_of_bytes_and_labels_beyond_32_bits(tmp_path: pathlib.Path) -> None:
    assert load(tmp_path, **four(class_names=np.array([b"cat", b"dog"]))).class_names == ("cat", "dog")
    names = np.array(["cat", "dog"])
    with pytest.raises(DataError, match="labels must be in"):
        load(tmp_path, **four(train_labels=LABELS.astype(np.int64) + 2**32, class_names=names))


def test_every_damage_of_a_compressed_file_is_one_error(tmp_path: pathlib.Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", images=IMAGES, labels=LABELS)
    whole = (tmp_path / "whole.npz").read_bytes()
    raised = 0
    for place in range(40, len(whole), 37):
        spoilt = bytearray(whole)
        spoilt[place] ^= 0xFF
        (tmp_path / "spoilt.npz").write_bytes(spoilt)
        try:
            data.load(f"npz:{tmp_path / 'spoilt.npz'}")
        except DataError:
            raised += 1
    assert raised > 5


def test_text_and_boolean_groups_have_names(tmp_path: pathlib.Path) -> None:
    place = np.array(["hill", "coast", "coast", "a town"] * 5)
    more = {"train_groups_place": place, "test_groups_place": np.array(["sea", "hill", "sea", "hill"])}
    found = load(tmp_path, **four(**more, train_groups_sex=LABELS == 1, train_groups_age=np.arange(20)))
    assert found.group_names == {"place": ("a town", "coast", "hill", "sea"), "sex": ("no", "yes")}
    assert [found.group_names["place"][code] for code in found.train.groups["place"]] == place.tolist()
    assert found.test.groups["place"].tolist() == [3, 2, 3, 2]
    assert found.train.groups["sex"].tolist() == LABELS.tolist()
    renamed = {key: np.char.replace(values, "sea", "shore") for key, values in more.items()}
    assert load(tmp_path, **four(**renamed)).fingerprint() != load(tmp_path, **four(**more)).fingerprint()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"train_groups_a": np.arange(20) / 2}, "groups_a, train: expected text or integers"),
        ({"train_groups_a": np.array([b"x"] * 20)}, "expected text or integers"),
        ({"train_groups_a": np.arange(20), "test_groups_a": np.array(list("abcd"))}, "text in one split"),
        ({"train_groups_a": np.arange(19)}, "group column 'a' has shape"),
        ({"train_groups_label": np.arange(20)}, "'label': that name means the class"),
    ],
)
def test_unusable_groups(tmp_path: pathlib.Path, columns: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(tmp_path, **four(**columns))


def test_without_test_images_a_fifth_is_carved(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = load(tmp_path, images=IMAGES, labels=LABELS[:, None], groups_row=np.arange(20))
    assert (found.train.counts(2).tolist(), found.test.counts(2).tolist()) == ([8, 8], [2, 2])
    np.testing.assert_array_equal(found.test.images, IMAGES[found.test.groups["row"]])
    assert "20 % becomes the test split" in caplog.text


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_are_rounded_to_eight_bits(tmp_path: pathlib.Path, kind: Any) -> None:
    scaled = (IMAGES / 255).astype(kind)
    found = load(tmp_path, **four(train_images=scaled, test_images=scaled[:4] ** 1))
    np.testing.assert_array_equal(found.train.images, IMAGES)


def test_grey_without_channel_axis(tmp_path: pathlib.Path) -> None:
    found = load(tmp_path, **four(train_images=IMAGES[..., 0], test_images=IMAGES[:4, ..., :1]))
    np.testing.assert_array_equal(found.train.images, IMAGES[..., :1])


FLOATS = IMAGES / 255


def changed(value: float) -> np.ndarray:
    pixels = FLOATS.copy()
    pixels[3, 1, 1, 1] = value
    return pixels


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (four(train_images=changed(np.nan)), "image 3 are not finite"),
        (four(train_images=changed(np.inf)), "image 3 are not finite"),
        (four(train_images=changed(1.5)), r"\[0, 1\], received \[.*1.5\]"),
        (four(train_images=changed(-0.5)), r"received \[-0.5"),
        (four(train_images=FLOATS * 255), "divide, or use uint8"),
        (four(train_images=IMAGES.astype(np.int64)), "received int64"),
        (four(train_images=IMAGES[0, 0]), "received shape"),
        (four(train_images=np.zeros((20, 4, 4, 2), np.uint8)), "1 or 3"),
        (four(train_images=IMAGES[:19]), "19 images but 20 labels"),
        (four(train_labels=LABELS * 0.5), "expected integers"),
        (four(train_labels=np.int64(1)), "expected integers"),
        (four(train_labels=np.eye(2, dtype=int)[LABELS]), "expected integers"),
        (four(train_labels=LABELS * 2 - 1), r"labels must be in \[0, 2\)"),
        (four(train_labels=LABELS * 0), "at least two classes"),
        (four(train_labels=LABELS * 2), "no example of class 1"),
        (four(test_labels=LABELS[:4] + 1), "npz.* test: labels"),
        (four(test_images=IMAGES[:4, :2]), "image size"),
        (four(class_names=np.array(["cat"])), "at least two classes"),
        (four(train_images=IMAGES[:0], train_labels=LABELS[:0]), "at least two classes"),
        (four(train_labels=np.array([{}] * 20, object)), "pickled"),
        ({"train_images": IMAGES}, "lacks train_labels"),
        ({"test_images": IMAGES, "labels": LABELS}, "lacks images"),
        ({"images": IMAGES, "labels": LABELS - 1}, "labels must be"),
        (four(train_labels=LABELS * (2**31 - 1)), "has 2147483647, with 20 training examples"),
        (four(train_labels=LABELS * 19), "no example of class 1, 2, .*, 10 and 8 more; every"),
    ],
)
def test_unusable_arrays(tmp_path: pathlib.Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load(tmp_path, **arrays)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
def test_unreadable_files(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "my.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"my\.npz"):
        data.load(f"npz:{path}")


def test_missing_file_and_single_array(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="no file"):
        data.load(f"npz:{tmp_path / 'none.npz'}")
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(DataError, match="single .npy"):
        data.load(f"npz:{tmp_path / 'one.npy'}")


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
