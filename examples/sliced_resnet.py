"""An example of a user's module: torchvision's resnet50 in four slices and a new classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import resnet50


class SlicedResNet(nn.Module):
    """Slices of a ResNet-50. The forward returns (feature, output, list of layer features)."""

    def __init__(self, classes: int = 64) -> None:
        super().__init__()
        layers = list(resnet50(weights=None).children())
        self.convnet_1 = nn.Sequential(*layers[:5])
        self.convnet_2 = nn.Sequential(layers[5])
        self.convnet_3 = nn.Sequential(layers[6])
        self.convnet_4 = nn.Sequential(layers[7])
        self.pool = layers[8]
        self.linear = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        features = []
        for part in (self.convnet_1, self.convnet_2, self.convnet_3, self.convnet_4):
            x = part(x)
            features.append(x)
        feature = torch.flatten(self.pool(x), 1)
        return feature, self.linear(feature), features


def factory(pretrained: bool = False, num_classes: int = 64) -> nn.Module:
    if pretrained:
        raise ValueError("this example has no weights")
    return SlicedResNet(num_classes)


def loss(output: tuple[Tensor, Tensor, list[Tensor]]) -> Tensor:
    return output[1].square().mean()
