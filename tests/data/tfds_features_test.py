"""Held: which feature of a TFDS set is the image, which the label, and which are group columns."""

import pathlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from fairat_tf import data
from fairat_tf.data import tfds_features
from fairat_tf.data.dataset import DataError


def test_the_image_is_not_a_mask() -> None:
    image, mask = tfds.features.Image(shape=(5, 4, 3)), tfds.features.Image(shape=(5, 4, 1))

    def key(features: dict[str, Any], supervised: tuple[str, str] | None = None) -> str:
        info = types.SimpleNamespace(features=features, supervised_keys=supervised)
        return tfds_features.image_key(types.SimpleNamespace(info=info, name="masks"))

    assert key({"annotation": mask, "image": image, "mask": mask}) == "image"
    assert key({"photo": image}) == "photo"
    assert key({"photo": image, "image": mask}, ("photo", "label")) == "photo"
    with pytest.raises(DataError, match=r"several images an example \(left, right\)"):
        key({"right": image, "left": image})


def test_set_without_class_label(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="celeb_a: has no class label of its own") as caught:
        data.load("celeb_a", data_dir=str(tmp_path), download=False)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in ("--dataset=celeb_a:", "Smiling, ", "Young, ", "Identity_No"))
    with pytest.raises(DataError, match=r"Did you mean celeb_a:Smiling\?"):
        data.load("celeb_a:smiling", data_dir=str(tmp_path), download=False)
    with pytest.raises(DataError, match="downloads are forbidden"):
        data.load("celeb_a:Smiling", data_dir=str(tmp_path), download=False)


def faces(folder: pathlib.Path, test_age: int = 30) -> None:
    """Writes "faces" with the structure of celeb_a. Of image number n (all its pixels): Smiling = n is odd,
    Male = n % 3 == 0, age = 10 * (n % 3 + 1), eye_x = n - 5, kind = n % 2, hidden twice, once below."""
    scalar, number = tfds.features.Scalar, tf.TensorSpec([], tf.int64)
    flag = tf.TensorSpec([], tf.bool)
    features = {
        "image": tfds.features.Image(shape=(4, 4, 3)),
        "attributes": {"Smiling": scalar(np.bool_), "Male": scalar(np.bool_), "x": scalar(np.bool_)},
        "landmarks": {"eye_x": scalar(np.int64), "x": scalar(np.int64)},
        "age": scalar(np.int64),
        "kind": {"label": tfds.features.ClassLabel(names=["photo", "painting"])},
        "score": scalar(np.float32),
        "boxes": tfds.features.Sequence({"size": scalar(np.int64)}),
        "file/name": tfds.features.Text(),
    }
    spec = {
        "image": tf.TensorSpec((4, 4, 3), tf.uint8),
        "attributes": {"Smiling": flag, "Male": flag, "x": flag},
        "landmarks": {"eye_x": number, "x": number},
        "age": number,
        "kind": {"label": number},
        "score": tf.TensorSpec([], tf.float32),
        "boxes": {"size": tf.TensorSpec([None], tf.int64)},
        "file/name": tf.TensorSpec([], tf.string),
    }

    def rows(count: int, last_age: int) -> Iterator[dict[str, Any]]:
        for n in range(count):
            yield {
                "image": np.full((4, 4, 3), n, np.uint8),
                "attributes": {"Smiling": n % 2 == 1, "Male": n % 3 == 0, "x": False},
                "landmarks": {"eye_x": n - 5, "x": n},
                "age": (10, 20, last_age)[n % 3],
                "kind": {"label": n % 2},
                "score": 0.5,
                "boxes": {"size": list(range(n % 3))},
                "file/name": "a",
            }

    tfds.dataset_builders.store_as_tfds_dataset(
        name="faces",
        version="1.0.0",
        data_dir=folder,
        split_datasets={
            name: tf.data.Dataset.from_generator(lambda s=size, a=age: rows(s, a), output_signature=spec)
            for name, size, age in (("train", 12, 30), ("test", 6, test_age))
        },
        features=tfds.features.FeaturesDict(features),
    )


@pytest.fixture(scope="module")
def face_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("faces")
    faces(folder)
    return str(folder)


@pytest.mark.parametrize("name", ["faces:Smiling", "faces:attributes/Smiling", "faces:1.0.0:Smiling"])
def test_chosen_boolean_label_and_named_groups(face_folder: str, name: str) -> None:
    found = data.load(name, data_dir=face_folder, download=False)
    assert found.class_names == ("Smiling: no", "Smiling: yes")
    assert (len(found.train), len(found.test)) == (12, 6)
    for split in found.splits.values():
        n = split.images[:, 0, 0, 0].astype(int)
        assert split.labels.tolist() == (n % 2).tolist()
        expected = {
            "Male": n % 3 == 0, "attributes/x": 0 * n, "eye_x": n - 5, "landmarks/x": n,
            "age": 10 * (n % 3 + 1), "faces_label": n % 2,
        }  # fmt: skip
        assert {key: values.tolist() for key, values in split.groups.items()} == {
            key: values.astype(int).tolist() for key, values in expected.items()
        }
    assert found.group_names == {
        "Male": ("no", "yes"), "attributes/x": ("no", "yes"), "faces_label": ("photo", "painting"),
    }  # fmt: skip


def test_chosen_integer_and_class_labels(face_folder: str) -> None:
    by_age = data.load("faces:age", data_dir=face_folder, download=False)
    assert by_age.class_names == ("10", "20", "30")
    assert by_age.train.labels.tolist() == (by_age.train.images[:, 0, 0, 0] % 3).tolist()
    assert by_age.group_names["Smiling"] == ("no", "yes")
    by_kind = data.load("faces:label", data_dir=face_folder, download=False)
    assert by_kind.class_names == ("photo", "painting")
    assert "age" in by_kind.train.groups
    assert "faces_label" not in by_kind.train.groups


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "faces",
            r"no class label of its own.*=faces:Male\. Possible: Male, Smiling, attributes/x, label, age, ",
        ),
        (
            "faces:score",
            r"no class, boolean or integer feature 'score'.*Possible: .*attributes/x.*landmarks/x",
        ),
        ("faces:x", "feature 'x'"),
        ("faces:size", "feature 'size'"),
    ],
)
def test_no_such_label(face_folder: str, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        data.load(name, data_dir=face_folder, download=False)
    assert "\n" not in str(caught.value)


def test_integer_label_that_train_does_not_know(tmp_path: pathlib.Path) -> None:
    faces(tmp_path, test_age=70)
    with pytest.raises(DataError, match="test has the value 70 of age, which train has not"):
        data.load("faces:age", data_dir=str(tmp_path), download=False)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
