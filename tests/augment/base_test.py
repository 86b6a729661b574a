"""Specifications and chains: what `get` understands, what it says otherwise, and the order of steps."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import augment, rng
from fairat_tf.augment import base, crop, erase, rand_augment


def test_arguments_are_converted_in_order() -> None:
    assert augment.get("randaugment") == rand_augment.RandAugment(2, 8, 0.0)
    assert augment.get("randaugment:3, 10") == rand_augment.RandAugment(3, 10, 0.0)
    assert augment.get("randaugment:1,30,0.5") == rand_augment.RandAugment(1, 30, 0.5)
    assert augment.get("cutout:8") == erase.Cutout(8)
    assert augment.get_mix("mixup:0.2").alpha == 0.2


def test_plus_joins_steps_from_left_to_right() -> None:
    expected = base.Chain((crop.CropFlip(2), erase.Cutout(8)))
    assert augment.get("crop_flip:2 + cutout:8") == expected
    images = tf.ones([1, 4, 4, 1])
    cut_then_move = {"0/centre": tf.constant([[0, 0]]), "1/offset": tf.constant([[1, 0]])}
    got = base.Chain((erase.Cutout(2), crop.Crop(1))).apply(images, cut_then_move).numpy()[0, :, :, 0]
    # The square at centre (0, 0) covers pixel (0, 0) only, which the move by one row drops.
    assert got.tolist() == [[1] * 4, [1] * 4, [1] * 4, [0] * 4]
    move_then_cut = {"0/offset": tf.constant([[1, 0]]), "1/centre": tf.constant([[0, 0]])}
    got = base.Chain((crop.Crop(1), erase.Cutout(2))).apply(images, move_then_cut).numpy()[0, :, :, 0]
    assert got.tolist() == [[0, 1, 1, 1], [1] * 4, [1] * 4, [0] * 4]


def test_equal_steps_have_draws_of_their_own() -> None:
    drawn = augment.get("flip+flip").draw(rng.key(0, "test"), 64, (4, 4, 3))
    assert np.any(drawn["0/mirror"].numpy() != drawn["1/mirror"].numpy())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cutuot", r"Unknown augmentation 'cutuot'; known: none, flip, .*Did you mean 'cutout'"),
        ("", "Unknown augmentation ''"),
        ("crop_flip+", "Unknown augmentation ''"),
        ("cutout:a", r"'cutout' takes size \(int, default 16\).*received 'cutout:a'"),
        ("cutout:1,2", r"'cutout' takes size .*received 'cutout:1,2'"),
        (
            "randaugment:2,8.5",
            r"takes n \(int, default 2\), m \(int, default 8\), fill \(float, default 0.0\)",
        ),
        ("none:1", "'none' takes no arguments; received 'none:1'"),
        ("idbh_weak:3", "'idbh_weak' takes no arguments"),
        ("randaugment:2,99", "m from 0 to 30"),
        ("cutmix", r"mixes two examples.*use --mix=cutmix, or fairat_tf.augment.get_mix\('cutmix'\)"),
    ],
)
def test_wrong_specifications(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment.get(spec)


def test_unknown_mix() -> None:
    with pytest.raises(ValueError, match="Unknown mixing augmentation 'flip'; known: mixup, cutmix"):
        augment.get_mix("flip")


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 4, 4, 2)])
def test_wrong_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images \[B, H, W, C\]"):
        augment.get("crop")(tf.zeros(shape), rng.key(0, "test"))


def test_unknown_size() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def augmented(images: tf.Tensor) -> tf.Tensor:
        return augment.get("crop")(images, rng.key(0, "test"))

    with pytest.raises(ValueError, match="ensure_shape"):
        augmented(tf.zeros([1, 4, 4, 3]))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
