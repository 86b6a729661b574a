"""A directory of unusable files: archives, folders, originals and models, each broken in its own way.

write(folder)          # good.npz, good.keras and everything that the tables of this folder name
"""

import keras
import numpy as np
import scipy.io
from PIL import Image

from tests import support


def arrays(**changes):
    """Returns what a good .npz file holds, 60 images of three classes, with some arrays changed."""
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    whole = {"train_images": images, "train_labels": labels, "test_images": images[:12]}
    kept = whole | {"test_labels": labels[:12]} | changes
    return {name: value for name, value in kept.items() if value is not None}


def untested(**changes):
    """Returns changes to `arrays` that leave the short form, without a test split: images and labels."""
    whole = arrays()
    short = {"images": whole["train_images"], "labels": whole["train_labels"]}
    return dict.fromkeys(whole) | short | changes


def floats(value):
    images = arrays()["train_images"] / np.float32(255)
    images[7, 2, 2, 1] = value
    return images


def npz_files():
    good = arrays()
    images, labels = good["train_images"], good["train_labels"]
    return {
        "good": {},
        "more": {"train_labels": np.arange(60) % 4, "test_labels": np.arange(12) % 4},
        "nan": {"train_images": floats(np.nan)},
        "infinite": {"train_images": floats(np.inf)},
        "bright": {"train_images": floats(255.0)},
        "dark": {"train_images": floats(-0.5)},
        "int64": {"train_images": images.astype(np.int64)},
        "flat": {"train_images": images.reshape(60, -1)},
        "alpha": {"train_images": np.concatenate([images, images[..., :1]], -1)},
        "no_labels": {"train_labels": None},
        "float_labels": {"train_labels": labels / 2},
        "negative": {"train_labels": labels - 1},
        "too_high": {"class_names": np.array(["a", "b"])},
        "test_too_high": {"test_labels": np.arange(12) % 5},
        "fewer_labels": {"train_labels": labels[:50]},
        "one_class": {"train_labels": labels * 0, "test_labels": labels[:12] * 0},
        "empty_class": {"train_labels": labels // 2 * 2},
        "same_names": {"class_names": np.array(["a", "b", "a"])},
        "no_examples": {"train_images": images[:0], "train_labels": labels[:0]},
        "no_test": {"test_images": images[:0], "test_labels": labels[:0]},
        "test_size": {"test_images": images[:12, :6, :6]},
        "groups": {"train_groups_age": np.arange(59)},
        **{
            f"short_{name}": untested(**changes)
            for name, changes in {
                "labels": {"labels": labels[:50]},
                "images": {"images": images[:50]},
                "groups": {"groups_age": np.arange(70)},
            }.items()
        },
        "objects": {"train_labels": np.array([{}] * 60)},
        "one_each": {"train_images": images[:3], "train_labels": labels[:3]},
    }


def write_image(path, size=8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_folders(shelf):
    names = ("empty", "corrupt", "text", "cut", "sizes", "classes", "gif")
    for name in names:
        for kind, i in np.ndindex(2, 8):
            write_image(shelf / name / "train" / "ab"[kind] / f"{i}.png", seed=i)
    (shelf / "empty/train/c").mkdir()
    (shelf / "corrupt/train/a/9.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (shelf / "text/train/a/9.jpg").write_text("this is no picture")
    whole = (shelf / "cut/train/a/0.png").read_bytes()
    (shelf / "cut/train/a/0.png").write_bytes(whole[: len(whole) // 2])
    write_image(shelf / "sizes/train/b/9.png", size=9)
    write_image(shelf / "classes/test/a/0.png")
    write_image(shelf / "gif/train/a/9.gif")
    (shelf / "gif/train/a/9.gif").rename(shelf / "gif/train/a/9.png")
    (shelf / "bare").mkdir()
    for i in range(8):
        write_image(shelf / "alone/train/a" / f"{i}.png")


def write_originals(shelf):
    for name, label in (("svhn", 11), ("svhn_cut", 1)):
        (shelf / name).mkdir()
        pixels = np.zeros((32, 32, 3, 20), np.uint8)
        for split in ("train", "test"):
            scipy.io.savemat(shelf / name / f"{split}_32x32.mat", {"X": pixels, "y": np.full((20, 1), label)})
    path = shelf / "svhn_cut/train_32x32.mat"
    path.write_bytes(path.read_bytes()[:900])
    (shelf / "cifar/cifar-10-batches-bin").mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (shelf / f"cifar/cifar-10-batches-bin/{name}.bin").write_bytes(bytes(3073 * 4 - 5))
    (shelf / "cifar_tar").mkdir()
    (shelf / "cifar_tar/cifar-10-binary.tar.gz").write_bytes(b"\x1f\x8b" + bytes(80))


def write_models(shelf):
    network = support.tiny_network(classes=3)
    network.save(shelf / "good.keras")
    support.tiny_network(classes=5).save(shelf / "five.keras")
    support.tiny_network(classes=3, shape=(12, 12, 3)).save(shelf / "large.keras")
    probabilities = keras.layers.Softmax()(network.output)
    keras.Model(network.input, probabilities).save(shelf / "softmax.keras")
    network.set_weights([weights * np.nan for weights in network.get_weights()])
    network.save(shelf / "nan.keras")
    (shelf / "damaged.keras").write_bytes((shelf / "good.keras").read_bytes()[:500])
    (shelf / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n")


def write(folder):
    """Fills the folder."""
    for name, changes in npz_files().items():
        np.savez(folder / f"{name}.npz", **arrays(**changes))
    (folder / "text.npz").write_text("no archive")
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:700])
    np.save(folder / "single.npy", np.zeros(3))
    (folder / "single.npz").write_bytes((folder / "single.npy").read_bytes())
    (folder / "bytes.flags").write_bytes(b"\xff\xfe--seed=1")
    write_folders(folder)
    write_originals(folder)
    write_models(folder)
