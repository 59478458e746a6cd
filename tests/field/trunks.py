"""Two and more trunks: contrastive, siamese, self-supervised and multimodal models."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn

from tests.field.blocks import Trunk, layers, mlp
from tests.field.records import Structure, images, noise, several, tokens


class Visual(nn.Module):
    """openai/CLIP clip/model.py VisionTransformer: it ends with a norm and a bare projection."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(16))
        self.positional_embedding = nn.Parameter(torch.randn(17, 16))
        self.blocks, self.ln_post = layers(16, 3), nn.LayerNorm(16)
        self.proj = nn.Parameter(torch.randn(16, 8) / 4)

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1)
        return self.ln_post(self.blocks(x + self.positional_embedding)[:, 0]) @ self.proj


class Clip(nn.Module):
    """openai/CLIP clip/model.py and mlfoundations/open_clip: an image tower and a text tower."""

    def __init__(self):
        super().__init__()
        self.visual, self.transformer = Visual(), layers(16, 2)
        self.token_embedding = nn.Embedding(20, 16)
        self.positional_embedding = nn.Parameter(torch.randn(6, 16))
        self.ln_final = nn.LayerNorm(16)
        self.text_projection = nn.Parameter(torch.randn(16, 8) / 4)
        self.logit_scale = nn.Parameter(torch.tensor(2.6))

    def forward(self, image, text):
        image = F.normalize(self.visual(image), dim=-1)
        text = self.transformer(self.token_embedding(text) + self.positional_embedding)
        text = F.normalize(self.ln_final(text)[:, -1] @ self.text_projection, dim=-1)
        return self.logit_scale.exp() * image @ text.T


class Siamese(nn.Module):
    """pytorch/examples siamese_network: one trunk for both images, then layers of their own."""

    def __init__(self):
        super().__init__()
        self.resnet, self.fc = Trunk(), mlp(32, 16, 1)

    def forward(self, one, two):
        return torch.sigmoid(self.fc(torch.cat([self.resnet(one), self.resnet(two)], 1)))


class TwoTrunks(nn.Module):
    """huggingface/sentence-transformers#2866: two encoders with two projections, and a cosine."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Trunk(), Trunk()
        self.project_a, self.project_b = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, one, two):
        one, two = self.project_a(self.a(one)), self.project_b(self.b(two))
        return F.normalize(one, dim=-1) @ F.normalize(two, dim=-1).T


class TwoTrunksBare(nn.Module):
    """Retrieval models with two encoders that end with norms and projections without modules."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm_a, self.norm_b = (
            Trunk(),
            Trunk(),
            nn.LayerNorm(16),
            nn.LayerNorm(16),
        )
        self.project_a, self.project_b = (nn.Parameter(torch.randn(16, 8) / 4) for _ in range(2))

    def forward(self, one, two):
        one, two = (
            self.norm_a(self.a(one)) @ self.project_a,
            self.norm_b(self.b(two)) @ self.project_b,
        )
        return F.normalize(one, dim=-1) @ F.normalize(two, dim=-1).T


