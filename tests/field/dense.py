"""Encoders with decoders, and dense heads."""

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
    Structure(UNet, images(), 4, ("outc",), lacks="attention"),
    Structure(NestedUNet, images(), 3, ("last",), lacks="attention"),
    Structure(UNetPlusPlus, images(), 4, ("final",), lacks="attention"),
    Structure(HookUNet, images(), 4, ("out",), lacks="attention"),
    Structure(Dpt, images(), 5, ("scratch.output",), lacks=""),
    Structure(PspNet, images(), 3, ("segmentation_head",), lacks="attention"),
    Structure(Fpn, images(), 4, ("predictor",), lacks="attention"),
    Structure(Pose, images(), 4, ("heatmaps", "offsets"), lacks="attention"),
    Structure(VggDense, images(), 3, ("head",), lacks="attention norm statistics"),
    Structure(TimmHooks, images(), 4, ("out",), lacks="attention"),
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
    Structure(TimmInside, images(), 4, ("out",), lacks="attention"),
)
