"""Dense heads, and several heads, on trunks of plain blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn

from tests.field.blocks import Trunk, conv
from tests.field.records import Structure, images


class Pose(nn.Module):
    """Daniil-Osokin/lightweight-human-pose-estimation.pytorch: plain trunk, two dense branches."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv(3, 8, 2), conv(8, 8), conv(8, 12, 2), conv(12, 16))
        self.heatmaps = nn.Sequential(conv(16, 8), nn.Conv2d(8, 5, 1))
        self.offsets = nn.Sequential(conv(16, 8), nn.Conv2d(8, 10, 1))

    def forward(self, x):
        x = self.features(x)
        return self.heatmaps(x), self.offsets(x)


class VggDense(nn.Module):
    """Single-shot detectors and crowd counters (CSRNet) on VGG: a head of several convolutions."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 16, 3, 1, 1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Conv2d(16, 12, 3, 1, 2, 2), nn.ReLU(), nn.Conv2d(12, 8, 3, 1, 2, 2), nn.ReLU(),
            nn.Conv2d(8, 1, 1),
        )  # fmt: skip

    def forward(self, x):
        return self.head(self.features(x))


class MaskLike(nn.Module):
    """facebookresearch/detectron2 Mask R-CNN: a head of linear layers, and one of convolutions."""

    def __init__(self):
        super().__init__()
        self.backbone = Trunk()
        self.box_head = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
        self.box_predictor, self.mask_head = nn.Linear(16, 4), conv(16, 8)
        self.mask_predictor = nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, 3, 1))

    def forward(self, x):
        x = self.backbone.features(x)[-1]
        boxes = self.box_predictor(self.box_head(x.mean((2, 3))))
        return {"boxes": boxes, "masks": self.mask_predictor(self.mask_head(x))}


class Yolo(nn.Module):
    """ultralytics/yolov5: a trunk, a path of several scales, a layer per scale."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleList([conv(3, 8, 2), conv(8, 12, 2), conv(12, 16, 2)])
        self.lateral, self.top, self.low = conv(16, 12, 1, 1), conv(24, 12), conv(12, 16, 2)
        self.detect = nn.ModuleList([nn.Conv2d(12, 7, 1), nn.Conv2d(16, 7, 1)])

    def forward(self, x):
        p3 = self.backbone[1](self.backbone[0](x))
        p4 = self.backbone[2](p3)
        p3 = self.top(torch.cat([F.interpolate(self.lateral(p4), scale_factor=2), p3], 1))
        return [self.detect[0](p3), self.detect[1](self.low(p3) + p4)]


class Squeeze(nn.Module):
    """forresti/SqueezeNet: fire modules, and a classifier that is a convolution and a mean."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), Fire(8, 4), nn.MaxPool2d(2), Fire(16, 8)
        )
        final = nn.Conv2d(32, 4, 1)
        self.classifier = nn.Sequential(nn.Dropout(), final, nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return self.classifier(self.features(x)).flatten(1)


class Fire(nn.Module):
    """A squeezing layer, and two that expand."""

    def __init__(self, width, squeezed):
        super().__init__()
        self.squeeze = nn.Conv2d(width, squeezed, 1)
        self.one, self.three = (
            nn.Conv2d(squeezed, 2 * squeezed, 1),
            nn.Conv2d(squeezed, 2 * squeezed, 3, 1, 1),
        )

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.one(x), self.three(x)], 1))


STRUCTURES = (
    Structure(Pose, images(), 4, ("heatmaps", "offsets"), lacks="attention"),
    Structure(VggDense, images(), 3, ("head",), lacks="attention norm statistics"),
    Structure(
        MaskLike,
        images(),
        5,
        ("box_predictor", "mask_predictor"),
        lacks="attention",
        open=("box_head", "mask_head"),
    ),
    Structure(Yolo, images(), 4, ("detect",), lacks="attention"),
    Structure(Squeeze, images(), 3, ("classifier",), lacks="attention norm statistics"),
)
