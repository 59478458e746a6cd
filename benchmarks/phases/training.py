"""The small training of these benchmarks: a network, its data, and what it follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CLASSES = 5

SCHEDULES: Mapping[str, str] = {
    "gradual-unfreeze": "gradual-unfreeze:every=1ep",
    "lp-ft": "lp-ft",
    "chain-thaw": "chain-thaw",
    "freeze-out": "freeze-out",
    "one-cycle-unfreeze": "one-cycle-unfreeze",
    "auto-rgn": "auto-rgn:batches=2,freeze_below=0.7",
    "plasticity": "plasticity:every=2,window=2,tolerance=0.5",
    "on-plateau": (
        "on-plateau:phases=head-only|first-n-stages:n=2|full,"
        "patience=1,min_delta=0.1,restore_best=true"
    ),
    "timeline": "head-only then first-n-stages:n=2 at 1ep then full at 50%",
}
"""Every built-in schedule, with options that let a short run go through several phases, and a text
that composes strategies in time."""


class Net(nn.Module):
    """A stem and three blocks with batch norm, then a head with dropout."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()

        def block(inside: int, out: int) -> nn.Sequential:
            conv = nn.Conv2d(inside, out, 3, 2, 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())

        widths = (3, width, width, 2 * width, 2 * width)
        self.stem, self.s1, self.s2, self.s3 = map(block, widths, widths[1:])
        self.pool, self.drop = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.2)
        self.fc = nn.Linear(2 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, classes)."""
        x = self.s3(self.s2(self.s1(self.stem(x))))
        return self.fc(self.drop(self.pool(x).flatten(1)))  # type: ignore[no-any-return]  # torch


def batch(step: int, rank: int = 0, pixels: int = 16) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a step, other ones on each rank."""
    source = torch.Generator().manual_seed(1000 * rank + step)
    images = torch.randn(8, 3, pixels, pixels, generator=source)
    return images, torch.randint(0, CLASSES, (8,), generator=source)


def optimizers() -> dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]]:
    """Return how each optimizer is made of parameter groups. Any: of torch's groups."""
    import timm.optim

    return {
        "SGD momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
        "AdamW": torch.optim.AdamW,
        "RMSprop": lambda groups: torch.optim.RMSprop(groups, momentum=0.9),
        "timm Lamb": timm.optim.Lamb,
    }


def warm_restarts(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.SequentialLR:
    """Return a scheduler with inner ones: a warm-up, then a cosine that restarts."""
    scheduling = torch.optim.lr_scheduler
    warm_up = scheduling.LinearLR(optimizer, 0.2, total_iters=4)
    cosine = scheduling.CosineAnnealingWarmRestarts(optimizer, T_0=8)
    return scheduling.SequentialLR(optimizer, [warm_up, cosine], milestones=[4])
