"""Draws the examples of `street_digits`: coloured house-number digits in the manner of SVHN.

    image = draw("train", index=0, label=7)        # uint8 [32, 32, 3]

Everything about an example comes from one PCG64 generator of (version, split, index), so examples can be
drawn in any order. Nothing here may change without a new version of the data set: figures in reports are
comparable only while the pixels are the same. Fonts are those that matplotlib ships.
"""

import functools
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 32
VERSION = (1, 0, 0)
SIZES = {"train": 20_000, "test": 5_000}
SVHN_COUNTS = {
    "train": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
    "test": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
}
"""Digits 0 to 9 in `svhn_cropped`; the class imbalance that is copied here."""

_CANVAS = 2 * SIZE
_SPLIT_CODES = {"train": 1, "test": 2}
_LABELS = -1
_FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "cmr10.ttf",
    "cmb10.ttf",
    "cmss10.ttf",
    "cmtt10.ttf",
)


def generator(split: str, index: int) -> np.random.Generator:
    """Returns the random numbers of example `index` of `split`, the same on every machine."""
    entropy = [*VERSION, _SPLIT_CODES[split], index - _LABELS]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def labels(split: str) -> np.ndarray:
    """Returns the labels of `split`, int32 [SIZES[split]], shuffled, in SVHN's proportions."""
    counts = np.array(SVHN_COUNTS[split])
    exact = counts * SIZES[split] / counts.sum()
    whole = np.floor(exact).astype(np.int64)
    largest_rests = np.argsort(whole - exact, kind="stable")[: SIZES[split] - whole.sum()]
    whole[largest_rests] += 1
    return generator(split, _LABELS).permutation(np.repeat(np.arange(10, dtype=np.int32), whole))


def draw(split: str, index: int, label: int) -> np.ndarray:
    """Returns example `index` of `split` showing the digit `label`: uint8 [32, 32, 3]."""
    random = generator(split, index)
    ink = _ink(random, label)
    background, foreground = _colours(random)
    image = _surface(random, background, 0.14)
    if random.random() < 0.3:
        image = _shadow(random, image, ink)
    image += ink[..., None] * (_surface(random, foreground, 0.08) - image)
    return _camera(random, image)


@functools.cache
def _font(name: str, height: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    path = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    # The digits' height is about 0.73 em in all these fonts; the basic layout needs no optional library.
    return ImageFont.truetype(str(path), round(height / 0.73), layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def _box(font: ImageFont.FreeTypeFont, text: str) -> tuple[float, float, float, float]:
    return font.getbbox(text)


def _ink(random: np.random.Generator, label: int) -> np.ndarray:
    """Returns how much of each pixel is covered by digits, float64 [32, 32] in [0, 1]."""
    font = _font(_FONTS[random.integers(len(_FONTS))], int(random.integers(36, 58)))
    canvas = Image.new("L", (_CANVAS, _CANVAS), 0)
    pen = ImageDraw.Draw(canvas)
    left, top, right, bottom = _box(font, str(label))
    x, y = (_CANVAS - left - right) / 2, (_CANVAS - top - bottom) / 2
    pen.text((x, y), str(label), fill=255, font=font)
    gap = random.uniform(2, 12)
    for side, neighbour in zip((-1, 1), random.integers(0, 10, 2), strict=True):
        if random.random() < 0.55:
            n_left, _, n_right, _ = _box(font, str(neighbour))
            start = x + right + gap - n_left if side > 0 else x + left - gap - n_right
            pen.text((start, y + random.uniform(-3, 3)), str(neighbour), fill=255, font=font)
    warped = canvas.transform(
        (_CANVAS, _CANVAS), Image.Transform.PERSPECTIVE, _view(random), Image.Resampling.BILINEAR
    )
    return np.asarray(warped.reduce(2), np.float64) / 255.0


def _view(random: np.random.Generator) -> list[float]:
    """Returns the eight numbers of a map from output to input pixels: turn, shear, stretch, shift, tilt."""
    angle, shear = random.normal(0, 0.13), random.normal(0, 0.12)
    stretch = np.exp(random.normal(0, 0.10, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[stretch[0], shear], [0.0, stretch[1]]])
    shift = random.normal(0, 2.2, 2)
    tilt = random.normal(0, 0.0025, 2)
    middle = np.array([_CANVAS / 2, _CANVAS / 2])
    homography = np.eye(3)
    homography[:2, :2] = matrix
    homography[:2, 2] = shift
    homography[2, :2] = tilt
    centre, back = np.eye(3), np.eye(3)
    centre[:2, 2], back[:2, 2] = -middle, middle
    whole = back @ homography @ centre
    return [float(number) for number in (whole / whole[2, 2]).ravel()[:8]]


def _colours(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns background and foreground colours, float64 [3] each; their brightness differs by a contrast."""
    contrast = 0.25 + 0.5 * random.random() ** 1.5
    low = random.uniform(0.06, 0.90 - contrast)
    brightness = np.array([low, low + contrast])
    if random.random() < 0.5:
        brightness = brightness[::-1]
    tint = random.normal(0, 0.11, (2, 3))
    tint -= tint.mean(axis=1, keepdims=True)
    colours = brightness[:, None] + tint
    return colours[0], colours[1]


def _surface(random: np.random.Generator, colour: np.ndarray, strength: float) -> np.ndarray:
    """Returns a surface of about `colour` with a gradient of light and coarse stains, float64 [32, 32, 3]."""
    place = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    slope = random.normal(0, strength, 2)
    light = slope[0] * place[:, None] + slope[1] * place[None, :]
    cells = int(random.integers(3, 9))
    stains = random.normal(0, strength * random.random(), (cells, cells)).astype(np.float32)
    spread = Image.fromarray(stains).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return colour + (light + np.asarray(spread, np.float64))[..., None]


def _shadow(random: np.random.Generator, image: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Returns `image` darkened or lightened beside the strokes, as raised digits do it."""
    down, right = random.integers(-2, 3, 2)
    strength = random.uniform(-0.15, 0.1)
    return image + strength * np.roll(ink, (down, right), (0, 1))[..., None]


def _camera(random: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Returns what a camera makes of `image`: blur, noise, exposure, 8 bits; uint8 [32, 32, 3]."""
    picture = Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
    blurred = picture.filter(ImageFilter.GaussianBlur(1.5 * random.random() ** 1.3))
    noise = random.normal(0, 0.05 * random.random(), (SIZE, SIZE, 3))
    exposed = np.asarray(blurred, np.float64) / 255.0 * random.uniform(0.85, 1.15) + noise
    return np.rint(np.clip(exposed, 0, 1) * 255).astype(np.uint8)
