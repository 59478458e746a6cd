"""Inputs and outputs of many kinds, wrappers, and numbers of half precision."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from tests.field.blocks import Residual, Trunk, conv, layers
from tests.field.records import Structure, images, noise, tokens


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
    Structure(DataclassOutput, lambda: {"pixel_values": torch.randn(2, 3, 32, 32)}, 5,
              ("classifier",), lacks="statistics", open=("layernorm",)),
    Structure(NamedTupleOutput, images(), 5, ("fc",), lacks="attention"),
    Structure(OwnLoss, lambda: (torch.randn(2, 3, 32, 32), torch.tensor([0, 1])), 5,
              ("classifier",), lacks="attention"),
    Structure(DictInput, batch, 5, ("model.fc",), lacks="attention"),
    Structure(
        KeywordOnly,
        lambda: {"pixel_values": torch.randn(2, 3, 32, 32), "input_ids": tokens(2, 4)()},
        5, ("classifier",), lacks="attention", open=("text",),
    ),
    Structure(ListInput, bags, 5, ("classifier",), lacks="attention", open=("attention",)),
    Structure(
        detector, targets, 4, ("head",), lacks="attention",
        refuses={"fraction:share=0.7": "choose by parameters instead"},
    ),
    Structure(lazy, images(), 3, ("fc",), lacks="attention"),
    Structure(bfloat16, noise(2, 3, 32, 32, dtype=torch.bfloat16), 5, ("fc",), lacks="attention"),
    Structure(float16, noise(2, 3, 32, 32, dtype=torch.float16), 5, ("fc",), lacks="attention"),
    Structure(float64, noise(2, 3, 32, 32, dtype=torch.float64), 5, ("fc",), lacks="attention"),
    Structure(HalfInside, images(), 5, ("head",), lacks="statistics", open=("norm",)),
    Structure(Compiled, images(), 3, ("fc",), lacks="attention"),
    Structure(data_parallel, images(), 5, ("module.fc",), lacks="attention"),
    Structure(Counters, images(), 5, ("fc",), lacks="attention"),
    Structure(VqVae, images(), 3, ("decoder.1",), lacks="attention", open=("decoder.0",)),
    Structure(
        from_scratch_by_grad, images(), 4, ("5",), lacks="attention statistics",
        moves=("0.1", "1.1", "2.1"),
    ),
    Structure(
        centred, images(), 4, ("5",), lacks="attention norm statistics",
        moves=("0.1", "1.1", "2.1"),
    ),
    Structure(from_scratch, images(), 4, ("5",), lacks="attention statistics"),
)  # fmt: skip
