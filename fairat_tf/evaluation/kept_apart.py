"""The validation examples that a training run kept apart, so that nothing is chosen on the test split.

    splits = splits_of(dataset, "cifar10", "runs/a")      # {"train": ..., "validation": ..., "test": ...}

A data set without a validation split is divided when a run begins, by the run's seed and
`--validation_fraction`; its run directory says how.
"""

from pathlib import Path

from fairat_tf.config import Config
from fairat_tf.data import Dataset, Split, split_validation
from fairat_tf.data.splitting import limited


def splits_of(dataset: Dataset, name: str, model: str) -> dict[str, Split]:
    """Returns the splits of data set `name`: train and validation as the run that made `model` divided them.

    Where the data set has a validation split of its own, or `model` lies in no run directory of this data
    set, they are those of the data set.
    """
    config = _run_of(model)
    if "validation" in dataset.splits or config is None or config.data.dataset != name:
        return dataset.splits
    wanted, seed = config.data, config.run.seed
    train = limited(dataset.train, wanted.limit_train, seed, dataset.num_classes)
    train, validation = split_validation(train, wanted.validation_fraction, seed, dataset.num_classes)
    return {**dataset.splits, "train": train, "validation": validation}


def _run_of(model: str) -> Config | None:
    """Returns the configuration of the run directory that `model` is, or lies in."""
    path = Path(model)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").is_file():
            try:
                return Config.from_json((folder / "config.json").read_text())
            except (OSError, ValueError):
                return None
    return None
