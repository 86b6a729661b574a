"""Held: TFDS data sets prepared here, and that missing ones are reported within seconds, without network."""

import http.server
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from fairat_tf import data
from fairat_tf.data import network_probe
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


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False)])
def test_reading_bar_can_be_silenced(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    progress: bool, shown: bool,
) -> None:  # fmt: skip
    import tqdm

    monkeypatch.setattr(
        "tqdm.tqdm", lambda *args, **options: tqdm.std.tqdm(*args, **options | {"delay": 0, "mininterval": 0})
    )
    store(tmp_path, {"train": examples(9), "test": examples(3)}, tfds.features.Image(shape=(5, 4, 3)))
    data.load("tiny", data_dir=str(tmp_path), download=False, progress=progress)
    assert ("Reading tiny" in capfd.readouterr().err) == shown


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
