"""A small network trained on drawn patterns, with its data: made once for all tests here."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest


class Small(NamedTuple):
    """A trained network and 80 test examples of 4 classes, uint8 [80, 12, 12, 3]."""

    network: Any
    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    npz: Path

    def folders(self, root: Path, sides: tuple[str, ...]) -> str:
        """Writes all images as root/LABEL_CLASS/SIDE/NUMBER.png, the sides in turn; returns "folder:ROOT"."""
        from PIL import Image

        for number, (image, label) in enumerate(zip(self.images, self.labels, strict=True)):
            folder = root / f"{label}_{self.names[label]}" / sides[number // 4 % len(sides)]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:03}.png")
        return f"folder:{root}"

    def logits_fn(self, images):
        return self.network(images, training=False)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    from fairat_tf.evaluation import planted

    images, labels = planted.drawn(800, seed=0)
    test_images, test_labels = planted.drawn(80, seed=1)
    network = planted.trained(images, labels, seed=0)
    path = tmp_path_factory.mktemp("data") / "patterns.npz"
    np.savez(
        path,
        train_images=images,
        train_labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=np.array(planted.CLASSES),
        train_groups_side=np.arange(800) % 2,
        test_groups_side=np.arange(80) // 4 % 2,
    )
    return Small(network, test_images, test_labels, planted.CLASSES, path)
