"""Convolutional classifiers with unusual routes through their layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn

from tests.field.blocks import Residual, conv
from tests.field.records import Structure, images, noise


class DenseBlock(nn.Module):
    """Each layer reads all that came before."""

    def __init__(self, width, growth, count):
        super().__init__()
        self.parts = nn.ModuleList(
            [nn.Sequential(nn.BatchNorm2d(width + i * growth), nn.ReLU(),
                           nn.Conv2d(width + i * growth, growth, 3, 1, 1)) for i in range(count)]
        )  # fmt: skip

    def forward(self, x):
        found = [x]
        for part in self.parts:
            found.append(part(torch.cat(found, 1)))
        return torch.cat(found, 1)


class DenseNet(nn.Module):
    """gpleiss/efficient_densenet_pytorch: features are concatenated, not added."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 8, 3, 1, 1))
        self.features.add_module("denseblock1", DenseBlock(8, 4, 2))
        self.features.add_module("transition1", nn.Sequential(nn.Conv2d(16, 8, 1), nn.AvgPool2d(2)))
        self.features.add_module("denseblock2", DenseBlock(8, 4, 2))
        self.features.add_module("norm_final", nn.BatchNorm2d(16))
        self.classifier = nn.Linear(16, 4)

    def forward(self, x):
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))


