"""by-name: which names match, which notes and warnings follow, and the loop that it replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from freezekit import FreezekitWarning, SpecError, freeze_, load_backbone, plan

if TYPE_CHECKING:
    from torch import nn


def blog_loop(model: nn.Module) -> dict[str, bool]:
    """What the well-known loop sets."""
    return {name: "bn" not in name for name, _ in model.named_parameters()}


@pytest.mark.filterwarnings("ignore::freezekit.FreezekitWarning")
@pytest.mark.parametrize("name", ["torchvision:resnet50", "timm:resnet18", "timm:efficientnet_b0"])
def test_contains_sets_the_flags_that_the_loop_sets(name: str) -> None:
    model = load_backbone(name, device="meta")
    expected = blog_loop(model)
    freeze_(model, "by-name:contains=bn")
    assert {n: p.requires_grad for n, p in model.named_parameters()} == expected


def test_it_warns_of_norms_with_other_names() -> None:
    model = load_backbone("torchvision:resnet50", device="meta")
    with pytest.warns(FreezekitWarning, match="4 of 53 norm layers .* layer1.0.downsample.1"):
        plan(model, "by-name:contains=bn")
    model = load_backbone("torchvision:efficientnet_b0", device="meta")
    with pytest.warns(FreezekitWarning) as caught:
        plan(model, "by-name:contains=bn")
    texts = [str(w.message) for w in caught]
    assert any("no parameter matches 'bn'" in text for text in texts)
    assert any("49 of 49 norm layers" in text for text in texts)


def test_no_warning_if_all_norms_match_or_no_norm_is_meant() -> None:
    plan(load_backbone("timm:efficientnet_b0", device="meta"), "by-name:contains=bn")
    plan(load_backbone("torchvision:resnet18", device="meta"), "by-name:contains=layer1")


@pytest.mark.parametrize(
    ("options", "first_parts"),
    [
        ("contains=layer1|layer2", {"layer1", "layer2"}),
        ("glob=layer1.*|conv1.*", {"layer1", "conv1"}),
        (r"regex='^layer[1-2]\.'", {"layer1", "layer2"}),
        ("contains=fc,invert=true", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_patterns(options: str, first_parts: set[str]) -> None:
    model = load_backbone("torchvision:resnet18", device="meta")
    decided = plan(model, f"by-name:{options}")
    assert {name.split(".")[0] for name in decided.frozen} == first_parts
    assert "parameters matched" in decided.notes[0]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("by-name", "give one of contains, glob, regex"),
        ("by-name:regex='['", "regex '\\['.* is not valid"),
        ("by-name:contains='',glob=x", "empty substring"),
    ],
)
def test_bad_options(spec: str, text: str) -> None:
    model = load_backbone("torchvision:resnet18", device="meta")
    with pytest.raises(SpecError, match=f"by-name.*{text}"):
        plan(model, spec)
