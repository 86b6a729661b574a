"""Augmentation: per example, seeded, in the graph, the same with and without XLA.

    augmentation = augment.get("crop_flip+randaugment:2,8")
    images = augmentation(images, seed)                      # float32 [B, H, W, C] in [0, 1]

    mix = augment.get_mix("cutmix")
    images, soft_labels = mix(images, labels_onehot, seed)   # these mix two examples
    mixing = augment.get_mixing("cutmix", num_classes=10)    # the same from labels int32 [B], for training

A specification is `name[:arguments]`; steps joined by "+" are applied from left to right.
Every augmentation is a frozen dataclass with `draw` (seed -> numbers) and `apply` (numbers -> images).
"""

from fairat_tf.augment.base import Augmentation, Chain, Mix, build
from fairat_tf.augment.mixing import Mixing
from fairat_tf.lookup import Table

AUGMENTATIONS = Table(
    "augmentation",
    {
        "none": "fairat_tf.augment.base:NoAugmentation",
        "flip": "fairat_tf.augment.crop:Flip",
        "crop": "fairat_tf.augment.crop:Crop",
        "crop_flip": "fairat_tf.augment.crop:CropFlip",
        "cropshift": "fairat_tf.augment.crop:CropShift",
        "cutout": "fairat_tf.augment.erase:Cutout",
        "erase": "fairat_tf.augment.erase:RandomErasing",
        "color": "fairat_tf.augment.jitter:ColorJitter",
        "randaugment": "fairat_tf.augment.rand_augment:RandAugment",
        "trivialaugment": "fairat_tf.augment.rand_augment:TrivialAugment",
        "autoaugment": "fairat_tf.augment.auto_augment:AutoAugment",
        "idbh_weak": "fairat_tf.augment.idbh:idbh_weak",
        "idbh_strong": "fairat_tf.augment.idbh:idbh_strong",
        "idbh_svhn": "fairat_tf.augment.idbh:idbh_svhn",
    },
)

MIXES = Table(
    "mixing augmentation",
    {
        "mixup": "fairat_tf.augment.mixing:MixUp",
        "cutmix": "fairat_tf.augment.mixing:CutMix",
    },
)


def names() -> list[str]:
    """Returns the names that `get` understands, in the order of the table."""
    return AUGMENTATIONS.names()


def mix_names() -> list[str]:
    """Returns the names that `get_mix` understands, in the order of the table."""
    return MIXES.names()


def get(spec: str) -> Augmentation:
    """Returns the augmentation that `spec` describes, such as "crop_flip+randaugment:2,8".

    Args:
      spec: `name` or `name:argument,argument`; several joined by "+" apply from left to right.

    Raises:
      ValueError: an unknown name (the message lists the known ones), a name that needs `get_mix`,
        or arguments that the augmentation does not take (the message lists those it takes).
    """
    steps = tuple(_one(part.strip()) for part in spec.split("+"))
    return steps[0] if len(steps) == 1 else Chain(steps)


def _one(part: str) -> Augmentation:
    name = part.partition(":")[0]
    if name in mix_names():
        raise ValueError(
            f"Augmentation {name!r} mixes two examples and needs soft labels: expected one of "
            f"{', '.join(names())}; for mixing use --mix={part}, or fairat_tf.augment.get_mix({part!r})."
        )
    return build(AUGMENTATIONS, part)


def get_mix(spec: str) -> Mix:
    """Returns the mixing augmentation that `spec` describes: "mixup", "mixup:0.2", "cutmix".

    Raises:
      ValueError: as for `get`.
    """
    return build(MIXES, spec.strip())


def get_mixing(spec: str, num_classes: int, probability: float = 1.0) -> Mixing | None:
    """Returns what mixes training batches: (images, labels int [B], seed) -> (images, soft labels [B, K]).

    Args:
      spec: as for `get_mix`; for "" the result is None: nothing is mixed.
      num_classes: K.
      probability: chance of each example to be mixed, in (0, 1].

    Raises:
      ValueError: as for `get`, or a probability outside (0, 1].
    """
    if not spec:
        return None
    return Mixing(get_mix(spec), probability, num_classes)
