"""Models in wrappers and in other models, and numbers of half precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn

from tests.field.blocks import Residual, Trunk, conv, layers
from tests.field.records import Structure, images, noise


def trunk():
    """Return a trunk with a classifier."""
    model = Trunk()
    model.fc = nn.Linear(16, 4)
    return model


class Lazy(nn.Module):
    """Tutorials with nn.LazyLinear: shapes are known after the first forward."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.LazyConv2d(8, 3, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU(),
            nn.LazyConv2d(12, 3, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU(),
        )  # fmt: skip
        self.fc = nn.LazyLinear(4)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


def lazy():
    """Tutorials with nn.LazyLinear, after a dry run."""
    model = Lazy()
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32).expand(2, -1, -1, -1))
    return model


def bfloat16():
    """Fine-tuning on small machines: all weights in bfloat16."""
    return trunk().bfloat16()


def float16():
    """Inference code that is trained on: all weights in float16."""
    return trunk().half()


def float64():
    """Physics and gradient checks: all weights in float64."""
    return trunk().double()


class HalfInside(nn.Module):
    """timm and openai/CLIP convert_weights: weights in float16, norms in float32."""

    def __init__(self):
        super().__init__()
        self.patch_embed, self.blocks = nn.Conv2d(3, 16, 8, 8), layers(16, 3)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.half()

    def forward(self, x):
        with torch.autocast("cpu", torch.float16):
            x = self.patch_embed(x.half()).flatten(2).transpose(1, 2)
            return self.head(self.norm(self.blocks(x)).mean(1))


class Compiled(nn.Module):
    """huggingface/pytorch-image-models train.py --torchcompile, of one part of the model."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8)
        self.body = nn.Sequential(Residual(8, 8), Residual(8, 12, 2))
        self.body.compile(backend="eager")
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


def data_parallel():
    """Older training scripts: the model is in nn.DataParallel, here without any GPU."""
    return nn.DataParallel(trunk())


class Inner(nn.Module):
    """Wrappers of training scripts: the model is an attribute of another one."""

    def __init__(self):
        super().__init__()
        self.inner = Trunk()
        self.inner.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.inner(x - 0.5)


class Deep(nn.Module):
    """Frameworks such as mmlab: a model in a model in a model, with a head at each level."""

    def __init__(self):
        super().__init__()
        self.model = Inner()
        self.model.inner.fc = nn.Identity()
        self.neck, self.cls_head = nn.Linear(16, 12), nn.Linear(12, 4)

    def forward(self, x):
        return self.cls_head(F.relu(self.neck(self.model(x))))


def list_of_layers():
    """PyTorch forum: layers of a pretrained model in a new nn.Sequential without names."""
    whole = Trunk()
    parts = [whole.conv1, whole.bn1, nn.ReLU(), whole.layer1, whole.layer2, whole.layer3]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


STRUCTURES = (
    Structure(lazy, images(), 3, ("fc",), lacks="attention"),
    Structure(bfloat16, noise(2, 3, 32, 32, dtype=torch.bfloat16), 5, ("fc",), lacks="attention"),
    Structure(float16, noise(2, 3, 32, 32, dtype=torch.float16), 5, ("fc",), lacks="attention"),
    Structure(float64, noise(2, 3, 32, 32, dtype=torch.float64), 5, ("fc",), lacks="attention"),
    Structure(HalfInside, images(), 5, ("head",), lacks="statistics", open=("norm",)),
    Structure(Compiled, images(), 3, ("fc",), lacks="attention"),
    Structure(data_parallel, images(), 5, ("module.fc",), lacks="attention"),
    Structure(Inner, images(), 5, ("inner.fc",), lacks="attention"),
    Structure(Deep, images(), 5, ("cls_head",), lacks="attention", open=("neck",)),
    Structure(list_of_layers, images(), 5, ("8",), lacks="attention"),
)
