"""Initial weights: the distributions of PyTorch, a seed for the whole network, another one for each layer."""

import functools

import keras
import numpy as np
import pytest

from fairat_tf import networks

_TINY = ("small_cnn", "resnet18", "preact_resnet18", "wrn_10_1")


def _fills(values: np.ndarray, bound: float, share: float = 0.98) -> bool:
    """The largest magnitude is at the bound, from below."""
    return share * bound < np.abs(values).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("name, convolutions", [("preact_resnet18", 17), ("wrn_10_2", 7), ("small_cnn", 4)])
def test_initial_distributions(name, convolutions):
    """Uniform in +-bound, deviation bound / sqrt(3); Wide ResNet N(0, sqrt(2 / (9 C_out)))."""
    model, normal = networks.get(name)(num_classes=100, width=16), name.startswith("wrn")
    kernels = [w.numpy() for w in model.trainable_variables if w.shape[:2] == (3, 3)]
    assert len(kernels) == convolutions
    for kernel in kernels:
        bound = 1 / np.sqrt(np.prod(kernel.shape[:3]))
        expected = np.sqrt(2 / (9 * kernel.shape[3])) if normal else bound / np.sqrt(3)
        noise = 5 * expected / np.sqrt(kernel.size)
        assert abs(kernel.std() - expected) < noise and abs(kernel.mean()) < noise
        assert np.abs(kernel).max() > 2.3 * expected if normal else _fills(kernel, bound)
    head = model.get_layer("logits")
    bound = 1 / np.sqrt(head.kernel.shape[0])
    assert _fills(head.kernel.numpy(), bound)
    assert np.all(head.bias.numpy() == 0) if normal else _fills(head.bias.numpy(), bound, 0.9)


@pytest.mark.parametrize("name", _TINY)
def test_batchnorm_constants(name):
    norms = [
        layer
        for layer in networks.get(name)(width=2).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert norms and all(layer.momentum == 0.9 and layer.epsilon == 1e-5 for layer in norms)
    assert all(np.all(layer.gamma.numpy() == 1) and np.all(layer.beta.numpy() == 0) for layer in norms)


def test_wide_resnet_draws_normal_not_uniform():
    """The fourth moment over the squared second: 3 for a normal distribution, 1.8 for a uniform one."""
    wide = networks.get("wrn_10_2")().get_layer("stage3_block1_conv2").kernel.numpy()
    narrow = networks.get("preact_resnet_10")(width=16).get_layer("stage4_block1_conv2").kernel.numpy()
    moments = [np.mean(k**4) / np.mean(k**2) ** 2 for k in (wide, narrow)]
    np.testing.assert_allclose(moments, [3.0, 1.8], atol=0.1)


@pytest.mark.parametrize("name", _TINY)
def test_seed_decides_the_weights(name):
    make = functools.partial(networks.get(name), width=4)
    one, same, other = ([w.numpy() for w in make(seed=s).weights] for s in (5, 5, 6))
    drawn = [i for i, w in enumerate(make().weights) if "kernel" in w.path]
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(np.abs(one[i] - other[i]).max() > 0 for i in drawn)


def test_layers_of_one_shape_start_differently():
    model = networks.get("preact_resnet18")(width=4)
    kernels = [w.numpy() for w in model.weights if w.shape == (3, 3, 4, 4)]
    assert len(kernels) == 4
    assert all(np.abs(a - b).max() > 0.1 for i, a in enumerate(kernels) for b in kernels[:i])


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
