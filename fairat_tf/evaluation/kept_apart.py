"""The validation examples that a training run kept apart, so that nothing is chosen on the test split.

    splits = splits_of(dataset, "cifar10", "runs/a")      # {"train": ..., "validation": ..., "test": ...}

A data set without a validation split is divided when a run begins, by the run's seed and
`--validation_fraction`; its run directory says how.
"""

from pathlib import Path

from fairat_tf import data, errors
from fairat_tf.config import Config
from fairat_tf.data import Dataset, Split, split_validation
from fairat_tf.data.splitting import limited
from fairat_tf.run_directory import data_of, run_of, then_and_now


def splits_of(dataset: Dataset, name: str, model: str, wanted: str = "") -> dict[str, Split]:
    """Returns the splits of data set `name`: train and validation as the run that made `model` divided them.

    Where the data set has a validation split of its own, or `model` lies in no run directory of this data
    set, they are those of the data set.

    Raises:
      DataError: the split `wanted` is drawn from the training data, and these have changed since the run.
    """
    folder, config = run_of(model)
    if config is None or not _is_of(name, folder, config):
        return dataset.splits
    used, seed = config.data, config.run.seed
    train = limited(dataset.train, used.limit_train, seed, dataset.num_classes)
    own = "validation" in dataset.splits
    if wanted == "test" and dataset.test_is_drawn or wanted in ("train", "validation") and not own:
        _check_unchanged(folder, name, train)
    if own:
        return dataset.splits
    train, validation = split_validation(train, used.validation_fraction, seed, dataset.num_classes)
    return {**dataset.splits, "train": train, "validation": validation}


def _is_of(name: str, folder: Path, config: Config) -> bool:
    """Says whether data set `name` is what the run in `folder` was trained on."""
    return data.place(name) == ((data_of(folder) or {}).get("source") or data.place(config.data.dataset))


def _check_unchanged(folder: Path, name: str, train: Split) -> None:
    before = data_of(folder)
    if before and before["train"] != train.fingerprint():
        raise errors.DataError(
            f"{name} has changed since {folder} was trained ({then_and_now(before, train)}): its test and "
            "validation parts are drawn anew and would hold examples that were trained on; evaluate on the "
            "data as they were, or on a data set of new examples alone"
        )


def unseen_by_first(config: Config) -> str:
    """Returns the flags that would keep apart what the run of `init_from` kept; "" where nothing is wrong.

    Both runs draw their validation examples from the training data, by seed, share and limit. With the same
    seed and limit, a larger share contains a smaller one; otherwise the first run has trained on some.
    """
    folder, first = run_of(config.network.init_from)
    if not config.network.init_from or first is None or not _is_of(config.data.dataset, folder, first):
        return ""
    drawn, wanted = ((run.run.seed, run.data.limit_train) for run in (first, config))
    if drawn == wanted and first.data.validation_fraction >= config.data.validation_fraction:
        return ""
    return (
        f"--seed={first.run.seed} --limit_train={first.data.limit_train} "
        f"--validation_fraction={first.data.validation_fraction:g}"
    )
