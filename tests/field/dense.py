"""Encoders with decoders."""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn

from tests.field.blocks import Trunk, conv, layers
from tests.field.records import Structure, images


class UNet(nn.Module):
    """milesial/Pytorch-UNet unet/unet_model.py."""

    def __init__(self):
        super().__init__()
        self.inc, self.down1, self.down2 = conv(3, 8), conv(8, 12, 2), conv(12, 16, 2)
        self.up1, self.up2 = conv(16 + 12, 12), conv(12 + 8, 8)
        self.outc = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(torch.cat([F.interpolate(x3, scale_factor=2), x2], 1))
        return self.outc(self.up2(torch.cat([F.interpolate(x, scale_factor=2), x1], 1)))


class NestedLevel(nn.Module):
    """junyanz/pytorch-CycleGAN-and-pix2pix networks.py UnetSkipConnectionBlock."""

    def __init__(self, width, inside, submodule=None):
        super().__init__()
        self.down, self.submodule = conv(width, inside, 2), submodule
        self.up = conv(inside * (2 if submodule else 1), width)

    def forward(self, x):
        y = self.down(x)
        y = y if self.submodule is None else self.submodule(y)
        return torch.cat([x, self.up(F.interpolate(y, scale_factor=2))], 1)


class NestedUNet(nn.Module):
    """junyanz/pytorch-CycleGAN-and-pix2pix: each level of the U-Net holds the next."""

    def __init__(self):
        super().__init__()
        inner = NestedLevel(12, 16)
        self.first, self.model = conv(3, 8), NestedLevel(8, 12, inner)
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        return self.last(self.model(self.first(x)))


class UNetPlusPlus(nn.Module):
    """4uiiurz1/pytorch-nested-unet archs.py: a triangle of nodes with dense skips."""

    def __init__(self):
        super().__init__()
        self.conv0_0, self.conv1_0, self.conv2_0 = conv(3, 8), conv(8, 12, 2), conv(12, 16, 2)
        self.conv0_1, self.conv1_1 = conv(8 + 12, 8), conv(12 + 16, 12)
        self.conv0_2, self.final = conv(16 + 12, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x0_0 = self.conv0_0(x)
        x1_0 = self.conv1_0(x0_0)
        x0_1 = self.conv0_1(torch.cat([x0_0, F.interpolate(x1_0, scale_factor=2)], 1))
        x2_0 = self.conv2_0(x1_0)
        x1_1 = self.conv1_1(torch.cat([x1_0, F.interpolate(x2_0, scale_factor=2)], 1))
        up = F.interpolate(x1_1, scale_factor=2)
        return self.final(self.conv0_2(torch.cat([x0_0, x0_1, up], 1)))


class HookUNet(nn.Module):
    """fastai vision/models/unet.py DynamicUnet: forward hooks keep the skips."""

    def __init__(self):
        super().__init__()
        self.kept = {}
        self.encoder = nn.Sequential(conv(3, 8), conv(8, 12, 2), conv(12, 16, 2))
        self.up, self.out = conv(16 + 12, 12), nn.Conv2d(12, 2, 1)
        self.encoder[1].register_forward_hook(self.keep)

    def keep(self, module, given, output):
        self.kept["skip"] = output

    def forward(self, x):
        y = self.encoder(x)
        return self.out(
            self.up(torch.cat([F.interpolate(y, scale_factor=2), self.kept["skip"]], 1))
        )


class Dpt(nn.Module):
    """isl-org/MiDaS midas/backbones/utils.py: hooks take activations of a ViT into a dict."""

    def __init__(self):
        super().__init__()
        self.pretrained = nn.Module()
        self.pretrained.patch_embed = nn.Conv2d(3, 16, 8, 8)
        self.pretrained.blocks = layers(16, 4)
        self.pretrained.activations = {}
        for at in (1, 3):
            self.pretrained.blocks[at].register_forward_hook(self.taker(str(at)))
        self.scratch = nn.Module()
        self.scratch.layer1, self.scratch.layer2 = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)
        self.scratch.refine, self.scratch.output = conv(8, 8), nn.Conv2d(8, 1, 1)

    def taker(self, name):
        def hook(module, given, output):
            self.pretrained.activations[name] = output

        return hook

    def forward(self, x):
        x = self.pretrained.patch_embed(x).flatten(2).transpose(1, 2)
        self.pretrained.blocks(x)
        early, late = (
            self.pretrained.activations[name].transpose(1, 2).unflatten(2, (4, 4))
            for name in ("1", "3")
        )
        y = self.scratch.refine(self.scratch.layer1(early) + self.scratch.layer2(late))
        return self.scratch.output(F.interpolate(y, scale_factor=8))


