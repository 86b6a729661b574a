"""Everything that decides a run, as frozen dataclasses: no TensorFlow, no absl, no live objects.

    config = Config(data=Data(dataset="cifar10"), attack=Attack(steps=7))
    config.to_json(); Config.from_json(text); config.difference(other)

Each field is made by `option`, which carries its description and its allowed values: the command
line makes one flag of each, and `check` refuses what is out of range. Fields that are None are
filled in from the data set's recipe before training starts (`Config.filled`). A training method
describes its own options the same way (`methods.*.Options`); here they are a plain dictionary.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    open_high: bool = False,
    flag: str = "",
    kind: type | None = None,
) -> Any:
    """Returns a dataclass field with its description and its allowed values.

    Args:
      default: the default value; None means "from the data set's recipe" and needs `kind`.
      help: one sentence, for `--help` and the documentation.
      choices: allowed strings.
      low, high: range of a number; `open_low` and `open_high` exclude the end itself.
      flag: name of the flag where it is not the field's.
      kind: bool, int, float or str; by default the type of `default`.
    """
    facts = {
        "help": help,
        "choices": choices,
        "low": low,
        "high": high,
        "open_low": open_low,
        "open_high": open_high,
        "flag": flag,
        "kind": kind or type(default),
    }
    return dataclasses.field(default=default, metadata=facts)


def check(options: Any) -> None:
    """Raises ValueError where a field of the dataclass is not one of its choices or out of its range."""
    for field in dataclasses.fields(options):
        value, facts = getattr(options, field.name), field.metadata
        name = facts.get("flag") or field.name
        if value is None or not facts:
            continue
        if facts["choices"] and value not in facts["choices"]:
            raise ValueError(f"{name} must be one of {', '.join(facts['choices'])}; received {value!r}")
        if not _inside(value, facts):
            raise ValueError(f"{name} must be in {interval(facts)}; received {value!r}")


def _inside(value: Any, facts: Mapping[str, Any]) -> bool:
    low, high = facts["low"], facts["high"]
    above = low is None or (value > low if facts["open_low"] else value >= low)
    below = high is None or (value < high if facts["open_high"] else value <= high)
    return above and below


def interval(facts: Mapping[str, Any]) -> str:
    """Returns the allowed range in mathematical notation, such as "(0, 1]"."""
    low, high = facts["low"], facts["high"]
    left = "(-inf" if low is None else f"{'(' if facts['open_low'] else '['}{low:g}"
    right = "inf)" if high is None else f"{high:g}{')' if facts['open_high'] else ']'}"
    return f"{left}, {right}"


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the examples come from."""

    dataset: str = option(
        "street_digits", "data set: a TFDS name (svhn, cifar10, ...), folder:PATH or npz:PATH"
    )
    data_dir: str = option("", "directory with prepared or original data files")
    download: bool = option(True, "let TFDS download what is missing")
    image_size: int = option(0, "resize images to this height and width; 0 keeps their own", low=0)
    validation_fraction: float = option(
        0.05, "share of train kept for validation, by class", low=0.0, high=0.9, open_low=True
    )
    limit_train: int = option(0, "use this many training examples; 0 means all", low=0)
    limit_test: int = option(0, "use this many test examples; 0 means all", low=0)
    batch_size: int = option(128, "examples in a step, over all devices", low=1)
    weak_augmentation: str = option(None, "augmentation of every training image, before any attack", kind=str)
    mix: str = option(
        "", "mix pairs of training images and their labels, after it: mixup[:alpha] or cutmix[:alpha]"
    )
    mix_probability: float = option(
        1.0, "chance of each training image to be mixed", low=0.0, high=1.0, open_low=True
    )


@dataclasses.dataclass(frozen=True)
class Network:
    """What is trained."""

    network: str = option(None, "network: small_cnn, resnet18, preact_resnet18, wrn_28_10, ...", kind=str)
    width: int = option(0, "channels of the first stage; 0 means the network's own", low=0)
    init_from: str = option("", "start from the weights of this run directory or .keras file")


