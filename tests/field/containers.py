"""Inputs and outputs of many kinds."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from tests.field.blocks import Trunk, conv, layers
from tests.field.records import Structure, images, tokens


def trunk(out=4):
    """Return a trunk with a classifier."""
    model = Trunk()
    model.fc = nn.Linear(16, out)
    return model


class DictOutput(nn.Module):
    """torchvision.models.segmentation: a dict with "out" and "aux"."""

    def __init__(self):
        super().__init__()
        self.backbone = Trunk()
        self.classifier = nn.Sequential(conv(16, 8), nn.Conv2d(8, 3, 1))
        self.aux_classifier = nn.Conv2d(12, 3, 1)

    def forward(self, x):
        found = self.backbone.features(x)
        maps = {"out": self.classifier(found[2]), "aux": self.aux_classifier(found[1])}
        return {name: F.interpolate(m, x.shape[2:]) for name, m in maps.items()}


@dataclass
class Output:
    """What models of huggingface/transformers return."""

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    loss: Tensor | None = None


class DataclassOutput(nn.Module):
    """huggingface/transformers modeling_vit.py: a dataclass with logits and hidden states."""

    def __init__(self):
        super().__init__()
        self.embeddings, self.layer = nn.Conv2d(3, 16, 8, 8), layers(16, 3)
        self.layernorm, self.classifier = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, pixel_values, labels=None):
        x, hidden = self.embeddings(pixel_values).flatten(2).transpose(1, 2), []
        for block in self.layer:
            x = block(x)
            hidden.append(x)
        return Output(self.classifier(self.layernorm(x)[:, 0]), tuple(hidden))


Pair = namedtuple("Pair", ["logits", "features"])


class NamedTupleOutput(nn.Module):
    """torchvision googlenet.py and metric learning: a named tuple."""

    def __init__(self):
        super().__init__()
        self.trunk, self.fc = Trunk(), nn.Linear(16, 4)

    def forward(self, x):
        features = self.trunk(x)
        return Pair(self.fc(features), features)


class OwnLoss(nn.Module):
    """Detection and language models that take labels and return their loss alone."""

    def __init__(self):
        super().__init__()
        self.trunk, self.classifier = Trunk(), nn.Linear(16, 4)

    def forward(self, image, labels):
        return {"loss": F.cross_entropy(self.classifier(self.trunk(image)), labels)}


class DictInput(nn.Module):
    """Lightning and mmengine: the forward takes one batch, a dict."""

    def __init__(self):
        super().__init__()
        self.model = trunk()

    def forward(self, batch):
        return self.model(batch["image"]) * batch["weight"]


class KeywordOnly(nn.Module):
    """huggingface/transformers: all arguments by keyword, most of them optional."""

    def __init__(self):
        super().__init__()
        self.vision, self.text = Trunk(), nn.EmbeddingBag(20, 16)
        self.classifier = nn.Linear(16, 4)

    def forward(self, *, pixel_values, input_ids=None, return_dict=True):
        x = self.vision(pixel_values)
        if input_ids is not None:
            x = x + self.text(input_ids)
        return {"logits": self.classifier(x)} if return_dict else self.classifier(x)


class ListInput(nn.Module):
    """Set models and MIL (AMLab-Amsterdam/AttentionDeepMIL): a list of bags of unequal size."""

    def __init__(self):
        super().__init__()
        self.feature_extractor, self.attention = Trunk(), nn.Linear(16, 1)
        self.classifier = nn.Linear(16, 2)

    def forward(self, bags):
        found = []
        for bag in bags:
            features = self.feature_extractor(bag)
            found.append((self.attention(features).softmax(0) * features).sum(0))
        return self.classifier(torch.stack(found))


class Levels(nn.Module):
    """A backbone for detection: it returns features of several levels."""

    out_channels = 8

    def __init__(self):
        super().__init__()
        self.body, self.lateral = Trunk(), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        return {"0": self.lateral(self.body.features(x)[-1])}


def detector():
    """torchvision.models.detection: a list of images and targets in, a dict of losses out."""
    anchors = AnchorGenerator(((8, 16),), ((1.0,),))
    return RetinaNet(Levels(), 3, 32, 32, anchor_generator=anchors, detections_per_img=3)


def targets():
    """Return a list of images with a box each."""
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0]])
    kinds = [{"boxes": boxes, "labels": torch.tensor([1])} for _ in range(2)]
    return [torch.rand(3, 32, 32) for _ in range(2)], kinds


def batch():
    """Return one batch as a dict in a tuple: the first argument."""
    return ({"image": torch.randn(2, 3, 32, 32), "weight": torch.ones(2, 1)},)


def bags():
    """Return two bags of images, of unequal size."""
    return ([torch.randn(count, 3, 32, 32) for count in (2, 3)],)


STRUCTURES = (
    Structure(
        DictOutput, images(), 5, ("classifier",), lacks="attention", open=("aux_classifier",)
    ),
    Structure(
        DataclassOutput,
        lambda: {"pixel_values": torch.randn(2, 3, 32, 32)},
        5,
        ("classifier",),
        lacks="statistics",
        open=("layernorm",),
    ),
    Structure(NamedTupleOutput, images(), 5, ("fc",), lacks="attention"),
    Structure(
        OwnLoss,
        lambda: (torch.randn(2, 3, 32, 32), torch.tensor([0, 1])),
        5,
        ("classifier",),
        lacks="attention",
    ),
    Structure(DictInput, batch, 5, ("model.fc",), lacks="attention"),
    Structure(
        KeywordOnly,
        lambda: {"pixel_values": torch.randn(2, 3, 32, 32), "input_ids": tokens(2, 4)()},
        5,
        ("classifier",),
        lacks="attention",
        open=("text",),
    ),
    Structure(ListInput, bags, 5, ("classifier",), lacks="attention", open=("attention",)),
    Structure(
        detector,
        targets,
        4,
        ("head",),
        lacks="attention",
    ),
)
