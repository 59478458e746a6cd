"""Models of tokens: transformers, mixers, and what lies between."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn

from tests.field.blocks import Attention, Layer, Trunk, conv, layers, mlp
from tests.field.records import Structure, images


def tokens_of(x):
    return x.flatten(2).transpose(1, 2)


class Registers(nn.Module):
    """facebookresearch/dinov2 vision_transformer.py: class token and register tokens."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 16, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.register_tokens = nn.Parameter(torch.zeros(1, 4, 16))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, 16) * 0.02)
        self.blocks = nn.ModuleList([Layer(16) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(32, 4)

    def forward(self, x):
        x = tokens_of(self.patch_embed(x))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(torch.cat([x[:, 0], x[:, 5:].mean(1)], 1))


class TorchEncoder(nn.Module):
    """pytorch/tutorials: nn.TransformerEncoder on the features of a CNN."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(conv(3, 8, 2), conv(8, 16, 2))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.encoder(tokens_of(self.cnn(x))).mean(1))


class WindowLayer(nn.Module):
    """A layer with attention inside of windows, which a shift moves."""

    def __init__(self, width, shift):
        super().__init__()
        self.norm, self.attn, self.shift = nn.LayerNorm(width), Attention(width), shift
        self.norm2, self.mlp = nn.LayerNorm(width), mlp(width, 2 * width, width)

    def forward(self, x):
        batch, height, width, channels = x.shape
        y = torch.roll(self.norm(x), (-self.shift, -self.shift), (1, 2))
        y = y.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(2, 3)
        y = self.attn(y.reshape(-1, 4, channels))
        y = y.reshape(batch, height // 2, width // 2, 2, 2, channels).transpose(2, 3)
        x = x + torch.roll(y.reshape(x.shape), (self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm2(x))


class Swin(nn.Module):
    """microsoft/Swin-Transformer swin_transformer.py: windows, shifts, merged patches."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 4, 4)
        self.layers = nn.ModuleList(
            [nn.Sequential(WindowLayer(w, 0), WindowLayer(w, 1)) for w in (8, 16)]
        )
        self.merge = nn.Linear(32, 16, bias=False)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.layers[0](self.patch_embed(x).permute(0, 2, 3, 1))
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        x = self.layers[1](self.merge(x))
        return self.head(self.norm(x).mean((1, 2)))


class MixerLayer(nn.Module):
    """A layer that mixes tokens, then channels."""

    def __init__(self, count, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.of_tokens, self.of_channels = mlp(count, 16, count), mlp(width, 16, width)

    def forward(self, x):
        x = x + self.of_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.of_channels(self.norm2(x))


class Mixer(nn.Module):
    """google-research/vision_transformer models_mixer.py."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 8, 8)
        self.layers = nn.Sequential(*[MixerLayer(16, 16) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.norm(self.layers(tokens_of(self.stem(x)))).mean(1))


class Perceiver(nn.Module):
    """lucidrains/perceiver-pytorch: latents read the image again and again."""

    def __init__(self):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(4, 16))
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.cross = nn.ModuleList([Attention(16) for _ in range(2)])
        self.own = nn.ModuleList([Layer(16) for _ in range(2)])
        self.to_logits = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 4))

    def forward(self, x):
        image = tokens_of(self.embed(x))
        x = self.latents.expand(len(image), -1, -1)
        for cross, own in zip(self.cross, self.own, strict=True):
            x = own(x + cross(x, image))
        return self.to_logits(x.mean(1))


class DetrDecoder(nn.Module):
    """A layer that lets queries read the image."""

    def __init__(self):
        super().__init__()
        self.self_attn, self.cross_attn = Attention(16), Attention(16)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)

    def forward(self, x, memory, query):
        x = self.norm1(x + self.self_attn(x + query))
        return self.norm2(x + self.cross_attn(x + query, memory))


class Detr(nn.Module):
    """facebookresearch/detr models/detr.py: backbone, encoder, queries, a class and a box each."""

    def __init__(self):
        super().__init__()
        self.backbone, self.input_proj = Trunk(), nn.Conv2d(16, 16, 1)
        self.encoder = layers(16, 2)
        self.query_embed = nn.Embedding(5, 16)
        self.decoder = nn.ModuleList([DetrDecoder() for _ in range(2)])
        self.class_embed, self.bbox_embed = nn.Linear(16, 4), mlp(16, 16, 4)

    def forward(self, x):
        memory = self.encoder(tokens_of(self.input_proj(self.backbone.features(x)[-1])))
        query = self.query_embed.weight.expand(len(x), -1, -1)
        x = torch.zeros_like(query)
        for layer in self.decoder:
            x = layer(x, memory, query)
        return {"logits": self.class_embed(x), "boxes": self.bbox_embed(x).sigmoid()}


class MaskedAutoencoder(nn.Module):
    """facebookresearch/mae models_mae.py: fixed position tables, a mask token, a decoder."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 16, 8, 8)
        self.pos_embed = nn.Parameter(torch.randn(1, 16, 16), requires_grad=False)
        self.blocks, self.norm = layers(16, 3), nn.LayerNorm(16)
        self.decoder_embed = nn.Linear(16, 8)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.decoder_pos_embed = nn.Parameter(torch.randn(1, 16, 8), requires_grad=False)
        self.decoder_blocks, self.decoder_norm = layers(8, 1), nn.LayerNorm(8)
        self.decoder_pred = nn.Linear(8, 192)

    def forward(self, x):
        x = tokens_of(self.patch_embed(x)) + self.pos_embed
        keep = torch.arange(0, 16, 4, device=x.device)
        x = self.decoder_embed(self.norm(self.blocks(x[:, keep])))
        full = self.mask_token.expand(len(x), 16, -1).index_copy(1, keep, x)
        x = self.decoder_norm(self.decoder_blocks(full + self.decoder_pos_embed))
        return self.decoder_pred(x)


class HiddenStates(nn.Module):
    """huggingface/transformers output_hidden_states: hooks put on at the first call collect."""

    def __init__(self):
        super().__init__()
        self.embed, self.blocks = nn.Conv2d(3, 16, 8, 8), layers(16, 3)
        self.classifier, self.hooked, self.collected = nn.Linear(48, 4), False, None

    def collect(self, module, given, output):
        if self.collected is not None:
            self.collected.append(output)

    def forward(self, x):
        if not self.hooked:
            for block in self.blocks:
                block.register_forward_hook(self.collect)
            self.hooked = True
        self.collected = []
        self.blocks(tokens_of(self.embed(x)))
        found, self.collected = self.collected, None
        return self.classifier(torch.cat(found, -1).mean(1))


class ConvMixerGelu(nn.Sequential):
    """locuslab/convmixer: one nn.Sequential without any class, with residual parts."""

    def __init__(self):
        parts = [nn.Conv2d(3, 16, 4, 4), nn.GELU(), nn.BatchNorm2d(16)]
        for _ in range(3):
            parts += [
                nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.GELU(), nn.BatchNorm2d(16),
                nn.Conv2d(16, 16, 1), nn.GELU(), nn.BatchNorm2d(16),
            ]  # fmt: skip
        super().__init__(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


class WithPrompts(nn.Module):
    """KMnP/vpt: learned prompts before each layer of a frozen transformer."""

    def __init__(self):
        super().__init__()
        self.patch_embed, self.blocks = nn.Conv2d(3, 16, 8, 8), layers(16, 3)
        for part in (self.patch_embed, self.blocks):
            part.requires_grad_(False)
        self.prompts = nn.ParameterList([torch.randn(2, 16) * 0.1 for _ in range(3)])
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = tokens_of(self.patch_embed(x))
        for block, prompt in zip(self.blocks, self.prompts, strict=True):
            x = block(torch.cat([prompt.expand(len(x), -1, -1), x[:, -16:]], 1))
        return self.head(F.layer_norm(x, (16,)).mean(1))


STRUCTURES = (
    Structure(Registers, images(), 5, ("head",), lacks="statistics", open=("norm",)),
    Structure(TorchEncoder, images(), 4, ("fc",)),
    Structure(Swin, images(), 3, ("head",), lacks="statistics", open=("norm",)),
    Structure(Mixer, images(), 5, ("head",), lacks="statistics attention", open=("norm",)),
    Structure(Perceiver, images(), 3, ("to_logits.1",), lacks="statistics", open=("to_logits.0",)),
    Structure(Detr, images(), 5, ("class_embed", "bbox_embed")),
    Structure(
        MaskedAutoencoder,
        images(),
        5,
        ("decoder_pred",),
        lacks="statistics",
        open=("decoder_norm",),
    ),
    Structure(HiddenStates, images(), 5, ("classifier",), lacks="statistics"),
    Structure(ConvMixerGelu, images(), 3, ("23",), lacks="attention"),
    Structure(
        WithPrompts,
        images(),
        4,
        ("head",),
        lacks="statistics",
        warns=("arrived with requires_grad",),
    ),
)
