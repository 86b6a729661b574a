"""RandAugment, TrivialAugment, AutoAugment and IDBH's table: what is drawn, and how often."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.augment import idbh
from fairat_tf.augment.auto_augment import CIFAR10_POLICY, AutoAugment
from fairat_tf.augment.operations import Op
from fairat_tf.augment.rand_augment import RandAugment, TrivialAugment

SHAPE = (32, 32, 3)
MANY = 20000
SIGNED = range(Op.SHEAR_X, Op.SHARPNESS + 1)


def draw(augmentation: object, many: int = MANY) -> tuple[np.ndarray, np.ndarray]:
    drawn = augmentation.draw(rng.key(0, "test"), many, SHAPE)
    return drawn["op"].numpy(), drawn["magnitude"].numpy()


def assert_shares(counts: np.ndarray, shares: object) -> None:
    """Counts within five standard deviations of their expectation."""
    expected = counts.sum() * np.broadcast_to(shares, counts.shape)
    assert np.all(np.abs(counts - expected) <= 5 * np.sqrt(expected)), (counts, expected)


def test_randaugment_operations_are_uniform_in_both_slots() -> None:
    op, _ = draw(RandAugment(2, 8))
    assert_shares(np.bincount(op[:, 0] * 14 + op[:, 1], minlength=196), 1 / 196)
    assert op.max() == Op.EQUALIZE, "Invert is not among RandAugment's operations"


def test_randaugment_magnitudes_and_signs() -> None:
    """The magnitudes of bin 8 that the docstring lists, with a symmetric sign where there is one."""
    op, magnitude = draw(RandAugment(2, 8))
    sizes = {Op.SHEAR_X: 0.08, Op.TRANSLATE_Y: 150 / 331 * 32 * 8 / 30, Op.ROTATE: 8.0, Op.CONTRAST: 0.24}
    sizes |= {Op.POSTERIZE: 7.0, Op.SOLARIZE: 187 / 255}
    for chosen, size in sizes.items():
        np.testing.assert_allclose(np.abs(magnitude[op == chosen]), size, rtol=1e-5)
    for chosen in Op:
        negative = magnitude[op == chosen] < 0
        if chosen in SIGNED:
            assert_shares(np.bincount(negative, minlength=2), 0.5)
        else:
            assert not negative.any()
    shear = (op == Op.SHEAR_X).all(1)
    signs = (magnitude[shear] < 0) @ [2, 1]
    assert_shares(np.bincount(signs, minlength=4), 0.25)


def test_randaugment_number_of_slots() -> None:
    op, _ = draw(RandAugment(5, 3), 10)
    assert op.shape == (10, 5)


def test_trivialaugment_bins_are_uniform() -> None:
    op, magnitude = draw(TrivialAugment())
    assert_shares(np.bincount(op[:, 0], minlength=14), 1 / 14)
    rotate = np.rint(np.abs(magnitude[op == Op.ROTATE]) / 135 * 30).astype(int)
    assert_shares(np.bincount(rotate, minlength=31), 1 / 31)
    bits = magnitude[op == Op.POSTERIZE].astype(int)
    # 8 - round(bin / 5): bins 0-2 give 8, five bins each 7 to 3, bins 28-30 give 2.
    assert_shares(np.bincount(bits, minlength=9), np.array([0, 0, 3, 5, 5, 5, 5, 5, 3]) / 31)
    assert_shares(np.bincount(magnitude[(op == Op.SHEAR_X) & (magnitude != 0)] < 0, minlength=2), 0.5)


def test_autoaugment_policies_probabilities_and_signs() -> None:
    drawn = AutoAugment().draw(rng.key(0, "test"), 3 * MANY, SHAPE)
    policy, op = drawn["policy"].numpy(), drawn["op"].numpy()
    assert_shares(np.bincount(policy, minlength=25), 1 / 25)
    for i, pair in enumerate(CIFAR10_POLICY):
        for slot, (wanted, probability, _) in enumerate(pair):
            mine = op[policy == i, slot]
            assert set(mine) <= {wanted, Op.IDENTITY}
            assert_shares(np.bincount(mine == wanted, minlength=2), [1 - probability, probability])
    pair = op[policy == 9] == [Op.CONTRAST, Op.SHARPNESS]
    assert_shares(
        np.bincount(pair @ [2, 1], minlength=4), 0.16 + 0.08 * np.array([0, 1, 1, 2]) + [0, 0, 0, 0.04]
    )


def test_autoaugment_magnitudes() -> None:
    """Of ten bins: Rotate 2 is 30 * 2 / 9 degrees, TranslateY 9 150 / 331 * 32 pixels, Solarize 2 7 / 9."""
    drawn = AutoAugment().draw(rng.key(0, "test"), MANY, SHAPE)
    policy, op, magnitude = (drawn[name].numpy() for name in ("policy", "op", "magnitude"))
    for row, slot, wanted, size in (
        (1, 0, Op.ROTATE, 30 * 2 / 9),
        (3, 0, Op.SHEAR_Y, 0.3 * 8 / 9),
        (21, 1, Op.TRANSLATE_Y, 150 / 331 * 32),
        (14, 0, Op.SOLARIZE, 7 / 9),
        (5, 1, Op.POSTERIZE, 8 - 3),  # round(4 / 9 * 7) = 3
        (6, 1, Op.BRIGHTNESS, 0.7),
    ):
        mine = magnitude[(policy == row) & (op[:, slot] == wanted), slot]
        assert len(mine) > 50
        np.testing.assert_allclose(np.abs(mine), size, rtol=1e-5)
        if wanted in SIGNED:
            assert_shares(np.bincount(mine < 0, minlength=2), 0.5)


PUBLISHED = """
Invert 0.1 7, Contrast 0.2 6
Rotate 0.7 2, TranslateX 0.3 9
Sharpness 0.8 1, Sharpness 0.9 3
ShearY 0.5 8, TranslateY 0.7 9
AutoContrast 0.5 8, Equalize 0.9 2
ShearY 0.2 7, Posterize 0.3 7
Color 0.4 3, Brightness 0.6 7
Sharpness 0.3 9, Brightness 0.7 9
Equalize 0.6 5, Equalize 0.5 1
Contrast 0.6 7, Sharpness 0.6 5
Color 0.7 7, TranslateX 0.5 8
Equalize 0.3 7, AutoContrast 0.4 8
TranslateY 0.4 3, Sharpness 0.2 6
Brightness 0.9 6, Color 0.2 8
Solarize 0.5 2, Invert 0.0 3
Equalize 0.2 0, AutoContrast 0.6 0
Equalize 0.2 8, Equalize 0.6 4
Color 0.9 9, Equalize 0.6 6
AutoContrast 0.8 4, Solarize 0.2 8
Brightness 0.1 3, Color 0.7 0
Solarize 0.4 5, AutoContrast 0.9 3
TranslateY 0.9 9, TranslateY 0.7 9
AutoContrast 0.9 2, Solarize 0.8 3
Equalize 0.8 8, Invert 0.1 3
TranslateY 0.7 9, AutoContrast 0.9 1
"""
WITHOUT_STRENGTH = ("AutoContrast", "Equalize", "Invert")


def test_autoaugment_policy_is_the_published_one() -> None:
    """Cubuk et al., arXiv 1805.09501, table 7: operation, probability, bin of its strength if it has one."""
    published = [[part.split() for part in line.split(", ")] for line in PUBLISHED.strip().splitlines()]
    wanted = [
        [
            (name.lower(), float(share), 0 if name in WITHOUT_STRENGTH else int(strength))
            for name, share, strength in pair
        ]
        for pair in published
    ]
    found = [
        [(op.name.replace("_", "").lower(), share, strength) for op, share, strength in pair]
        for pair in CIFAR10_POLICY
    ]
    assert len(wanted) == 25 and found == wanted


@pytest.mark.parametrize("table", [idbh.COLOR_BIASED, idbh.SHAPE_BIASED])
def test_idbh_table(table: tuple) -> None:
    op, magnitude = (part[:, 0] for part in draw(idbh.ColorShape(table), 2 * MANY))
    shares = np.zeros(len(Op))
    for row in table:
        shares[row[0]] += row[1]
    assert abs(shares.sum() - 1) < 1e-9
    assert_shares(np.bincount(op, minlength=len(Op)), shares)
    for chosen, _, low, high in table:
        mine = magnitude[op == chosen]
        if chosen in (Op.SHEAR_X, Op.SHEAR_Y, Op.ROTATE):
            assert_shares(np.bincount(mine < 0, minlength=2), 0.5)
            mine = np.abs(mine)
        if chosen == Op.ROTATE:
            assert_shares(np.bincount(mine.astype(int), minlength=high + 1)[1:], 1 / high)
            assert (mine == np.round(mine)).all()
        elif high:
            value = np.arctan(mine) if mine.max() < 0.4 else mine + 1
            assert low <= value.min() + 1e-6
            assert value.max() <= high + 1e-6
            assert_shares(np.histogram(value, 4, (low, high + 1e-6))[0], 0.25)


_COLOURS = ("color", "brightness", "contrast", "sharpness", "autocontrast", "equalize")
_STRENGTHS = ((0.1, 1.9), (0.5, 1.9), (0.5, 1.9), (0.1, 1.9), (0.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize(
    ("table", "shares", "shear", "rotate"),
    [
        (idbh.COLOR_BIASED, [12.5] * 6, (12.5, 0.05, 0.15), (12.5, 1, 10)),
        (idbh.SHAPE_BIASED, [8, 8, 4, 8, 4, 8], (30, 0.05, 0.35), (30, 1, 30)),
    ],
)
def test_idbh_has_the_strengths_of_the_authors(table, shares, shear, rotate) -> None:
    """Per cent, least and greatest as the authors' code has them; their one shear is along x or y."""
    wanted = {name: (share, *ends) for name, share, ends in zip(_COLOURS, shares, _STRENGTHS, strict=True)}
    for axis in "xy":
        wanted[f"shear_{axis}"] = (shear[0] / 2, *shear[1:])
    wanted["rotate"] = rotate
    found = {op.name.lower(): (100 * share, *ends) for op, share, *ends in table}
    assert found.keys() == wanted.keys()
    for name, row in wanted.items():
        assert found[name] == pytest.approx(row), name


