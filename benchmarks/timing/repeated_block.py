"""A model whose step is known to take 5 % longer where its parameter `more` is frozen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCKS = 20


class RepeatedBlock(nn.Module):
    """The same block 20 times over, or 21: equal work each time, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.Tanh())
        self.more = nn.Parameter(torch.zeros(1))
        self.twin = nn.Parameter(torch.zeros(1))
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (batch, 10), of images of shape (batch, 3, height, width)."""
        x = self.stem(images) + self.more + self.twin
        for _ in range(BLOCKS if self.more.requires_grad else BLOCKS + 1):
            x = self.block(x)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]  # torch's Linear


def build() -> nn.Module:
    """Return the model, for `freezekit bench`."""
    torch.manual_seed(0)
    return RepeatedBlock()
