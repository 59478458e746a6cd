"""Layers that several structures are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def conv(width: int, out: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return convolution, batch norm and activation."""
    layer = nn.Conv2d(width, out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """A block of a ResNet, with one convolution."""

    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = nn.Identity()
        if stride > 1 or width != out:
            self.downsample = nn.Conv2d(width, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)) + self.downsample(x))


class Trunk(nn.Module):
    """A ResNet without its classifier: (batch, 3, 32, 32) to (batch, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Residual(8, 8))
        self.layer2 = nn.Sequential(Residual(8, 12, 2))
        self.layer3 = nn.Sequential(Residual(12, 16, 2))
        self.fc = nn.Identity()

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of all levels."""
        x = F.relu(self.bn1(self.conv1(x)))
        found = []
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x)[-1].mean((2, 3)))


class Attention(nn.Module):
    """Attention of one head, of tokens to themselves or to others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, others: Tensor | None = None) -> Tensor:
        key, value = self.key_value(x if others is None else others).chunk(2, dim=-1)
        return self.proj(F.scaled_dot_product_attention(self.query(x), key, value))


class Layer(nn.Module):
    """A layer of a transformer, with norms before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = (
            nn.LayerNorm(width),
            Attention(width),
            nn.LayerNorm(width),
        )
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def layers(width: int, count: int) -> nn.Sequential:
    """Return layers of a transformer in sequence."""
    return nn.Sequential(*[Layer(width) for _ in range(count)])


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Return two linear layers with an activation between."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
