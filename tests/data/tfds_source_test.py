"""Held: TFDS data sets prepared here, and that missing ones are reported within seconds, without network."""

import http.server
import pathlib
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from fairat_tf import data
from fairat_tf.data import network_probe, tfds_features
from fairat_tf.data.dataset import DataError

RANDOM = np.random.default_rng(0)


def store(folder: pathlib.Path, splits: dict[str, list[Any]], image: Any, **more: Any) -> None:
    """Writes a TFDS data set "tiny": an image, a label of three classes, and the features `more`."""
    features = {"image": image, "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]), **more}
    spec = {"image": tf.TensorSpec(image.shape, tf.uint8), "label": tf.TensorSpec([], tf.int64)}
    spec |= {"old": tf.TensorSpec([], tf.bool), "id": tf.TensorSpec([], tf.string)} if more else {}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        data_dir=folder,
        split_datasets={
            name: tf.data.Dataset.from_generator(lambda rows=rows: iter(rows), output_signature=spec)
            for name, rows in splits.items()
        },
        features=tfds.features.FeaturesDict(features),
    )


def examples(count: int, shape: tuple[int, int, int] = (5, 4, 3), **more: Any) -> list[dict[str, Any]]:
    """Label and groups can be told from the first pixel: label = pixel % 3, old = pixel is odd."""
    made = []
    for number in range(count):
        image = RANDOM.integers(0, 256, shape, dtype=np.uint8)
        image[0, 0, 0] = number
        made.append(
            {"image": image, "label": number % 3, **{key: make(number) for key, make in more.items()}}
        )
    return made


def test_prepared_data_with_groups(tmp_path: pathlib.Path) -> None:
    more = {"old": lambda number: number % 2 == 1, "id": lambda number: f"id{number}"}
    rows = examples(30, **more)
    features = {"old": tfds.features.Scalar(np.bool_), "id": tfds.features.Text()}
    store(
        tmp_path,
        {"train": rows, "test": examples(6, **more)},
        tfds.features.Image(shape=(5, 4, 3)),
        **features,
    )
    found = data.load("tiny", data_dir=str(tmp_path), download=False)
    assert found.class_names == ("ant", "bee", "cat")
    numbers = found.train.images[:, 0, 0, 0].astype(int)
    assert sorted(numbers) == list(range(30))
    assert found.train.labels.tolist() == (numbers % 3).tolist()
    assert {key: values.tolist() for key, values in found.train.groups.items()} == {
        "old": (numbers % 2).tolist()
    }
    for image, number in zip(found.train.images, numbers, strict=True):
        np.testing.assert_array_equal(image, rows[number]["image"])
    assert len(found.test) == 6


def test_validation_serves_where_there_is_no_test(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = {"train": examples(9), "validation": examples(6)}
    store(tmp_path, splits, tfds.features.Image(shape=(5, 4, 3)))
    found = data.load("tiny", data_dir=str(tmp_path))
    assert (len(found.train), len(found.test), found.validation) == (9, 6, None)
    assert "validation split serves as the test split" in caplog.text


def test_train_alone_is_carved(tmp_path: pathlib.Path) -> None:
    store(tmp_path, {"train": examples(30)}, tfds.features.Image(shape=(5, 4, 3)))
    found = data.load("tiny", data_dir=str(tmp_path))
    assert (found.train.counts(3).tolist(), found.test.counts(3).tolist()) == ([8, 8, 8], [2, 2, 2])


def test_no_train_split(tmp_path: pathlib.Path) -> None:
    store(tmp_path, {"test": examples(6)}, tfds.features.Image(shape=(5, 4, 3)))
    with pytest.raises(DataError, match="no train split, only test"):
        data.load("tiny", data_dir=str(tmp_path))


def test_mixed_sizes_need_a_size(tmp_path: pathlib.Path) -> None:
    rows = [*examples(3), *examples(3, (8, 8, 3))]
    store(tmp_path, {"train": rows, "test": rows}, tfds.features.Image(shape=(None, None, 3)))
    with pytest.raises(DataError, match="--image_size"):
        data.load("tiny", data_dir=str(tmp_path))
    assert data.load("tiny", data_dir=str(tmp_path), image_size=4).image_shape == (4, 4, 3)


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


def test_wide_images_are_refused_with_a_size_too(tmp_path: pathlib.Path) -> None:
    rows = [{"image": np.full((5, 4, 1), 1000, np.uint16), "label": n % 3} for n in range(6)]
    wide = tfds.features.Image(shape=(5, 4, 1), dtype=np.uint16)
    features = {"image": wide, "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"])}
    spec = {"image": tf.TensorSpec((5, 4, 1), tf.uint16), "label": tf.TensorSpec([], tf.int64)}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="wide", version="1.0.0", data_dir=tmp_path, features=tfds.features.FeaturesDict(features),
        split_datasets={
            name: tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=spec)
            for name in ("train", "test")
        },
    )  # fmt: skip
    for size in (0, 4):
        with pytest.raises(DataError, match="expected uint8 .*received uint16"):
            data.load("wide", data_dir=str(tmp_path), image_size=size)


