"""Models of transformers: their input is found, and their stages are those of their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from torch import nn

from freezekit import Backbone, StagingError, freeze_

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
VISION = TINY | {"image_size": 32, "patch_size": 8}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}


def vit(**options: Any) -> nn.Module:
    config = transformers.ViTConfig(**VISION | options)
    return transformers.ViTForImageClassification(config)


def swin() -> nn.Module:
    config = transformers.SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 1, 2], num_heads=[1, 2, 2], window_size=4
    )
    return transformers.SwinForImageClassification(config)


def convnext() -> nn.Module:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 2, 1])
    return transformers.ConvNextForImageClassification(config)


def dinov2() -> nn.Module:
    config = transformers.Dinov2Config(**TINY, image_size=42, patch_size=14)
    return transformers.Dinov2ForImageClassification(config)


def segformer() -> nn.Module:
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 32],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def detr() -> nn.Module:
    backbone = transformers.ResNetConfig(**RESNET, layer_type="basic", out_features=["stage4"])
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        backbone_config=backbone,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=5,
    )
    return transformers.DetrForObjectDetection(config)


def clip_tower() -> nn.Module:
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION))


def timm_wrapper() -> nn.Module:
    config = transformers.TimmWrapperConfig(architecture="test_resnet", num_labels=3)
    return transformers.TimmWrapperForImageClassification(config)


BLOCKS = [f"vit.layers.{i}" for i in range(3)]


@pytest.mark.parametrize(
    ("build", "body"),
    [
        (vit, BLOCKS),
        (lambda: vit(image_size=80), BLOCKS),
        (lambda: vit(image_size=(48, 80), num_channels=1), BLOCKS),
        (swin, [f"swin.encoder.layers.{i}" for i in range(3)]),
        (convnext, [f"convnext.encoder.stages.{i}" for i in range(4)]),
        (dinov2, [f"dinov2.encoder.layer.{i}" for i in range(3)]),
        (segformer, [f"segformer.stages.{i}" for i in (1, 2, 3)]),
        (clip_tower, [f"encoder.layers.{i}" for i in range(3)]),
        (timm_wrapper, [f"timm_model.layer{i}" for i in (1, 2, 3, 4)]),
        (
            detr,
            [
                *(f"model.backbone.model.encoder.stages.{i}" for i in range(4)),
                "model.encoder",
                "model.decoder",
            ],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_stages_need_no_option(build: Callable[[], nn.Module], body: list[str]) -> None:
    with torch.device("meta"):
        model = build()
    stages = Backbone(model).stages
    assert [stage.name for stage in stages] == ["stem", *body, "head"]
    head = "class_labels_classifier" if build is detr else ""
    assert any(name.startswith(head) for name in stages[-1].parameters)
    frozen = freeze_(model, "first-n-stages:n=2")
    assert frozen.plan.frozen >= set(stages[1].parameters)
    assert "head" in frozen.report()


def test_a_model_of_ones_own_around_one_of_transformers() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = transformers.ViTConfig(**VISION | {"image_size": 80})
            self.encoder, self.fc = transformers.ViTModel(config), nn.Linear(32, 3)

        def forward(self, pixel_values: torch.Tensor, labels: Any = None) -> dict[str, Any]:
            tokens = self.encoder(pixel_values=pixel_values).last_hidden_state
            return {"logits": self.fc(tokens[:, 0])}

    model = Own()
    names = [stage.name for stage in Backbone(model).stages]
    assert names == ["stem", *(f"encoder.layers.{i}" for i in range(3)), "head"]
    assert freeze_(model, "first-n-stages:n=1").verify().passed


def test_clip_as_a_whole_names_the_part_that_takes_images() -> None:
    text = TINY | {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    model = transformers.CLIPModel(config)
    with pytest.raises(StagingError, match="its part 'vision_model' takes images: freeze that"):
        freeze_(model, "head-only")
    assert freeze_(model.vision_model, "first-n-stages:n=2").plan.frozen