class Cosine(nn.Module):
    """Face recognition and image retrieval: two encoders and a cosine, without any head."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Trunk(), Trunk()

    def forward(self, one, two):
        return F.normalize(self.a(one), dim=-1) @ F.normalize(self.b(two), dim=-1).T


class ImageAndTable(nn.Module):
    """Multimodal models of medical images with a table of values of the patient."""

    def __init__(self):
        super().__init__()
        self.image, self.table = Trunk(), mlp(5, 8, 16)
        self.norm, self.fc = nn.LayerNorm(16), nn.Linear(32, 3)

    def forward(self, image, table):
        return self.fc(torch.cat([self.norm(self.image(image)), self.table(table)], 1))


class ThreeViews(nn.Module):
    """MVCNN and late fusion of RGB, depth and infrared: three trunks, joined by a mean."""

    def __init__(self):
        super().__init__()
        self.trunks = nn.ModuleList([Trunk() for _ in range(3)])
        self.fc = nn.Linear(16, 4)

    def forward(self, views):
        found = [trunk(view) for trunk, view in zip(self.trunks, views, strict=True)]
        return self.fc(torch.stack(found).mean(0))


class SimSiam(nn.Module):
    """facebookresearch/simsiam simsiam/builder.py: half of the outputs are detached."""

    def __init__(self):
        super().__init__()
        self.encoder = Trunk()
        self.encoder.fc = nn.Sequential(nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16))
        self.predictor = nn.Sequential(
            nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 16)
        )

    def forward(self, one, two):
        z1, z2 = self.encoder(one), self.encoder(two)
        return self.predictor(z1), self.predictor(z2), z1.detach(), z2.detach()


class Byol(nn.Module):
    """lucidrains/byol-pytorch: a target encoder follows the online encoder by momentum."""

    def __init__(self):
        super().__init__()
        self.online, self.predictor = Trunk(), mlp(16, 8, 16)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, one, two):
        if self.training:
            with torch.no_grad():
                pairs = zip(self.target.parameters(), self.online.parameters(), strict=True)
                for slow, fast in pairs:
                    slow.mul_(0.99).add_(fast, alpha=0.01)
        predicted = self.predictor(self.online(one))
        with torch.no_grad():
            aim = self.target(two)
        return 2 - 2 * F.cosine_similarity(predicted, aim, dim=-1)[:, None]


class MoCo(nn.Module):
    """facebookresearch/moco moco/builder.py: a momentum encoder, and a queue in a buffer."""

    def __init__(self):
        super().__init__()
        self.encoder_q = Trunk()
        self.encoder_q.fc = nn.Linear(16, 8)
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(8, 12), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def _follow(self):
        pairs = zip(self.encoder_q.parameters(), self.encoder_k.parameters(), strict=True)
        for fast, slow in pairs:
            slow.data = slow.data * 0.99 + fast.data * 0.01

    def forward(self, query, key):
        q = F.normalize(self.encoder_q(query), dim=1)
        with torch.no_grad():
            if self.training:
                self._follow()
            k = F.normalize(self.encoder_k(key), dim=1)
        positive, negative = (q * k).sum(1, keepdim=True), q @ self.queue.clone().detach()
        if self.training:
            at = int(self.queue_ptr)
            self.queue[:, at : at + len(k)] = k.T
            self.queue_ptr[0] = (at + len(k)) % self.queue.shape[1]
        return torch.cat([positive, negative], 1) / 0.07


PAIR = several(images(), images())
ARRIVED = "arrived with requires_grad=False"
MOVES = "the model's own forward changes"

STRUCTURES = (
    Structure(Visual, images(), 5, ("ln_post", "proj"), lacks="statistics"),
    Structure(
        Clip,
        several(images(), tokens(2, 6)),
        4,
        ("visual.proj", "text_projection", "logit_scale"),
        lacks="statistics",
        open=("visual.ln_post", "ln_final"),
    ),
    Structure(Siamese, PAIR, 5, ("fc",), lacks="attention"),
    Structure(TwoTrunks, PAIR, 4, ("project_",), lacks="attention"),
    Structure(TwoTrunksBare, PAIR, 4, ("project_",), lacks="attention", open=("norm_",)),
    Structure(
        Cosine,
        PAIR,
        4,
        (),
        lacks="attention head",
        warns=("has no head with parameters",),
        refuses={"last-n-stages:n=0": "nothing is left to train"},
    ),
    Structure(
        ImageAndTable,
        several(images(), noise(2, 5)),
        5,
        ("fc",),
        lacks="attention",
        open=("norm", "table"),
    ),
    Structure(
        ThreeViews,
        lambda: ([torch.randn(2, 3, 32, 32) for _ in range(3)],),
        4,
        ("fc",),
        lacks="attention",
    ),
    Structure(SimSiam, PAIR, 5, ("predictor",), lacks="attention", open=("encoder.fc",)),
    Structure(
        Byol, PAIR, 4, ("predictor",), lacks="attention", warns=(MOVES, ARRIVED), moves=("target.",)
    ),
    Structure(
        MoCo,
        PAIR,
        4,
        ("encoder_q.fc",),
        lacks="attention",
        warns=(MOVES, ARRIVED),
        moves=("encoder_k.", "queue"),
        open=("encoder_k.fc",),
    ),
)
