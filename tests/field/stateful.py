"""What a forward changes besides the output: counters, averages, statistics."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn

from tests.field.blocks import Trunk, conv
from tests.field.records import Structure, images


class Counters(nn.Module):
    """Models that count steps and keep a moving average of their features in buffers."""

    def __init__(self):
        super().__init__()
        self.trunk, self.fc = Trunk(), nn.Linear(16, 4)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("centre", torch.zeros(16))

    def forward(self, x):
        x = self.trunk(x)
        if self.training:
            self.steps += 1
            self.centre.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return self.fc(x - self.centre)


class Codebook(nn.Module):
    """A dictionary of vectors, whose entries follow what is assigned to them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("embed", torch.randn(6, 16))

    def forward(self, x):
        chosen = torch.cdist(x, self.embed[None]).argmin(-1)
        found = F.embedding(chosen, self.embed)
        if self.training:
            shares = F.one_hot(chosen, 6).to(x.dtype).mean(1).mean(0)[:, None]
            self.embed.lerp_(x.detach().mean((0, 1)).expand(6, -1), 0.1 * shares)
        return x + (found - x).detach()


class VqVae(nn.Module):
    """rosinality/vq-vae-2-pytorch: a codebook that moves in train mode, between two nets."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(conv(3, 8, 2), conv(8, 16, 2))
        self.quantize = Codebook()
        self.decoder = nn.Sequential(conv(16, 8), nn.Conv2d(8, 3, 1))

    def forward(self, x):
        x = self.encoder(x)
        y = self.quantize(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        return self.decoder(y)


class BatchNorm(nn.Module):
    """d2l-ai/d2l-en batch norm from scratch: its statistics are plain tensors."""

    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, width, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.moving_mean, self.moving_var = torch.zeros(1, width, 1, 1), torch.ones(1, width, 1, 1)

    def forward(self, x):
        mean, var = self.moving_mean, self.moving_var
        if self.training:
            mean, var = x.mean((0, 2, 3), True), x.var((0, 2, 3), unbiased=False, keepdim=True)
            self.moving_mean = (0.9 * self.moving_mean + 0.1 * mean).detach()
            self.moving_var = (0.9 * self.moving_var + 0.1 * var).detach()
        return self.gamma * (x - mean) / torch.sqrt(var + 1e-5) + self.beta


class BatchNormByGrad(BatchNorm):
    """The same as the book has it: the mode is whether gradients are on."""

    def forward(self, x):
        mode, self.training = self.training, torch.is_grad_enabled()
        x = super().forward(x)
        self.training = mode
        return x


class Centre(nn.Module):
    """Takes off a mean that follows the inputs, in any mode; it is a plain tensor."""

    def __init__(self, width):
        super().__init__()
        self.scale, self.centre = (
            nn.Parameter(torch.ones(1, width, 1, 1)),
            torch.zeros(1, width, 1, 1),
        )

    def forward(self, x):
        self.centre = 0.9 * self.centre + 0.1 * x.mean((0, 2, 3), True).detach()
        return (x - self.centre) * self.scale


def from_scratch_by_grad():
    """d2l-ai/d2l-en#2213: frozen statistics move, as the book asks torch.is_grad_enabled()."""
    return from_scratch(BatchNormByGrad)


def centred():
    """Codes of one's own in which something follows the inputs in any mode."""
    return from_scratch(Centre)


def from_scratch(norm=BatchNorm):
    """d2l-ai/d2l-en LeNet with the batch norm of the book."""
    parts, width = [], 3
    for out in (8, 12, 16):
        parts.append(nn.Sequential(nn.Conv2d(width, out, 3, 2, 1), norm(out), nn.ReLU()))
        width = out
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


STRUCTURES = (
    Structure(Counters, images(), 5, ("fc",), lacks="attention"),
    Structure(VqVae, images(), 3, ("decoder.1",), lacks="attention", open=("decoder.0",)),
    Structure(
        from_scratch_by_grad,
        images(),
        4,
        ("5",),
        lacks="attention statistics",
        moves=("0.1.moving_", "1.1.moving_", "2.1.moving_"),
    ),
    Structure(
        centred,
        images(),
        4,
        ("5",),
        lacks="attention norm statistics",
        moves=("0.1", "1.1", "2.1"),
    ),
    Structure(from_scratch, images(), 4, ("5",), lacks="attention statistics"),
)
