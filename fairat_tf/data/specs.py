"""What is known about data sets: pixel mean and deviation, class names, recipe, original files.

known = spec("cifar10", data)
network = fairat_tf.networks.get("resnet18")(num_classes=10, mean=known.mean, std=known.std)
"""

import dataclasses
import re

import numpy as np

from fairat_tf.data.dataset import Dataset
from fairat_tf.data.tfds_features import split_name

_VERSION = re.compile(r":[\d*][\d.*]*$")
_DIGITS = tuple("0123456789")


@dataclasses.dataclass(frozen=True)
class Spec:
    """Facts of one data set.

    Attributes:
      mean: pixel mean of each channel, of images in [0, 1].
      std: pixel standard deviation of each channel.
      class_names: where the files hold numbers only; else empty.
      flip: whether a mirrored image is still of its class (not so for digits).
      learning_rate: of the community's SGD recipe for adversarial training (`learning_rate` at batch 128).
      files: original files that are read without network when they lie in `data_dir`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()
    flip: bool = True
    learning_rate: float = 0.1
    files: tuple[str, ...] = ()


_CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_SVHN = Spec(
    # Rice et al. 2020, train_svhn.py: 0.5 for every channel, learning rate 0.01, no flip.
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    class_names=_DIGITS,
    flip=False,
    learning_rate=0.01,
    files=("train_32x32.mat", "test_32x32.mat"),
)

SPECS: dict[str, Spec] = {
    "street_digits": dataclasses.replace(_SVHN, files=()),
    "svhn": _SVHN,
    "svhn_cropped": _SVHN,
    # Mean and deviation of the training pixels, the values in the code of Rice et al. 2020 and AWP.
    "cifar10": Spec(
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2471, 0.2435, 0.2616),
        class_names=_CIFAR10_NAMES,
        files=("cifar-10-binary.tar.gz",),
    ),
    "cifar100": Spec(
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        files=("cifar-100-binary.tar.gz",),
    ),
    # Mean and deviation of the training pixels.
    "mnist": Spec(mean=(0.1307,), std=(0.3081,), class_names=_DIGITS, flip=False),
    "fashion_mnist": Spec(mean=(0.2860,), std=(0.3530,)),
    "stl10": Spec(mean=(0.4467, 0.4398, 0.4066), std=(0.2603, 0.2566, 0.2713)),
}
"""Known data sets; for others `spec` computes mean and deviation."""


def known_spec(name: str) -> Spec | None:
    """Returns the `Spec` of a listed data set, with a version or its own label named or not; else None."""
    base, feature = split_name(name)
    return SPECS.get(_VERSION.sub("", base)) if feature in ("", "label") else None


def spec(name: str, dataset: Dataset) -> Spec:
    """Returns the `Spec` of data set `name`; mean and deviation of unknown ones come from the train pixels.

    Known values are used only where they fit the channels of `dataset`.
    """
    known = known_spec(name)
    if known is not None and len(known.mean) == dataset.image_shape[-1]:
        return known
    mean, std = pixel_statistics(dataset.train.images)
    return Spec(mean, std, class_names=dataset.class_names)


def pixel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns (mean, standard deviation) of each channel of uint8 images [N, H, W, C], in units of [0, 1].

    From the histogram of values, so exact whatever the number of images. A constant channel gets deviation 1.
    """
    values = np.arange(256) / 255.0
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        blocks = np.array_split(images[..., channel], max(1, len(images) // 1024))
        counts = sum(np.bincount(block.ravel(), minlength=256) for block in blocks)
        share = counts / images[..., channel].size
        mean = float(share @ values)
        means.append(mean)
        deviations.append(float(np.sqrt(share @ (values - mean) ** 2)) or 1.0)
    return tuple(means), tuple(deviations)
