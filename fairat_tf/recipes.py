"""What a data set's name alone means: the community's recipe, with its source.

    config = config.filled(recipe("svhn", spec))

CIFAR-10, CIFAR-100 and others: SGD 0.1 / momentum 0.9 / weight decay 5e-4, batch 128, 110 epochs with
drops to a tenth at 100 and 105 (Pang et al., "Bag of Tricks for Adversarial Training", ICLR 2021),
crop and flip. SVHN: learning rate 0.01 and neither crop nor flip (Rice et al., "Overfitting in
adversarially robust deep learning", ICML 2020). `street_digits` is small: a small network and
few epochs of a one-cycle schedule.
"""

import dataclasses
from typing import Any

from fairat_tf.config import Config
from fairat_tf.data.specs import Spec

_COMMUNITY = {"network": "preact_resnet18", "epochs": 110, "schedule": "piecewise"}
_SMALL = {"network": "small_cnn", "epochs": 15, "schedule": "one_cycle", "learning_rate": 0.1}


def recipe(dataset: str, spec: Spec) -> dict[str, Any]:
    """Returns values for the fields that a configuration leaves open, by field name."""
    values: dict[str, Any] = dict(_COMMUNITY)
    values["learning_rate"] = spec.learning_rate
    values["weak_augmentation"] = "crop_flip" if spec.flip else "none"
    if dataset == "street_digits":
        values |= _SMALL
    return values


def completed(config: Config, spec: Spec) -> Config:
    """Returns the configuration with its open fields filled: the data set's recipe, steps of epsilon / 4."""
    config = config.filled(recipe(config.data.dataset, spec))
    if config.attack.step_size is None:
        attack = dataclasses.replace(config.attack, step_size=config.attack.epsilon / 4)
        config = dataclasses.replace(config, attack=attack)
    return config