def test_validation_may_have_a_short_name(tmp_path: pathlib.Path) -> None:
    splits = {"train": examples(9), "valid": examples(6), "test": examples(3)}
    store(tmp_path, splits, tfds.features.Image(shape=(5, 4, 3)))
    found = data.load("tiny", data_dir=str(tmp_path))
    assert (len(found.train), len(found.validation), len(found.test)) == (9, 6, 3)


def test_damaged_file_is_an_error(tmp_path: pathlib.Path) -> None:
    store(tmp_path, {"train": examples(9), "test": examples(3)}, tfds.features.Image(shape=(5, 4, 3)))
    path = next((tmp_path / "tiny").rglob("*train*tfrecord*"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="train is unreadable") as caught:
        data.load("tiny", data_dir=str(tmp_path))
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False)])
def test_reading_bar_can_be_silenced(
    face_folder: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    progress: bool, shown: bool,
) -> None:  # fmt: skip
    import tqdm

    monkeypatch.setattr(
        "tqdm.tqdm", lambda *args, **options: tqdm.std.tqdm(*args, **options | {"delay": 0, "mininterval": 0})
    )
    data.load("faces:Smiling", data_dir=face_folder, download=False, progress=progress)
    assert ("Reading faces:Smiling" in capfd.readouterr().err) == shown


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("svhn", ["train_32x32.mat", "test_32x32.mat", "--data_dir"]),
        ("cifar10", ["cifar-10-binary.tar.gz", "--data_dir"]),
        ("cifar100", ["cifar-100-binary.tar.gz", "--data_dir"]),
        ("mnist", ["train-images-idx3-ubyte.gz", "downloads/manual"]),
        ("imagenet_v2", ["downloads/manual"]),
    ],
)
def test_forbidden_download_names_files_at_once(tmp_path: pathlib.Path, name: str, files: list[str]) -> None:
    start = time.perf_counter()
    with pytest.raises(DataError, match="downloads are forbidden") as caught:
        data.load(name, data_dir=str(tmp_path), download=False)
    assert time.perf_counter() - start < 10
    assert all(file in str(caught.value) for file in files)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["svhn", "mnist", "stl10"])
def test_unreachable_network_ends_within_15_seconds(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"cannot be reached\. Put "):
        data.load(name, data_dir=str(tmp_path))
    assert time.perf_counter() - start < 15


def test_silent_name_server_does_not_hold_us(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def silent(*args: Any, **keywords: Any) -> None:
        released.wait(30)
        raise requests.ConnectionError

    monkeypatch.setattr("requests.get", silent)
    start = time.perf_counter()
    reason = network_probe.unreachable(["http://a.invalid/x", "https://b.invalid/y"], seconds=0.3)
    assert time.perf_counter() - start < 5
    released.set()
    assert reason == "no answer from a.invalid, b.invalid within 0.3 seconds"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/there" else 404)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


def test_probe_of_a_host_that_answers(server: str) -> None:
    assert network_probe.unreachable([f"{server}/there"]) is None
    assert network_probe.unreachable([]) is None
    reason = network_probe.unreachable([f"{server}/gone"])
    assert reason is not None
    assert "HTTP 404" in reason


def test_real_cifar10(tfds_cifar10: pathlib.Path) -> None:
    found = data.load("cifar10", data_dir=str(tfds_cifar10), download=False, limit_train=100)
    assert found.class_names[:4] == ("airplane", "automobile", "bird", "cat")
    assert found.train.counts(10).tolist() == [10] * 10
    assert found.test.counts(10).tolist() == [1000] * 10
    assert found.image_shape == (32, 32, 3)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
