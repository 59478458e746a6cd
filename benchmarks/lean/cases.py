"""The models and specs of the lean benchmarks."""

from __future__ import annotations

from freezekit.results.records import Workload

MODELS: dict[str, Workload] = {
    workload.model.partition(":")[2]: workload
    for workload in (
        Workload("torchvision:resnet50", batch_size=8, image_size=160),
        Workload("timm:regnety_016", batch_size=8),
        Workload("timm:efficientnet_b0", batch_size=8),
        Workload("timm:mobilenetv3_large_100", batch_size=8),
        Workload("timm:densenet121", batch_size=8),
        Workload("timm:convnext_tiny", batch_size=8),
        Workload("timm:vit_small_patch16_224", batch_size=8),
        Workload("timm:swin_tiny_patch4_window7_224", batch_size=8),
    )
}
FIRST_CONVOLUTION_AND_HEAD = "first convolution + head"
_FIRST_AND_LAST = {
    "resnet50": r"^(conv1|fc)\.",
    "resnet18": r"^(conv1|fc)\.",
    "regnety_016": r"^(stem\.conv|head\.fc)\.",
    "efficientnet_b0": r"^(conv_stem|classifier)\.",
    "mobilenetv3_large_100": r"^(conv_stem|classifier)\.",
    "densenet121": r"^(features\.conv0|classifier)\.",
    "convnext_tiny": r"^(stem\.0|head\.fc)\.",
    "vit_small_patch16_224": r"^(patch_embed\.proj|head)\.",
    "swin_tiny_patch4_window7_224": r"^(patch_embed\.proj|head\.fc)\.",
}
SPECS = (
    "full",
    "head-only",
    "first-n-stages:n=2",
    "last-n-stages:n=1",
    "fraction:share=0.6",
    "surgical:stages=stem",
    "surgical:stages=first",
    FIRST_CONVOLUTION_AND_HEAD,
    "by-name:contains=bias",
    "batch-norm",
    "norm-only",
    "bias-only",
    "attention-only",
    "patch-embed",
    "discriminative-lr:decay=0.5,freeze_below=0.1",
    "layer-decay",
)
COMPILED_SPECS = (
    "full",
    "batch-norm",
    "norm-only",
    "bias-only",
    "surgical:stages=stem",
    "surgical:stages=first",
    FIRST_CONVOLUTION_AND_HEAD,
)


def spec_of(name: str, model: str) -> str:
    r"""Return the spec that a column means on a model, given by its short name.

    Example:
        >>> spec_of(FIRST_CONVOLUTION_AND_HEAD, "resnet50")
        'by-name:regex=^(conv1|fc)\\.,invert=true'
        >>> spec_of("full", "resnet50")
        'full'
    """
    if name != FIRST_CONVOLUTION_AND_HEAD:
        return name
    return f"by-name:regex={_FIRST_AND_LAST[model]},invert=true"