@dataclasses.dataclass(frozen=True)
class Attack:
    """The threat model and the attack inside training."""

    norm: str = option("linf", "norm of the threat model", choices=("linf", "l2"))
    epsilon: float = option(
        8 / 255, "radius of the threat model in pixels of [0, 1]; 8/255 or 0.0314", low=0.0
    )
    steps: int = option(10, "PGD steps in training", low=1, flag="attack_steps")
    step_size: float = option(
        None, "length of a PGD step; default epsilon / 4", low=0.0, flag="attack_step_size", kind=float
    )
    validation_steps: int = option(10, "PGD steps in validation", low=1)


@dataclasses.dataclass(frozen=True)
class Optimization:
    """How the weights move."""

    epochs: int = option(None, "passes over the training set", low=1, kind=int)
    learning_rate: float = option(None, "highest learning rate", low=0.0, open_low=True, kind=float)
    schedule: str = option(
        None, "learning-rate schedule: piecewise[:f,f], cosine, one_cycle[:f] or constant", kind=str
    )
    momentum: float = option(0.9, "momentum of SGD", low=0.0, high=1.0, open_high=True)
    nesterov: bool = option(False, "Nesterov's form of the momentum")
    weight_decay: float = option(5e-4, "coupled weight decay, on all trainable weights", low=0.0)
    ema_decay: float = option(
        0.0,
        "moving average of weights and BatchNorm statistics, by step; 0 for none",
        low=0.0,
        high=1.0,
        open_high=True,
    )
    awp_gamma: float = option(
        0.0, "adversarial weight perturbation: 0.01 for PGD-AT, 0.005 for TRADES; 0 for none", low=0.0
    )
    awp_warmup: float = option(0.0, "share of the run without it at the beginning", low=0.0, high=1.0)
    label_smoothing: float = option(0.0, "share of the label spread over all classes", low=0.0, high=1.0)
    class_label_smoothing: float = option(
        0.0, "more of it for class k: this times its robust accuracy in training", low=0.0, high=1.0
    )
    class_weights: str = option(
        "",
        "weight of each class in the loss: numbers with commas, inverse[:power] of robust accuracy in "
        "training, or hedge[:eta], WAT's weights from robust losses on validation",
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """Where and how the program runs."""

    run_dir: str = option("", "directory of the run; default: a new one under runs/")
    resume: bool = option(True, "go on from the newest checkpoint in run_dir")
    seed: int = option(
        0, "decides data order, initial weights, random starts and augmentation", low=0, high=2**31 - 1
    )
    deterministic: bool = option(
        False,
        "equal bits for equal seeds on the same machine and devices, slower where the device is not so by "
        "itself; an operation that cannot ends the run and is named",
    )
    precision: str = option("float32", "arithmetic of the network", choices=("float32", "bfloat16"))
    jit_compile: bool = option(False, "compile the training step with XLA")
    devices: str = option("1", "number of devices on this machine (of each worker), or all")
    cpu_devices: int = option(
        0,
        "split the CPU into this many devices, to try several without GPUs; 0 leaves it whole",
        low=0,
    )
    batch_norm: str = option(
        "synchronized",
        "BatchNorm on several devices: statistics of the global batch, or of each replica's part",
        choices=("synchronized", "replica"),
    )
    worker_timeout: float = option(
        300.0, "seconds to wait for the other workers of TF_CONFIG", low=0.0, open_low=True
    )
    on_divergence: str = option(
        "stop",
        "when loss or weights are no numbers any more: stop, or roll back to the last good checkpoint and go "
        "on with a tenth of the learning rate, once",
        choices=("stop", "rollback"),
    )
    select: str = option(
        "robust_accuracy+robust_worst_class", "validation metrics whose sum chooses the best epoch"
    )
    keep_last: int = option(
        0, "keep the networks of this many last epochs in last/, and evaluate each as the best one", low=0
    )
    checkpoint_minutes: float = option(10.0, "minutes between checkpoints within an epoch", low=0.0)
    tensorboard: bool = option(True, "write TensorBoard files")
    evaluate: str = option("clean,fgsm,pgd20", "attacks on the test split at the end; empty for none")
    evaluate_examples: int = option(
        0,
        "test examples for that, the same number a class and the same ones for every seed; 0 for all",
        low=0,
    )


# What is not part of the experiment: another value may go on in the same run directory.
_FREE = {
    "run": {
        "run_dir",
        "resume",
        "checkpoint_minutes",
        "worker_timeout",
        "on_divergence",
        "tensorboard",
        "evaluate",
        "evaluate_examples",
    },
    "data": {"data_dir", "download", "limit_test"},
}


@dataclasses.dataclass(frozen=True)
class Config:
    """One run. `options` holds the training method's own options, by field name."""

    data: Data = Data()
    network: Network = Network()
    attack: Attack = Attack()
    optimization: Optimization = Optimization()
    run: Run = Run()
    method: str = "fairat"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for section in self.sections().values():
            check(section)
        if not self.data.mix and self.data.mix_probability != 1.0:
            raise ValueError("mix_probability needs mix=mixup or mix=cutmix")
        if not self.optimization.awp_gamma and self.optimization.awp_warmup:
            raise ValueError("awp_warmup needs awp_gamma")
        if self.attack.norm == "linf" and self.attack.epsilon > 1.0:
            raise ValueError(
                "epsilon must be in [0, 1] where norm is linf, since pixels are (8/255, not 8); "
                f"received {self.attack.epsilon!r}"
            )

    def sections(self) -> dict[str, Any]:
        """Returns the sections by name, in the order of the fields."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in found.items() if dataclasses.is_dataclass(value)}

    def filled(self, recipe: Mapping[str, Any]) -> "Config":
        """Returns the configuration with fields that are None taken from `recipe` (field name -> value)."""
        return self._replaced(lambda name, value: recipe.get(name) if value is None else value)

    def _replaced(self, new: Any) -> "Config":
        changed = {
            section: dataclasses.replace(
                values, **{f.name: new(f.name, getattr(values, f.name)) for f in dataclasses.fields(values)}
            )
            for section, values in self.sections().items()
        }
        return dataclasses.replace(self, **changed)

    def to_json(self) -> str:
        """Returns the configuration as JSON with sorted sections, ending with a new line."""
        return json.dumps(dataclasses.asdict(self) | {"options": dict(self.options)}, indent=2) + "\n"

    def to_flags(self) -> str:
        """Returns the configuration as lines for --flagfile."""
        lines = [f"--method={self.method}"]
        for section in self.sections().values():
            for field in dataclasses.fields(section):
                name, value = field.metadata["flag"] or field.name, getattr(section, field.name)
                lines += [] if value is None else [_flag_line(name, value)]
        return "\n".join([*lines, *(_flag_line(k, v) for k, v in self.options.items())]) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Returns the configuration that `to_json` wrote.

        Raises:
          ValueError: not JSON, or fields that this version does not know.
        """
        values = json.loads(text)
        try:
            sections = {name: kind(**values.pop(name)) for name, kind in _SECTIONS.items()}
            return cls(**sections, **values)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a configuration of this version of fairat_tf: {error}") from error

    def difference(self, other: "Config") -> dict[str, tuple[Any, Any]]:
        """Returns what makes `other` another experiment: name -> (this value, other value)."""
        mine, theirs = self.experiment(), other.experiment()
        return {
            name: (mine.get(name), theirs.get(name))
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        }

    def experiment(self) -> dict[str, Any]:
        """Returns what decides the result, by name: all but directories, intervals and the like."""
        flat = {"method": self.method, **{f"options.{k}": v for k, v in self.options.items()}}
        for section, values in self.sections().items():
            kept = dataclasses.asdict(values).items()
            flat |= {k: v for k, v in kept if k not in _FREE.get(section, ())}
        return flat


def _flag_line(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no'}{name}"
    return f"--{name}={value}"


_SECTIONS: dict[str, Any] = {
    "data": Data,
    "network": Network,
    "attack": Attack,
    "optimization": Optimization,
    "run": Run,
}
