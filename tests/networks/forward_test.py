"""Forward pass and parameter counts of every network.

The forward pass is held against an implementation in plain NumPy that pads as PyTorch does, and
the parameter counts against the formulas of the papers.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import networks
from fairat_tf.networks import architecture


def _conv(x: np.ndarray, kernel: np.ndarray, stride: int = 1) -> np.ndarray:
    """PyTorch's convolution of [B, H, W, C] with [k, k, C, D], (k - 1) / 2 zeros on all sides."""
    k = kernel.shape[0]
    pad = (k - 1) // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((n - k) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            window = x[:, i * stride : i * stride + k, j * stride : j * stride + k, :]
            out[:, i, j] = np.tensordot(window, kernel, 3)
    return out


class _Oracle:
    """The layers of a model by name, in NumPy and inference mode."""

    def __init__(self, model: keras.Model):
        self.weights = {w.path: w.numpy().astype(np.float64) for w in model.weights}

    def conv(self, x, name, stride=1):
        return _conv(x, self.weights[f"{name}/kernel"], stride)

    def norm(self, x, name):
        gamma, beta, mean, variance = (
            self.weights[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def norm_relu(self, x, name):
        return np.maximum(self.norm(x, name), 0)

    def head(self, x):
        return x.mean((1, 2)) @ self.weights["logits/kernel"] + self.weights["logits/bias"]

    def preact(self, x, blocks):
        x = self.conv(x, "stem_conv")
        for stage, count in enumerate(blocks, start=1):
            for block in range(1, count + 1):
                name, stride = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
                a = self.norm_relu(x, f"{name}_bn1")
                y = self.norm_relu(self.conv(a, f"{name}_conv1", stride), f"{name}_bn2")
                changes = f"{name}_shortcut/kernel" in self.weights
                x = (self.conv(a, f"{name}_shortcut", stride) if changes else x) + self.conv(
                    y, f"{name}_conv2"
                )
        return self.head(self.norm_relu(x, "final_bn"))

    def postact(self, x):
        x = self.norm_relu(self.conv(x, "stem_conv"), "stem_bn")
        for stage in range(1, 5):
            for block in (1, 2):
                name, stride = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
                y = self.norm_relu(self.conv(x, f"{name}_conv1", stride), f"{name}_bn1")
                y = self.norm(self.conv(y, f"{name}_conv2"), f"{name}_bn2")
                if stride == 2:
                    x = self.norm(self.conv(x, f"{name}_shortcut", 2), f"{name}_shortcut_bn")
                x = np.maximum(x + y, 0)
        return self.head(x)

    def plain(self, x):
        for i, stride in enumerate((2, 2, 2, 1), start=1):
            x = self.norm_relu(self.conv(x, f"conv{i}", stride), f"bn{i}")
        return self.head(x)


_FORWARD = {
    "small_cnn": _Oracle.plain,
    "resnet18": _Oracle.postact,
    "preact_resnet18": lambda oracle, x: oracle.preact(x, (2, 2, 2, 2)),
    "preact_resnet_10": lambda oracle, x: oracle.preact(x, (1, 1, 1, 1)),
    "wrn_10_1": lambda oracle, x: oracle.preact(x, (1, 1, 1)),
    "wrn_10_2": lambda oracle, x: oracle.preact(x, (1, 1, 1)),
}


def _shake(model: keras.Model) -> None:
    """Gives BatchNorm parameters and statistics that are neither 0 nor 1."""
    draw = np.random.default_rng(3)
    for w in model.weights:
        if "kernel" not in w.path:
            w.assign(draw.uniform(0.5, 1.5, w.shape) * (1 if "variance" in w.path else draw.choice([-1, 1])))


@pytest.mark.parametrize("name", _FORWARD)
@pytest.mark.parametrize("shape", [(32, 32, 3), (11, 14, 1)])
def test_forward_pass_equals_numpy(name, shape):
    mean, std = (0.5, 0.4, 0.3)[: shape[-1]], (0.2, 0.25, 0.3)[: shape[-1]]
    model = networks.get(name)(7, shape, mean, std, width=4)
    _shake(model)
    images = np.random.default_rng(0).uniform(size=(2, *shape)).astype("float32")
    expected = _FORWARD[name](_Oracle(model), (images - np.array(mean)) / np.array(std))
    assert expected.std() > 1e-2
    got = model(images, training=False)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_padding_matters():
    """So that the test above can fail: Keras' own "same" padding gives other values at stride 2."""
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    kernel = np.random.default_rng(1).normal(size=(3, 3, 3, 2)).astype("float32")
    assert np.abs(_conv(x, kernel, 2) - tf.nn.conv2d(x, kernel, 2, "SAME").numpy()).max() > 0.5


def test_torch_agrees_with_the_numpy_convolution():
    torch = pytest.importorskip("torch")
    x, kernel = (
        np.random.default_rng(0).normal(size=(2, 7, 8, 3)),
        np.random.default_rng(1).normal(size=(3, 3, 3, 5)),
    )
    theirs = torch.nn.functional.conv2d(
        torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(kernel.transpose(3, 2, 0, 1)), stride=2, padding=1
    )
    np.testing.assert_allclose(_conv(x, kernel, 2), theirs.numpy().transpose(0, 2, 3, 1), rtol=1e-10)


def _conv_bn_chain(widths, kernel=3):
    return sum(kernel**2 * a * b for a, b in zip(widths[:-1], widths[1:], strict=True))


def _resnet_count(w, blocks, classes, stem, preact):
    """Trainable parameters of a basic-block ResNet whose stages are `w` wide after a stem `stem` wide."""
    total, before = 9 * 3 * stem, stem
    for width, count in zip(w, blocks, strict=True):
        total += _conv_bn_chain([before] + [width] * (2 * count))
        total += 2 * (before + width if preact else 2 * width) + (count - 1) * 4 * width
        if before != width:
            total += before * width + (0 if preact else 2 * width)
        before = width
    return total + 2 * (before if preact else stem) + (before + 1) * classes


_COUNTS = {
    "preact_resnet18": (_resnet_count((64, 128, 256, 512), (2, 2, 2, 2), 10, 64, True), 11.17e6),
    "preact_resnet_34": (_resnet_count((64, 128, 256, 512), (3, 4, 6, 3), 10, 64, True), 21.28e6),
    "resnet18": (_resnet_count((64, 128, 256, 512), (2, 2, 2, 2), 10, 64, False), 11.17e6),
    "wrn_28_10": (_resnet_count((160, 320, 640), (4, 4, 4), 10, 16, True), 36.5e6),
    "wrn_34_10": (_resnet_count((160, 320, 640), (5, 5, 5), 10, 16, True), 46.2e6),
    "small_cnn": (_conv_bn_chain([3, 32, 64, 128, 128]) + 2 * (32 + 64 + 128 + 128) + 129 * 10, 0.2425e6),
}


@pytest.fixture
def no_drawing(monkeypatch):
    """Makes the full-size networks start at zero, which saves minutes of drawing weights."""
    for name in ("VarianceScaling", "RandomUniform"):
        monkeypatch.setattr(
            architecture.keras.initializers, name, lambda *_, **__: keras.initializers.Zeros()
        )


@pytest.mark.parametrize("name", _COUNTS)
def test_parameter_count(name, no_drawing):
    exact, published = _COUNTS[name]
    model = networks.get(name)()
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == exact
    assert abs(exact / published - 1) < 2e-3


def test_counts_cover_all_listed_names():
    assert set(networks.names()) <= set(_COUNTS)


def test_batchnorm_moves_by_a_tenth_of_the_biased_statistics():
    model = networks.get("small_cnn")(width=4)
    images = np.random.default_rng(0).uniform(size=(5, 32, 32, 3)).astype("float32")
    features = _conv(images, model.get_layer("conv1").kernel.numpy(), 2)
    model(images, training=True)
    norm = model.get_layer("bn1")
    np.testing.assert_allclose(norm.moving_mean, 0.1 * features.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * features.var((0, 1, 2)), rtol=1e-4)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
