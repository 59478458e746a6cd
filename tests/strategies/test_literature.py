"""The strategies that papers describe: what each trains on real models, and what it refuses."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from freezekit import Backbone, PlanError, Strategy, load_backbone, plan
from freezekit_strategies.attention_only import AttentionOnly
from freezekit_strategies.bias_only import BiasOnly
from freezekit_strategies.fraction import Fraction
from freezekit_strategies.last_n_stages import LastNStages
from freezekit_strategies.layer_decay import LayerDecay
from freezekit_strategies.norm_only import NormOnly
from freezekit_strategies.patch_embed import PatchEmbed
from freezekit_strategies.surgical import Surgical
from tests.sampled import exhaustive, sampled


def backbone(name: str) -> Backbone:
    return Backbone(load_backbone(name, device="meta"))


def trained(name: str, strategy: Strategy) -> set[str]:
    view = backbone(name)
    return set(view.parameters) - plan(view.model, strategy).frozen


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:vit_tiny_patch16_224"])
def test_norm_only(name: str) -> None:
    view = backbone(name)
    norms = {parameter for norm in view.norms for parameter in norm.parameters}
    assert trained(name, NormOnly()) == norms | set(view.head.parameters)
    assert trained(name, NormOnly(head=False)) == norms


def test_norm_only_leaves_statistics_live_unless_told() -> None:
    model = backbone("torchvision:resnet18").model
    assert "bn1" not in plan(model, NormOnly()).eval_modules
    assert "bn1" in plan(model, NormOnly(statistics="fixed")).eval_modules


def test_bias_only_trains_biases_by_name() -> None:
    names = trained("torchvision:vit_b_16", BiasOnly(head=False))
    last = {name.rpartition(".")[2] for name in names}
    assert last == {"bias", "in_proj_bias"}
    swin = trained("torchvision:swin_t", BiasOnly(head=False))
    assert not any("relative_position_bias_table" in name for name in swin)


def test_bias_only_fixes_statistics_unless_told() -> None:
    view = backbone("torchvision:resnet18")
    tracking = {norm.name for norm in view.norms}
    assert tracking <= plan(view.model, BiasOnly()).eval_modules
    assert tracking.isdisjoint(plan(view.model, BiasOnly(statistics="live")).eval_modules)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm:vit_tiny_patch16_224", "blocks.3.attn.qkv.weight"),
        ("torchvision:vit_b_16", "encoder.layers.encoder_layer_3.self_attention.in_proj_weight"),
        exhaustive(("torchvision:swin_t", "features.1.0.attn.qkv.weight")),
        exhaustive(("timm:swin_tiny_patch4_window7_224", "layers.0.blocks.0.attn.qkv.weight")),
        exhaustive(("timm:maxvit_tiny_tf_224", "stages.0.blocks.0.attn_block.attn.qkv.weight")),
    ],
)
def test_attention_only(name: str, layer: str) -> None:
    names = trained(name, AttentionOnly())
    assert layer in names
    assert not any(".mlp." in n and ".attn." not in n for n in names)


def test_patch_embed_leaves_bare_parameters() -> None:
    model = backbone("torchvision:vit_b_16").model
    assert plan(model, PatchEmbed()).frozen == {"conv_proj.weight", "conv_proj.bias"}
    swin = plan(backbone("timm:swin_tiny_patch4_window7_224").model, PatchEmbed())
    assert tops(set(swin.frozen)) == {"patch_embed"}


@pytest.mark.parametrize("n", [0, 1, 4])
def test_last_n_stages_is_first_n_stages_from_the_end(n: int) -> None:
    model = backbone("torchvision:resnet18").model
    first = plan(model, f"first-n-stages:n={4 - n}")
    assert plan(model, LastNStages(n)) == first


@pytest.mark.parametrize(
    ("stages", "names"),
    [
        ("stem", {"conv1", "bn1"}),
        ("first", {"conv1", "bn1", "layer1"}),
        ("2", {"layer2"}),
        ("1-2", {"layer1", "layer2"}),
        ("last", {"layer4"}),
    ],
)
def test_surgical(stages: str, names: set[str]) -> None:
    assert tops(trained("torchvision:resnet18", Surgical(stages, head=False))) == names
    assert tops(trained("torchvision:resnet18", Surgical(stages))) == names | {"fc"}


@pytest.mark.parametrize("stages", ["middle", "0", "3-2", "1-", "-1", "1-2-3", ""])
def test_surgical_refuses_stages_that_are_not_a_block(stages: str) -> None:
    with pytest.raises(ValueError, match="stages is"):
        Surgical(stages)


@pytest.mark.parametrize(
    ("name", "strategy", "message"),
    [
        ("torchvision:resnet18", AttentionOnly(), "ResNet has no attention layer to train"),
        ("torchvision:resnet18", PatchEmbed(), "ResNet has no attention layer, so it is no"),
        ("torchvision:alexnet", NormOnly(), "AlexNet has no norm with weights to train"),
        ("torchvision:resnet18", LastNStages(5), "ResNet has 4 body stages; give n from 0 to 4"),
        ("torchvision:resnet18", Surgical("5"), "'5', but ResNet has 4 body stages"),
    ],
)
def test_a_model_without_the_needed_layers_is_refused(
    name: str, strategy: Strategy, message: str
) -> None:
    with pytest.raises(PlanError, match=re.escape(message)):
        plan(backbone(name).model, strategy)


def test_no_bias_to_train() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with pytest.raises(PlanError, match="Sequential has no bias to train"):
        plan(model, BiasOnly())


RIGHT = (
    "resnet18",
    "vit_tiny_patch16_224",
    "deit3_small_patch16_224",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
    "beit_base_patch16_224",
)


@pytest.mark.parametrize("name", sampled(RIGHT, every=3))
def test_layer_decay_uses_timms_layers_if_they_are_in_the_order_of_use(name: str) -> None:
    from timm.optim import param_groups_layer_decay

    model = load_backbone(f"timm:{name}", device="meta")
    names = {id(parameter): n for n, parameter in model.named_parameters()}
    groups = param_groups_layer_decay(model, layer_decay=0.7)
    theirs = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    ours = plan(model, LayerDecay(0.7)).lr_scales
    assert {n: pytest.approx(scale) for n, scale in theirs.items() if scale != 1} == dict(ours)


@pytest.mark.parametrize(
    "name", sampled(["timm:xcit_nano_12_p8_224", "torchvision:vit_b_16"], every=2)
)
def test_layer_decay_falls_in_the_order_of_use_for_all_others(name: str) -> None:
    view = backbone(name)
    scales = plan(view.model, LayerDecay(0.5)).lr_scales
    by_layer = [{scales.get(n, 1.0) for n in names} for names in view.layers]
    assert all(len(found) == 1 for found in by_layer)
    assert [found.pop() for found in by_layer] == [
        0.5**at for at in reversed(range(len(view.layers)))
    ]


def test_blocks_are_layers() -> None:
    layers = backbone("torchvision:vit_b_16").layers
    assert len(layers) == 1 + 12 + 1
    assert layers[0] == ("class_token", "conv_proj.weight", "conv_proj.bias", *layers[0][3:])
    resnet = backbone("torchvision:resnet18").layers
    assert [names[0].rpartition(".conv")[0] for names in resnet[1:4]] == [
        "layer1.0",
        "layer1.1",
        "layer2.0",
    ]


def test_layer_decay_refuses_a_decay_above_1() -> None:
    with pytest.raises(ValueError, match=r"decay is 1\.5"):
        LayerDecay(1.5)


@pytest.mark.parametrize("share", sampled([0.2, 0.6, 0.9], every=2))
def test_fraction_of_flops_is_a_prefix_within_the_share(share: float) -> None:
    view = backbone("torchvision:resnet50")
    frozen = plan(view.model, Fraction(share)).frozen
    inside = view.wholly_frozen(frozen)
    leaves = [n for n, m in view.model.named_modules() if n in inside and not list(m.children())]
    flops = sum(view.flops.get(name, 0) for name in leaves)
    assert 0.8 * share < flops / view.flops[""] <= share
    flags = [set(names) <= frozen for names in view.layers]
    assert flags == sorted(flags, reverse=True)
    assert not flags[-1]


def test_fraction_of_parameters() -> None:
    view = backbone("timm:vit_tiny_patch16_224")
    frozen = plan(view.model, Fraction(0.5, of="parameters")).frozen
    total = sum(info.numel for info in view.parameters.values())
    assert 0.4 < sum(view.parameters[name].numel for name in frozen) / total <= 0.5


def test_fraction_never_freezes_the_head_and_refuses_a_share_that_is_too_small() -> None:
    view = backbone("torchvision:resnet18")
    assert "fc.weight" not in plan(view.model, Fraction(0.999)).frozen
    with pytest.raises(PlanError, match=r"stem of ResNet alone has 7% of the flops; give a larger"):
        plan(view.model, Fraction(0.01))
    with pytest.raises(ValueError, match=r"share is 1\.0"):
        Fraction(1.0)


def test_channel_attention_with_queries_counts_as_attention() -> None:
    davit = Backbone(load_backbone("timm:davit_tiny", device="meta"))
    assert len(davit.attentions) == 12  # window and channel attention by turns


def test_patch_embed_leaves_tokens_and_tables_of_the_embedding_trained() -> None:
    model = load_backbone("timm:naflexvit_base_patch16_gap", device="meta")
    assert plan(model, "patch-embed").frozen == {"embeds.proj.weight", "embeds.proj.bias"}


def test_patch_embed_refuses_a_model_without_patch_embedding() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 2, enable_nested_tensor=False)
    with pytest.raises(PlanError, match="contains attention, so there is no patch embedding"):
        plan(encoder, "patch-embed", example_input=torch.ones(3, 2, 8))
