"""A run's validation examples are found again from its directory, and no seed moves what is tested."""

import dataclasses

import numpy as np
import pytest

from fairat_tf import assembly, data, errors
from fairat_tf.config import Config, Data, Network, Run
from fairat_tf.data.dataset import Dataset
from fairat_tf.data.splitting import limited
from fairat_tf.evaluation import kept_apart, running
from fairat_tf.run_directory import RunDirectory
from tests import support


def config(name="tiny", seed=3, **facts):
    return Config(data=Data(dataset=name, validation_fraction=0.25, **facts), run=Run(seed=seed))


@pytest.fixture
def run_directory(tmp_path):
    def make(**options):
        (tmp_path / "run/best").mkdir(parents=True)
        (tmp_path / "run/config.json").write_text(config(**options).to_json())
        return tmp_path / "run"

    return make


@pytest.mark.parametrize("inside", ["", "best/model.keras", "last"])
def test_they_are_those_of_training(run_directory, inside):
    dataset = support.tiny_dataset()
    train, validation = assembly._splits(config(), dataset)
    found = kept_apart.splits_of(dataset, "tiny", str(run_directory() / inside))
    np.testing.assert_array_equal(found["validation"].images, validation.images)
    np.testing.assert_array_equal(found["train"].images, train.images)
    assert found["test"] is dataset.test and len(validation) == 24


def test_a_limit_of_training_counts(run_directory):
    dataset = support.tiny_dataset()
    cut = dataclasses.replace(dataset, train=limited(dataset.train, 40, 3, 4))
    _, validation = assembly._splits(config(), cut)
    found = kept_apart.splits_of(dataset, "tiny", str(run_directory(limit_train=40)))
    np.testing.assert_array_equal(found["validation"].images, validation.images)


def test_of_another_data_set_or_without_a_run_they_are_those_of_the_data(run_directory, tmp_path):
    dataset = support.tiny_dataset()
    (tmp_path / "else").mkdir()
    (tmp_path / "else/config.json").write_text("{}")
    for name, model in (("tiny", tmp_path / "else"), ("tiny", "module:function"), ("other", run_directory())):
        assert set(kept_apart.splits_of(dataset, name, str(model))) == {"train", "test"}
    own = Dataset("tiny", tuple("abcd"), dataset.train, dataset.test, support.tiny_split(12, seed=5))
    assert kept_apart.splits_of(own, "tiny", str(tmp_path / "run"))["validation"] is own.validation


@pytest.mark.parametrize("wanted", ["test", "validation", "train"])
def test_parts_that_are_drawn_anew_are_refused_once_the_data_have_changed(run_directory, wanted):
    whole = support.tiny_dataset()
    grown = dataclasses.replace(whole, train=support.tiny_split(120, seed=9), test_is_drawn=True)
    drawn = dataclasses.replace(whole, test_is_drawn=True)
    path = run_directory()
    assert wanted in kept_apart.splits_of(grown, "tiny", str(path), wanted)  # a run that says nothing
    RunDirectory(str(path)).claim_data(whole.train)
    assert wanted in kept_apart.splits_of(drawn, "tiny", str(path), wanted)
    with pytest.raises(errors.DataError, match="96 training examples then, 120 now"):
        kept_apart.splits_of(grown, "tiny", str(path), wanted)
    elsewhere = dataclasses.replace(grown, test_is_drawn=False)
    assert kept_apart.splits_of(elsewhere, "tiny", str(path), "test")["test"] is grown.test


@pytest.mark.parametrize("spelling", ["folder:{0}/data", "folder:{0}/data/", "folder:{0}/./x/../data"])
def test_a_folder_is_the_same_however_it_is_written(tmp_path, spelling):
    (tmp_path / "x").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(config(name=f"folder:{tmp_path}/data").to_json())
    found = kept_apart.splits_of(support.tiny_dataset(), spelling.format(tmp_path), str(tmp_path / "run"))
    assert len(found["validation"]) == 24


def test_a_folder_named_from_elsewhere_is_the_run_s_own(run_directory, tmp_path, monkeypatch):
    path = run_directory(name="folder:birds")
    monkeypatch.chdir(tmp_path)
    whole = support.tiny_dataset()
    RunDirectory(str(path)).claim_data(whole.train, name="folder:birds")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    grown = dataclasses.replace(whole, train=support.tiny_split(120, seed=9), test_is_drawn=True)
    with pytest.raises(errors.DataError, match="96 training examples then, 120 now"):
        kept_apart.splits_of(grown, f"folder:{tmp_path}/birds", str(path), "test")


def own(path, **facts):
    return dataclasses.replace(config(), network=Network(init_from=str(path)), **facts)


def test_a_first_network_must_not_have_seen_what_validates(run_directory):
    path = run_directory()
    fits = [own(path), own(path, data=Data(dataset="tiny", validation_fraction=0.1)), config()]
    fits += [own(path, data=Data(dataset="other")), own(path / "../none")]
    assert [kept_apart.unseen_by_first(one) for one in fits] == [""] * 5
    told = "--seed=3 --limit_train=0 --validation_fraction=0.25"
    changes = [
        {"run": Run(seed=4)},
        {"data": Data(dataset="tiny", validation_fraction=0.3)},
        {"data": Data(dataset="tiny", validation_fraction=0.25, limit_train=50)},
    ]
    assert [kept_apart.unseen_by_first(own(path, **change)) for change in changes] == [told] * 3


@pytest.mark.parametrize(
    ("seed", "fraction", "seen"), [(3, 0.25, False), (3, 0.1, False), (3, 0.5, True), (4, 0.25, True)]
)
def test_so_it_is_among_the_examples_themselves(seed, fraction, seen):
    train = support.tiny_dataset().train
    first, _ = data.split_validation(train, 0.25, 3, 4)
    _, validation = data.split_validation(train, fraction, seed, 4)
    trained = {image.tobytes() for image in first.images}
    assert any(image.tobytes() in trained for image in validation.images) is seen


def test_a_model_without_a_run_has_no_validation(tmp_path):
    split = support.tiny_split(40)
    np.savez(tmp_path / "own.npz", images=split.images, labels=split.labels)
    request = running.Request(
        model=str(tmp_path / "model.keras"), dataset=f"npz:{tmp_path}/own.npz", split="validation"
    )
    with pytest.raises(errors.UsageError, match="has no split 'validation'; it has train, test"):
        running._examples(request)


def test_no_seed_moves_the_test_examples(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(200) % 4)
    a, b = (data.load(f"npz:{tmp_path}/own.npz", seed=seed, limit_test=12) for seed in (0, 1))
    np.testing.assert_array_equal(a.test.images, b.test.images)
    assert len(a.test) == 12 and len(a.train) == 160
    whole = data.load(f"npz:{tmp_path}/own.npz", seed=1)
    tested = {image.tobytes() for image in whole.test.images}
    assert len(tested) == 40 and not tested & {image.tobytes() for image in a.train.images}


@pytest.mark.parametrize("model", ["model.keras", "../../prod.keras"])
def test_the_run_is_found_from_inside_it_and_through_links(run_directory, tmp_path, monkeypatch, model):
    path = run_directory() / "best/model.keras"
    path.touch()
    (tmp_path / "prod.keras").symlink_to(path)
    monkeypatch.chdir(path.parent)
    found = kept_apart.splits_of(support.tiny_dataset(), "tiny", model)
    assert len(found["validation"]) == 24


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
