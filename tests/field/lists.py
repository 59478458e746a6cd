"""Parallel lists, and layers that are used more than once or chosen as the model runs."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.field.blocks import Attention, Layer, Residual, Trunk, conv, layers, mlp
from tests.field.records import Structure, images, noise, several, tokens


class ListPerKind(nn.Module):
    """facebookresearch/XLM xlm/model/transformer.py: one ModuleList per kind of layer."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.attentions = nn.ModuleList([Attention(16) for _ in range(3)])
        self.norm1 = nn.ModuleList([nn.LayerNorm(16) for _ in range(3)])
        self.ffns = nn.ModuleList([mlp(16, 32, 16) for _ in range(3)])
        self.norm2 = nn.ModuleList([nn.LayerNorm(16) for _ in range(3)])
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        for at in range(3):
            x = self.norm1[at](x + self.attentions[at](x))
            x = self.norm2[at](x + self.ffns[at](x))
        return self.head(x.mean(1))


class GraphNet(nn.Module):
    """snap-stanford/ogb gnn.py: lists of convolutions and norms, messages summed by index_add."""

    def __init__(self):
        super().__init__()
        self.atoms = nn.Embedding(20, 16)
        self.convs = nn.ModuleList([mlp(16, 16, 16) for _ in range(3)])
        self.batch_norms = nn.ModuleList([nn.BatchNorm1d(16) for _ in range(3)])
        self.graph_pred_linear = nn.Linear(16, 4)

    def forward(self, nodes, edges):
        x = self.atoms(nodes)
        for layer, norm in zip(self.convs, self.batch_norms, strict=True):
            gathered = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
            x = F.relu(norm(layer(x + gathered)))
        return self.graph_pred_linear(x.view(2, -1, 16).mean(1))


class ConvsThenNorms(nn.Module):
    """Hand-made CNNs whose layers are registered in groups of one kind, not in order of use."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 4)
        self.norms = nn.ModuleList([nn.BatchNorm2d(c) for c in (8, 12, 16)])
        self.convs = nn.ModuleList(
            [nn.Conv2d(a, b, 3, 2, 1) for a, b in ((3, 8), (8, 12), (12, 16))]
        )

    def forward(self, x):
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return self.fc(x.mean((2, 3)))


class Recursive(nn.Module):
    """DRCN and RecursiveMAE: one block is used several times between a stem and a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.down, self.block = conv(3, 8), conv(8, 8, 2), Residual(8, 8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.down(self.stem(x))
        for _ in range(3):
            x = self.block(x)
        return self.fc(x.mean((2, 3)))


class TiedLanguageModel(nn.Module):
    """karpathy/nanoGPT model.py: the embedding is the weight of the last layer too."""

    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(20, 16), nn.Embedding(6, 16)
        self.h, self.ln_f = layers(16, 2), nn.LayerNorm(16)
        self.lm_head = nn.Linear(16, 20, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        return self.lm_head(self.ln_f(self.h(x)))


class Albert(nn.Module):
    """google-research/albert: all layers share one set of weights."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer = nn.Conv2d(3, 16, 8, 8), Layer(16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        for _ in range(3):
            x = self.layer(x)
        return self.head(self.norm(x.mean(1)))


class Checkpointed(nn.Module):
    """torchvision and timm with gradient checkpointing: blocks run inside of checkpoint()."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8)
        self.blocks = nn.ModuleList([Residual(8, 8), Residual(8, 12, 2), Residual(12, 16, 2)])
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return self.fc(x.mean((2, 3)))


class Routed(nn.Module):
    """Multi-task models that keep one head per task in a ModuleDict."""

    def __init__(self):
        super().__init__()
        self.trunk = Trunk()
        self.heads = nn.ModuleDict({"age": nn.Linear(16, 1), "kind": nn.Linear(16, 4)})

    def forward(self, x):
        x = self.trunk(x)
        return {name: head(x) for name, head in self.heads.items()}


class Experts(nn.Module):
    """A mixture of experts in the manner of Mixtral: each token goes to two of four experts."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm1, self.gate = (
            nn.Conv2d(3, 16, 8, 8),
            nn.LayerNorm(16),
            nn.Linear(16, 4),
        )
        self.experts = nn.ModuleList([mlp(16, 16, 16) for _ in range(4)])
        self.norm2, self.mix, self.head = nn.LayerNorm(16), mlp(16, 16, 16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        y = self.norm1(x)
        weights, chosen = self.gate(y).softmax(-1).topk(2, dim=-1)
        for at, expert in enumerate(self.experts):
            share = (weights * (chosen == at)).sum(-1, keepdim=True)
            x = x + share * expert(y)
        x = x + self.mix(self.norm2(x))
        return self.head(x.mean(1))


class PointNet(nn.Module):
    """fxia22/pointnet.pytorch: a small net makes a matrix for the points, then layers per point."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU())
        self.matrix = nn.Linear(8, 9)
        self.conv1, self.bn1 = nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8)
        self.conv2, self.bn2 = nn.Conv1d(8, 16, 1), nn.BatchNorm1d(16)
        self.fc1, self.bn3, self.fc2 = nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Linear(12, 4)

    def forward(self, x):
        turned = self.matrix(self.turn(x).amax(2)).view(-1, 3, 3)
        x = F.relu(self.bn1(self.conv1(turned @ x)))
        x = self.bn2(self.conv2(x)).amax(2)
        return self.fc2(F.relu(self.bn3(self.fc1(x))))


class HandFrozen(nn.Module):
    """Scripts that freeze the first layers by hand before anything else."""

    def __init__(self):
        super().__init__()
        self.trunk, self.fc = Trunk(), nn.Linear(16, 4)
        for part in (self.trunk.conv1, self.trunk.bn1, self.trunk.layer1):
            part.requires_grad_(False)

    def forward(self, x):
        return self.fc(self.trunk(x))


STRUCTURES = (
    Structure(ListPerKind, images(), 4, ("head",), lacks="statistics"),
    Structure(
        GraphNet,
        several(tokens(8), tokens(2, 20, below=8)),
        4,
        ("graph_pred_linear",),
        lacks="attention",
    ),
    Structure(ConvsThenNorms, images(), 4, ("fc",), lacks="attention"),
    Structure(Recursive, images(), 3, ("fc",), lacks="attention"),
    Structure(
        TiedLanguageModel, tokens(2, 6), 4, ("ln_f",), lacks="statistics", reused=("wte", "lm_head")
    ),
    Structure(Albert, images(), 3, ("norm", "head"), lacks="statistics"),
    Structure(Checkpointed, images(), 4, ("fc",), lacks="attention"),
    Structure(Routed, images(), 5, ("heads",), lacks="attention"),
    Structure(PointNet, noise(2, 3, 12), 4, ("fc2",), lacks="attention", open=("fc1", "bn3")),
    Structure(
        HandFrozen, images(), 5, ("fc",), lacks="attention", warns=("arrived with requires_grad",)
    ),
    Structure(Experts, images(), 3, ("head",), lacks="statistics attention"),
)
