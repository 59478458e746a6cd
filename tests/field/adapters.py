"""Adapters, parametrizations, pruning and quantization."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver
from torch.nn.utils import parametrizations, prune

from tests.field.blocks import Residual, Trunk, conv, layers
from tests.field.records import Structure, images, tokens

ARRIVED = "arrived with requires_grad=False"


class LoraLinear(nn.Module):
    """A frozen layer with a product of two small matrices beside it."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base.out_features, bias=False)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class Lora(nn.Module):
    """microsoft/LoRA and huggingface/peft: adapters in a frozen transformer, put in by hand."""

    def __init__(self):
        super().__init__()
        self.patch_embed, self.blocks = nn.Conv2d(3, 16, 8, 8), layers(16, 3)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)
        for part in (self.patch_embed, self.blocks, self.norm):
            part.requires_grad_(False)
        for block in self.blocks:
            block.attn.query = LoraLinear(block.attn.query)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


class Adapted(nn.Module):
    """A frozen block with a bottleneck behind it."""

    def __init__(self, block, width):
        super().__init__()
        self.block = block.requires_grad_(False)
        self.adapter = nn.Sequential(nn.Conv2d(width, 2, 1), nn.ReLU(), nn.Conv2d(2, width, 1))

    def forward(self, x):
        x = self.block(x)
        return x + self.adapter(x)


class Bottlenecks(nn.Module):
    """srebuffi/residual_adapters: small trainable parts between the blocks of a frozen ResNet."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8).requires_grad_(False)
        parts = ((8, 8, 1), (8, 12, 2), (12, 16, 2))
        self.layers = nn.Sequential(*[Adapted(Residual(a, b, s), b) for a, b, s in parts])
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


class SideTuning(nn.Module):
    """jozhang97/side-tuning: a frozen trunk and a small trained one, mixed by a learned weight."""

    def __init__(self):
        super().__init__()
        self.base = Trunk().requires_grad_(False)
        self.side = nn.Sequential(conv(3, 8, 2), conv(8, 16, 2))
        self.alpha, self.fc = nn.Parameter(torch.tensor(0.0)), nn.Linear(16, 4)

    def forward(self, x):
        alpha = self.alpha.sigmoid()
        return self.fc(alpha * self.base(x) + (1 - alpha) * self.side(x).mean((2, 3)))


def spectral_norm():
    """Discriminators of GANs (SNGAN): spectral norm on each convolution."""
    parts, width = [], 3
    for out in (8, 12, 16):
        layer = parametrizations.spectral_norm(nn.Conv2d(width, out, 3, 2, 1))
        parts += [layer, nn.LeakyReLU(0.1)]
        width = out
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1))


def weight_norm():
    """Super-resolution (WDSR): weight norm on convolutions, old and new way."""
    parts = [nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)]
    parts = [parametrizations.weight_norm(part) for part in parts]
    return nn.Sequential(*parts, nn.ReLU(), nn.Conv2d(8, 3, 3, 1, 1))


def pruned():
    """torch.nn.utils.prune: masks on the weights of a trained ResNet."""
    model = Trunk()
    for block in (model.layer1[0], model.layer2[0]):
        prune.l1_unstructured(block.conv1, "weight", 0.3)
    model.fc = nn.Linear(16, 4)
    prune.l1_unstructured(model.fc, "bias", 0.3)
    return model


class FakeQuantConv(nn.Module):
    """A convolution whose weight and output are rounded as an integer net would."""

    def __init__(self, width, out):
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, 2, 1)
        kinds = {"observer": MovingAverageMinMaxObserver, "quant_min": -128, "quant_max": 127}
        self.of_weight = FakeQuantize(dtype=torch.qint8, **kinds)
        self.of_output = FakeQuantize(dtype=torch.qint8, **kinds)

    def forward(self, x):
        weight = self.of_weight(self.conv.weight)
        return self.of_output(F.relu(F.conv2d(x, weight, self.conv.bias, 2, 1)))


class Quantized(nn.Module):
    """pytorch/vision quantization references: training that is aware of quantization."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            FakeQuantConv(3, 8), FakeQuantConv(8, 12), FakeQuantConv(12, 16)
        )
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class MaxNorm(nn.Module):
    """Sentence classifiers with nn.Embedding(max_norm=1), which the forward itself renormalizes."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16, max_norm=1.0)
        self.blocks, self.fc = layers(16, 3), nn.Linear(16, 4)

    def forward(self, words):
        return self.fc(self.blocks(self.embed(words)).mean(1))


class Distilled(nn.Module):
    """Knowledge distillation: a model with its frozen teacher, and the logits of both."""

    def __init__(self):
        super().__init__()
        self.student = Trunk()
        self.student.fc = nn.Linear(16, 4)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            aim = self.teacher(x)
        return {"logits": self.student(x), "teacher": aim}


class CoTeaching(nn.Module):
    """bhanML/Co-teaching: two equal nets, both trained, each with an output of its own."""

    def __init__(self):
        super().__init__()
        self.one, self.two = Trunk(), Trunk()
        self.one.fc, self.two.fc = nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x):
        return self.one(x), self.two(x)


MOVES = "the model's own forward changes"

STRUCTURES = (
    Structure(
        Lora,
        images(),
        5,
        ("head",),
        lacks="statistics",
        warns=(ARRIVED, "adapters"),
        open=("norm",),
    ),
    Structure(Bottlenecks, images(), 5, ("fc",), lacks="attention", warns=(ARRIVED, "adapters")),
    Structure(
        SideTuning,
        images(),
        4,
        ("fc",),
        lacks="attention",
        warns=(ARRIVED,),
        refuses={"surgical:stages=last,head=false": "all that the spec would train"},
        open=("alpha",),
    ),
    Structure(spectral_norm, images(), 4, ("8",), lacks="attention norm statistics"),
    Structure(weight_norm, images(), 3, ("4",), lacks="attention norm statistics"),
    Structure(pruned, images(), 5, ("fc",), lacks="attention"),
    Structure(
        Quantized,
        images(),
        4,
        ("fc",),
        lacks="attention norm statistics",
        warns=(MOVES,),
        moves=tuple(f"features.{i}.of_" for i in range(3)),
    ),
    Structure(
        MaxNorm, tokens(2, 6), 5, ("fc",), lacks="statistics", warns=(MOVES,), moves=("embed",)
    ),
    Structure(
        Distilled,
        images(),
        5,
        ("student.fc",),
        lacks="attention",
        warns=(ARRIVED,),
        open=("teacher.fc",),
    ),
    Structure(CoTeaching, images(), 4, ("one.fc", "two.fc"), lacks="attention"),
)
