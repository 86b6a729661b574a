"""The networks of `fairat_tf.networks` in PyTorch, as far as the benchmark compares them.

network = network_of("preact_resnet18", width=0, classes=10)
logits = network.folded(images, network.fold(torch.bfloat16))     # BatchNorm folded where it may be
"""

import re
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's usage)
from torch import nn


def _affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _convolved(x: torch.Tensor, conv: nn.Conv2d, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


class _PreActBlock(nn.Module):
    """Pre-activation basic block; the shortcut convolves the activated input."""

    def __init__(self, channels: int, filters: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(filters)
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        changes = stride != 1 or channels != filters
        self.shortcut = nn.Conv2d(channels, filters, 1, stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(self.norm1(x))
        x = x if self.shortcut is None else self.shortcut(a)
        return self.conv2(F.relu(self.norm2(self.conv1(a)))) + x

    def fold(self, kind: torch.dtype) -> dict[str, Any]:
        scale, offset = _affine(self.norm2)
        return {
            "conv1": (self.conv1.weight * scale[:, None, None, None]).to(kind),
            "bias": offset.to(kind),
            "conv2": self.conv2.weight.to(kind),
            "shortcut": None if self.shortcut is None else self.shortcut.weight.to(kind),
        }

    def folded(self, x: torch.Tensor, made: dict[str, Any]) -> torch.Tensor:
        a = F.relu(self.norm1(x))
        x = x if self.shortcut is None else _convolved(a, self.shortcut, made["shortcut"])
        y = F.relu(_convolved(a, self.conv1, made["conv1"], made["bias"]))
        return _convolved(y, self.conv2, made["conv2"]) + x


class _PreAct(nn.Module):
    """Stem, blocks, BatchNorm, ReLU, mean, linear: PreActResNets and Wide ResNets."""

    def __init__(self, stem: int, widths: list[int], blocks: list[int], classes: int):
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        made, channels = [], stem
        for stage, (filters, count) in enumerate(zip(widths, blocks, strict=True)):
            for i in range(count):
                made.append(_PreActBlock(channels, filters, 2 if stage and not i else 1))
                channels = filters
        self.blocks = nn.ModuleList(made)
        self.norm, self.linear = nn.BatchNorm2d(channels), nn.Linear(channels, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem((images - 0.5) / 0.25)
        for block in self.blocks:
            x = block(x)
        return self.linear(F.relu(self.norm(x)).mean((2, 3)))

    def fold(self, kind: torch.dtype) -> dict[str, Any]:
        """Returns the kernels cast, with BatchNorm folded into the convolutions in front of it."""
        return {
            "stem": (self.stem.weight / 0.25).to(kind),
            "blocks": [block.fold(kind) for block in self.blocks],
        }

    def folded(self, images: torch.Tensor, made: dict[str, Any]) -> torch.Tensor:
        """Returns the logits with BatchNorm in inference mode."""
        x = _convolved((images - 0.5).to(made["stem"].dtype), self.stem, made["stem"])
        for block, weights in zip(self.blocks, made["blocks"], strict=True):
            x = block.folded(x, weights)
        return self.linear(F.relu(self.norm(x)).mean((2, 3)))


class _Plain(nn.Module):
    """Convolution, BatchNorm, ReLU, several times: small_cnn."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        channels, convs, norms = 3, [], []
        for multiple, stride in ((1, 2), (2, 2), (4, 2), (4, 1)):
            convs.append(nn.Conv2d(channels, multiple * width, 3, stride, 1, bias=False))
            channels = multiple * width
            norms.append(nn.BatchNorm2d(channels))
        self.convs, self.norms = nn.ModuleList(convs), nn.ModuleList(norms)
        self.linear = nn.Linear(channels, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images - 0.5) / 0.25
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.linear(x.mean((2, 3)))

    def fold(self, kind: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Returns kernels and biases with BatchNorm in them."""
        made = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            scale, offset = _affine(norm)
            weight = conv.weight * scale[:, None, None, None]
            made.append(((weight if made else weight / 0.25).to(kind), offset.to(kind)))
        return made

    def folded(self, images: torch.Tensor, made: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Returns the logits with BatchNorm in inference mode."""
        x = (images - 0.5).to(made[0][0].dtype)
        for conv, (weight, bias) in zip(self.convs, made, strict=True):
            x = F.relu(_convolved(x, conv, weight, bias))
        return self.linear(x.mean((2, 3)))


def network_of(name: str, width: int, classes: int) -> Any:
    """Returns the network; width 0 is its own.

    Raises:
      ValueError: a network that the peer does not have.
    """
    if name == "small_cnn":
        return _Plain(width or 32, classes)
    if name == "preact_resnet18":
        first = width or 64
        return _PreAct(first, [first * m for m in (1, 2, 4, 8)], [2, 2, 2, 2], classes)
    found = re.fullmatch(r"wrn_(\d+)_(\d+)", name)
    if not found:
        raise ValueError(f"the peer has small_cnn, preact_resnet18 and wrn_D_W, not {name}")
    depth, stem = int(found[1]), width or 16
    wide = stem * int(found[2])
    return _PreAct(stem, [wide, 2 * wide, 4 * wide], [(depth - 4) // 6] * 3, classes)