class Shuffle(nn.Module):
    """A block that lets one half of the channels pass, and shuffles both."""

    def __init__(self, width, stride):
        super().__init__()
        self.stride, half = stride, width if stride > 1 else width // 2
        self.branch = nn.Sequential(conv(half, half, 1, 1), conv(half, half, stride))
        self.short = conv(width, half, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        if self.stride > 1:
            y = torch.cat([self.short(x), self.branch(x)], 1)
        else:
            kept, changed = x.chunk(2, 1)
            y = torch.cat([kept, self.branch(changed)], 1)
        return y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleNet(nn.Module):
    """megvii-model/ShuffleNet-Series ShuffleNetV2: split, shuffle and no addition."""

    def __init__(self):
        super().__init__()
        self.first_conv = conv(3, 4, 2)
        self.features = nn.Sequential(Shuffle(4, 2), Shuffle(8, 1), Shuffle(8, 2), Shuffle(16, 1))
        self.classifier = nn.Linear(16, 4)

    def forward(self, x):
        return self.classifier(self.features(self.first_conv(x)).mean((2, 3)))


class Hrnet(nn.Module):
    """HRNet/HRNet-Image-Classification: branches of several resolutions that are fused."""

    def __init__(self):
        super().__init__()
        self.stem, self.layer1 = conv(3, 8, 2), Residual(8, 8)
        self.transition = conv(8, 12, 2)
        self.branches = nn.ModuleList([Residual(8, 8), Residual(12, 12)])
        self.down, self.up = conv(8, 12, 2), conv(12, 8, 1, 1)
        self.branches2 = nn.ModuleList([Residual(8, 8), Residual(12, 12)])
        self.classifier = nn.Linear(20, 4)

    def forward(self, x):
        x = self.layer1(self.stem(x))
        high, low = self.branches[0](x), self.branches[1](self.transition(x))
        high, low = high + F.interpolate(self.up(low), scale_factor=2), low + self.down(high)
        high, low = self.branches2[0](high), self.branches2[1](low)
        return self.classifier(torch.cat([high.mean((2, 3)), low.mean((2, 3))], 1))


class Inception(nn.Module):
    """GoogLeNet-like blocks: parallel branches are concatenated."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8, 2)
        self.a = nn.ModuleList([conv(8, 4, 1, 1), conv(8, 4, 1, 3), conv(8, 4, 1, 5)])
        self.b = nn.ModuleList([conv(12, 4, 2, 1), conv(12, 4, 2, 3), conv(12, 4, 2, 5)])
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in (self.a, self.b):
            x = torch.cat([branch(x) for branch in block], 1)
        return self.fc(x.mean((2, 3)))


class DeepSupervision(nn.Module):
    """GoogLeNet and BiSeNet: classifiers at the side in train mode, only the last one in eval."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = conv(3, 8, 2), Residual(8, 12, 2), Residual(12, 16, 2)
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        x = self.one(self.stem(x))
        side = self.aux(x) if self.training else None
        logits = self.fc(self.two(x).mean((2, 3)))
        return (logits, side) if self.training else logits


class EarlyExits(nn.Module):
    """BranchyNet, MSDNet: an exit after each block, all of them trained."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8)
        self.blocks = nn.ModuleList([Residual(8, 8), Residual(8, 12, 2), Residual(12, 16, 2)])
        self.exits = nn.ModuleList([nn.Linear(width, 4) for width in (8, 12, 16)])

    def forward(self, x):
        x, found = self.stem(x), []
        for block, leave in zip(self.blocks, self.exits, strict=True):
            x = block(x)
            found.append(leave(x.mean((2, 3))))
        return found


class Video(nn.Module):
    """kenshohara/3D-ResNets-PyTorch: convolutions over time and space."""

    def __init__(self):
        super().__init__()
        widths = ((3, 8, 1), (8, 12, 2), (12, 16, 2))
        self.layers = nn.Sequential(
            *[nn.Sequential(nn.Conv3d(a, b, 3, s, 1, bias=False), nn.BatchNorm3d(b), nn.ReLU())
              for a, b, s in widths]
        )  # fmt: skip
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.layers(x).mean((2, 3, 4)))


class GroupConv(nn.Module):
    """tscohen/GrouPy: the weight of a convolution is built of four rotations in each forward."""

    def __init__(self, width, out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, width, 3, 3) / 6)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x):
        turned = torch.cat([torch.rot90(self.weight, k, (2, 3)) for k in range(4)])
        y = F.conv2d(x, turned, self.bias.repeat(4), padding=1).unflatten(1, (4, -1))
        return F.max_pool2d(F.relu(y.amax(1)), 2)


class Equivariant(nn.Module):
    """QUVA-Lab/escnn: layers whose weights are built in the forward."""

    def __init__(self):
        super().__init__()
        self.lift = GroupConv(3, 8)
        self.blocks = nn.Sequential(GroupConv(8, 12), GroupConv(12, 16))
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.blocks(self.lift(x)).mean((2, 3)))


class Vgg(nn.Module):
    """Textbook VGG: a classifier of three linear layers with dropout on flattened features."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2),
            nn.Conv2d(12, 16, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(256, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(True),
            nn.Dropout(), nn.Linear(32, 4),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def pix2pix_encoder():
    """junyanz/pytorch-CycleGAN-and-pix2pix: norms without weights, with statistics, and dropout."""
    parts, width = [], 3
    for out in (8, 12, 16):
        norm = nn.InstanceNorm2d(out, affine=False, track_running_stats=True)
        parts += [nn.Conv2d(width, out, 3, 2, 1, bias=False), norm, nn.ReLU(True), nn.Dropout(0.5)]
        width = out
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


STRUCTURES = (
    Structure(DenseNet, images(), 4, ("classifier",), lacks="attention", open=("features.norm",)),
    Structure(ShuffleNet, images(), 4, ("classifier",), lacks="attention"),
    Structure(Hrnet, images(), 3, ("classifier",), lacks="attention"),
    Structure(Inception, images(), 3, ("fc",), lacks="attention"),
    Structure(DeepSupervision, images(), 4, ("fc",), lacks="attention", open=("aux",)),
    Structure(EarlyExits, images(), 3, ("exits",), lacks="attention"),
    Structure(Video, noise(2, 3, 8, 16, 16), 4, ("fc",), lacks="attention"),
    Structure(Equivariant, images(), 4, ("fc",), lacks="attention norm statistics"),
    Structure(Vgg, images(), 4, ("classifier",), lacks="attention norm statistics"),
    Structure(
        pix2pix_encoder,
        images(),
        4,
        ("14",),
        lacks="attention norm",
        warns=("the norms have no weights to train",),
    ),
)
