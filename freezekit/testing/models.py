"""Small models for 32-pixel images. Each has a property that strategies often handle wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CLASSES = 5


def images() -> Tensor:
    """Return a batch of shape (4, 3, 32, 32). It is always the same; random state is not used."""
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class _Block(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(width, out, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Residual(nn.Module):
    """Convolutions and batch norms with shortcuts, as in a ResNet, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(_Block(8, 8), nn.Dropout(0.1))
        self.layer2, self.layer3 = nn.Sequential(_Block(8, 12)), nn.Sequential(_Block(12, 16))
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(query, key, value))
        return mixed


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), _Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop(self.mlp(self.norm2(x)))
        return out


class Transformer(nn.Module):
    """Attention and layer norms. Class token and position table are parameters of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, 16) * 0.02)
        self.patch_embed = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.ModuleList(_Layer(16) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class NormAct(nn.BatchNorm2d):
    """A batch norm fused with its activation, as in timm: a subclass with another name."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


class Fused(nn.Module):
    """Norms with a fused activation. A strategy that replaces the norm loses the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), NormAct(8))
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), NormAct(12), nn.Conv2d(12, 12, 1)),
            nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1), NormAct(16), nn.Conv2d(16, 16, 1)),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


class Tied(nn.Module):
    """Two layers that share one weight. Each has its own bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.one, self.two = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.two.weight = self.one.weight
        self.norm, self.fc = nn.BatchNorm1d(8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.two(F.relu(self.one(F.relu(self.conv(x))))))
        logits: Tensor = self.fc(self.norm(x.mean((2, 3))))
        return logits


class Sliced(nn.Module):
    """A backbone cut into modules with new names. It returns features and logits."""

    def __init__(self) -> None:
        super().__init__()
        whole = Residual()
        self.convnet_1 = nn.Sequential(whole.conv1, whole.bn1, nn.ReLU())
        self.convnet_2, self.convnet_3 = whole.layer1, whole.layer2
        self.linear = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.convnet_3(self.convnet_2(self.convnet_1(x))).mean((2, 3))
        return feature, self.linear(feature)


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "transformer": Transformer,
    "fused": Fused,
    "tied": Tied,
    "sliced": Sliced,
}
"""The models on which `StrategyContract` tests a strategy, by name."""
