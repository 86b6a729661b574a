"""Held: splits, fingerprints, the table of names, and every check of a loaded data set."""

from typing import Any

import numpy as np
import pytest

from fairat_tf import data, errors
from fairat_tf.data import specs
from fairat_tf.data.checks import check
from fairat_tf.data.dataset import DataError, Dataset, Split
from fairat_tf.lookup import UnknownNameError


def small(labels: tuple[int, ...] = (0, 1, 1), **changes: Any) -> Split:
    images = np.arange(len(labels) * 12, dtype=np.uint8).reshape(len(labels), 2, 2, 3)
    given = {"images": images, "labels": np.array(labels, np.int32), **changes}
    return Split(**given)


def whole(**changes: Any) -> Dataset:
    return Dataset(**{"name": "toy", "class_names": ("a", "b"), "train": small(), "test": small(), **changes})


def test_take_and_counts() -> None:
    split = small(groups={"age": np.array([10, 20, 30])}).take(np.array([2, 0]))
    assert (split.labels.tolist(), split.groups["age"].tolist()) == ([1, 0], [30, 10])
    assert split.images[0].tolist() == np.arange(24, 36).reshape(2, 2, 3).tolist()
    assert split.counts(4).tolist() == [1, 1, 0, 0]


def test_shape_and_splits() -> None:
    dataset = whole(validation=small((0, 1)))
    assert (dataset.num_classes, dataset.image_shape) == (2, (2, 2, 3))
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 3,
        "validation": 2,
        "test": 3,
    }


def test_fingerprint_depends_on_all_content() -> None:
    brighter = small(images=small().images + np.uint8(1))
    variants = [
        whole(),
        whole(class_names=("a", "c")),
        whole(train=brighter),
        whole(test=brighter),
        whole(train=small((0, 1, 0))),
        whole(validation=small()),
        whole(train=small(groups={"age": np.array([1, 2, 3])})),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)
    assert whole().fingerprint() == whole(name="other").fingerprint()


@pytest.mark.parametrize("name", ["caf\udce9", "a\u2028b", "a\x85b", "a\nb"])
def test_names_that_are_no_text_are_refused(name: str) -> None:
    for changes in ({"class_names": ("a", name)}, {"group_names": {"place": ("sea", name)}}):
        with pytest.raises(DataError, match="is no name"):
            check(whole(**changes))
    check(whole(class_names=("caf\u00e9\u3000\u00a0", "\u732b")))


def test_sound_data_pass() -> None:
    check(whole())
    check(whole(validation=small()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ("a",)}, "at least two classes"),
        ({"class_names": ()}, "at least two classes"),
        ({"class_names": ("a", "a")}, "used twice"),
        ({"class_names": ("a", "b", "c")}, "no example of class c"),
        ({"train": small((0, 2, 1))}, r"in \[0, 2\), but example 1 has 2"),
        ({"test": small((0, -1))}, "example 1 has -1"),
        ({"test": small(())}, "toy test: no examples"),
        ({"train": small(images=np.zeros((2, 2, 2, 3), np.uint8))}, "2 images but 3 labels"),
        ({"train": small(images=np.zeros((3, 2, 2, 3)))}, "expected uint8"),
        ({"train": small(images=np.zeros((3, 2, 2, 4), np.uint8))}, "expected uint8 images"),
        ({"test": small(images=np.zeros((3, 4, 4, 3), np.uint8))}, r"\[4, 4, 3\], but train has \[2, 2, 3\]"),
        ({"validation": small((1, 3))}, "toy validation: labels"),
        ({"train": small(groups={"age": np.zeros(2)})}, "group column 'age'"),
    ],
)
def test_unusable_data_are_one_clear_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        check(whole(**changes))
    assert "\n" not in str(caught.value)


def test_class_without_test_example_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    check(whole(test=small((0, 0))))
    assert "no example of class b" in caplog.text


@pytest.mark.parametrize("name", ["cifar_10", "no_such_set", "", "zip:/data"])
def test_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(UnknownNameError, match="street_digits"):
        data.load(name)


@pytest.mark.parametrize("option", ["image_size", "limit_train", "limit_test"])
def test_negative_numbers_are_errors(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}.*-1"):
        data.load("street_digits", **{option: -1})


def test_names_are_those_of_the_table() -> None:
    assert data.names()[0] == "street_digits"
    assert {"svhn", "cifar10", "cifar100", "folder:PATH", "npz:PATH"} <= set(data.names())


def test_statistics_equal_numpy() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 3), dtype=np.uint8)
    mean, deviation = specs.pixel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(deviation, (images / 255).std((0, 1, 2)), rtol=1e-12)


def test_spec_of_unknown_data_is_computed_and_never_zero() -> None:
    flat = small(images=np.full((3, 2, 2, 3), 51, np.uint8))
    found = data.spec("mine", whole(train=flat))
    np.testing.assert_allclose(found.mean, (0.2, 0.2, 0.2))
    assert found.std == (1.0, 1.0, 1.0)
    assert (found.flip, found.learning_rate) == (True, 0.1)


@pytest.mark.parametrize(
    ("name", "flip", "rate"),
    [("svhn", False, 0.01), ("street_digits", False, 0.01), ("cifar10", True, 0.1), ("mnist", False, 0.1)],
)
def test_recipes(name: str, flip: bool, rate: float) -> None:
    assert (specs.SPECS[name].flip, specs.SPECS[name].learning_rate) == (flip, rate)


@pytest.mark.parametrize("name", ["svhn_cropped:3.1.0", "svhn_cropped:label", "svhn_cropped:*.*.*:label"])
def test_a_version_or_its_own_label_changes_nothing_of_what_is_known(name: str) -> None:
    assert specs.known_spec(name) is specs.SPECS["svhn_cropped"]


def test_another_label_makes_it_another_data_set() -> None:
    assert specs.known_spec("svhn_cropped:id") is None


def test_a_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: data.Request) -> None:
        raise PermissionError(13, "Permission denied", "birds/a/1.png")

    monkeypatch.setattr(data, "source", lambda name, data_dir: refuse)
    with pytest.raises(
        data.DataError, match=r"^folder:birds: birds/a/1.png cannot be read \(Permission denied\)$"
    ):
        data.load("folder:birds")


@pytest.mark.parametrize("error", [errors.StorageError("no room"), OSError(28, "No space left on device")])
def test_what_cannot_be_written_stays_a_fault_of_the_storage(
    monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(request: data.Request) -> None:
        raise error

    monkeypatch.setattr(data, "source", lambda name, data_dir: refuse)
    with pytest.raises(OSError) as told:
        data.load("street_digits")
    assert told.value is error


def test_known_mean_is_not_used_for_other_channels() -> None:
    assert len(data.spec("mnist", whole()).mean) == 3


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