def test_idbh_recipes() -> None:
    weak, strong, svhn = idbh.idbh_weak(), idbh.idbh_strong(), idbh.idbh_svhn()
    assert [type(step).__name__ for step in weak.steps] == [
        "Flip",
        "CropShift",
        "ColorShape",
        "RandomErasing",
    ]
    assert (weak.steps[1].high, strong.steps[1].high, svhn.steps[1].high) == (10, 10, 8)
    assert [r.steps[3].probability for r in (weak, strong, svhn)] == [0.5, 1.0, 1.0]
    assert [r.steps[3].largest for r in (weak, strong, svhn)] == [0.33, 0.33, 0.5]


def test_fill_reaches_the_border() -> None:
    """A move to the right by 14 of 32 pixels (bin 30) leaves `fill` on the left."""
    images = tf.zeros([1, 32, 32, 3])
    parameters = {"op": tf.constant([[int(Op.TRANSLATE_X)]]), "magnitude": tf.constant([[14.5]])}
    for augmentation in (RandAugment(1, 30, 0.5), TrivialAugment(0.5), AutoAugment(0.5)):
        got = augmentation.apply(images, parameters).numpy()[0, 0, :, 0]
        assert got.tolist() == [0.5] * 14 + [0.0] * 18


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandAugment(0, 8),
        lambda: RandAugment(2, 31),
        lambda: RandAugment(2, -1),
        lambda: RandAugment(2, 8, 2.0),
        lambda: TrivialAugment(-0.1),
        lambda: AutoAugment(1.1),
    ],
)
def test_impossible_values(make: object) -> None:
    with pytest.raises(ValueError, match="received"):
        make()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