class PspNet(nn.Module):
    """qubvel/segmentation_models.pytorch PSPNet: later stages of the encoder are never called."""

    def __init__(self):
        super().__init__()
        self.encoder, self.depth = Trunk(), 2
        self.psp = nn.ModuleList(
            [nn.Sequential(nn.AdaptiveAvgPool2d(s), nn.Conv2d(12, 4, 1)) for s in (1, 2)]
        )
        self.decoder, self.segmentation_head = conv(12 + 8, 12), nn.Conv2d(12, 2, 1)

    def forward(self, x):
        e = self.encoder
        x = e.layer2(e.layer1(F.relu(e.bn1(e.conv1(x)))))
        pooled = [F.interpolate(part(x), x.shape[2:]) for part in self.psp]
        return self.segmentation_head(self.decoder(torch.cat([x, *pooled], 1)))


class Fpn(nn.Module):
    """torchvision feature_pyramid_network.py with the semantic branch of Panoptic FPN."""

    def __init__(self):
        super().__init__()
        self.body = Trunk()
        self.inner = nn.ModuleList([nn.Conv2d(c, 8, 1) for c in (8, 12, 16)])
        self.outer = nn.ModuleList([nn.Conv2d(8, 8, 3, 1, 1) for _ in range(3)])
        self.predictor = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        found = self.body.features(x)
        last, maps = None, []
        for at in (2, 1, 0):
            lateral = self.inner[at](found[at])
            last = lateral if last is None else lateral + F.interpolate(last, scale_factor=2)
            maps.append(self.outer[at](last))
        return self.predictor(sum(F.interpolate(m, size=maps[-1].shape[2:]) for m in maps))


class TimmInside(nn.Module):
    """Kaggle notebooks: a timm model with features_only inside of one's own decoder."""

    def __init__(self, **kinds):
        super().__init__()
        kinds |= {"features_only": True, "out_indices": (0, 1, 2)}
        self.encoder = timm.create_model("test_resnet", **kinds)
        channels = self.encoder.feature_info.channels()
        self.ups = nn.ModuleList(
            [conv(channels[i] + channels[i - 1], channels[i - 1]) for i in (2, 1)]
        )
        self.out = nn.Conv2d(channels[0], 2, 1)

    def forward(self, x):
        found = self.encoder(x)
        y = found[-1]
        for up, skip in zip(self.ups, found[-2::-1], strict=True):
            y = up(torch.cat([F.interpolate(y, size=skip.shape[-2:]), skip], 1))
        return self.out(y)


class TimmHooks(TimmInside):
    """timm xception, nasnet, pit and others: features_only takes features by hooks."""

    def __init__(self):
        super().__init__(feature_cls="hook")


STRUCTURES = (
    Structure(UNet, images(), 4, ("outc",), lacks="attention"),
    Structure(NestedUNet, images(), 3, ("last",), lacks="attention"),
    Structure(UNetPlusPlus, images(), 4, ("final",), lacks="attention"),
    Structure(HookUNet, images(), 4, ("out",), lacks="attention"),
    Structure(Dpt, images(), 5, ("scratch",), lacks=""),
    Structure(
        PspNet,
        images(),
        3,
        ("segmentation_head",),
        lacks="attention",
        warns=("did not use 'encoder.layer3.0.conv1.weight'.*pass that as example_input",),
    ),
    Structure(Fpn, images(), 4, ("predictor",), lacks="attention"),
    Structure(TimmHooks, images(), 4, ("out",), lacks="attention"),
    Structure(TimmInside, images(), 4, ("out",), lacks="attention"),
)
