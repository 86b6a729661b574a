"""The validation examples that a training run kept apart, so that nothing is chosen on the test split.

    splits = splits_of(dataset, "cifar10", "runs/a")      # {"train": ..., "validation": ..., "test": ...}

A data set without a validation split is divided when a run begins, by the run's seed and
`--validation_fraction`; its run directory says how.
"""

from pathlib import Path

from fairat_tf import errors
from fairat_tf.config import Config
from fairat_tf.data import PREFIXES, Dataset, Split, split_validation
from fairat_tf.data.splitting import limited
from fairat_tf.run_directory import data_of, then_and_now


def splits_of(dataset: Dataset, name: str, model: str, wanted: str = "") -> dict[str, Split]:
    """Returns the splits of data set `name`: train and validation as the run that made `model` divided them.

    Where the data set has a validation split of its own, or `model` lies in no run directory of this data
    set, they are those of the data set.

    Raises:
      DataError: the split `wanted` is drawn from the training data, and these have changed since the run.
    """
    folder, config = _run_of(model)
    if config is None or _place(config.data.dataset) != _place(name):
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


def _place(name: str) -> str:
    """Returns the data set's name with the path in it, if there is one, in its only form."""
    source, colon, path = name.partition(":")
    return f"{source}:{Path(path).expanduser().resolve()}" if colon and source in PREFIXES.names() else name


def _check_unchanged(folder: Path, name: str, train: Split) -> None:
    before = data_of(folder)
    if before and before["train"] != train.fingerprint():
        raise errors.DataError(
            f"{name} has changed since {folder} was trained ({then_and_now(before, train)}): its test and "
            "validation parts are drawn anew and would hold examples that were trained on; evaluate on the "
            "data as they were, or on a data set of new examples alone"
        )


def _run_of(model: str) -> tuple[Path, Config | None]:
    """Returns the run directory that `model` is, or lies in, and its configuration; None: it is in none."""
    path = Path(model).resolve() if Path(model).exists() else Path(model)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").is_file():
            try:
                return folder, Config.from_json((folder / "config.json").read_text())
            except (OSError, ValueError):
                break
    return path, None
