"""Structures that people write themselves: several trunks, parallel lists, dense heads, levels."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # the usual name
import torchvision
from torch import Tensor, nn

import freezekit
from freezekit import Backbone
from tests.sampled import sampled

if TYPE_CHECKING:
    from collections.abc import Callable

# Any in this file: what a forward takes and returns is the model's business.


class Model(nn.Module):
    """Modules by name, and a forward."""

    def __init__(self, run: Any, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def layer(wide_in: int, wide_out: int, stride: int = 2) -> nn.Sequential:
    convolution = nn.Conv2d(wide_in, wide_out, 3, stride, 1)
    return nn.Sequential(convolution, nn.BatchNorm2d(wide_out), nn.ReLU())


def block(wide_in: int, wide_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*layer(wide_in, wide_out, stride), nn.Conv2d(wide_out, wide_out, 3, 1, 1))


def chain(channels: int = 3) -> nn.Sequential:
    """Return a trunk of plain layers that makes vectors of 16."""
    parts = [*layer(channels, 8), *layer(8, 8), *layer(8, 16)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, stride, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.shortcut = nn.AvgPool2d(stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()  # type: ignore[no-any-return]  # Any


def resnet(classes: int = 0) -> nn.Module:
    """Return a small ResNet that makes vectors of 8, or of `classes`."""
    parts: dict[str, nn.Module] = {"conv1": nn.Conv2d(3, 8, 3, 2, 1), "bn1": nn.BatchNorm2d(8)}
    for at, stride in enumerate((1, 2, 2, 2), 1):
        parts[f"layer{at}"] = nn.Sequential(Block(8, stride), Block(8, 1))
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["fc"] = nn.Linear(8, classes) if classes else nn.Identity()
    return nn.Sequential(OrderedDict(parts))


def perceptron(wide_in: int, wide_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(wide_in, 8), nn.ReLU(), nn.Linear(8, wide_out))


def quietly(module: Any, x: Tensor) -> Any:
    with torch.no_grad():
        return module(x)


def images(count: int = 1, channels: int = 3) -> tuple[Tensor, ...]:
    return tuple(torch.randn(2, channels, 64, 64) for _ in range(count))


def names(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[str]:
    return [stage.name for stage in Backbone(model, inputs).stages]


def head_of(model: nn.Module, inputs: tuple[Tensor, ...]) -> set[str]:
    """Return the modules at the top of the model of which parameters are in the head."""
    return {name.split(".")[0] for name in Backbone(model, inputs).head.parameters}


def trunk(name: str, *, first: bool = False) -> list[str]:
    found = [f"{name}.layer{at}" for at in (1, 2, 3, 4)]
    return ["stem", *found] if first else found


TABLE = torch.randn(2, 5)
TWO_TRUNKS: dict[str, tuple[nn.Module, tuple[Tensor, ...], set[str]]] = {
    "cosine": (
        Model(lambda m, x, y: F.cosine_similarity(m.a(x), m.b(y)), a=resnet(), b=resnet()),
        images(2),
        set(),
    ),
    "linear": (
        Model(
            lambda m, x, y: m.p(m.a(x)) @ m.q(m.b(y)).T,
            a=resnet(),
            b=resnet(),
            p=nn.Linear(8, 4),
            q=nn.Linear(8, 4),
        ),
        images(2),
        {"p", "q"},
    ),
    "bare projections": (
        Model(
            lambda m, x, y: (m.a(x) @ m.p) @ (m.b(y) @ m.q).T,
            a=resnet(),
            b=resnet(),
            p=nn.Parameter(torch.randn(8, 4)),
            q=nn.Parameter(torch.randn(8, 4)),
        ),
        images(2),
        {"p", "q"},
    ),
    "norms": (
        Model(
            lambda m, x, y: m.p(m.a(x)) @ m.q(m.b(y)).T,
            a=resnet(),
            b=resnet(),
            p=nn.LayerNorm(8),
            q=nn.LayerNorm(8),
        ),
        images(2),
        {"p", "q"},
    ),
    "classifiers of their own": (
        Model(lambda m, x, y: m.a(x) @ m.b(y).T, a=resnet(4), b=resnet(4)),
        images(2),
        {"a", "b"},
    ),
    "colour and depth in one input": (
        Model(
            lambda m, x: m.fc(torch.cat([m.a(x[:, :3]), m.b(x[:, 3:].expand(-1, 3, -1, -1))], 1)),
            a=resnet(),
            b=resnet(),
            fc=nn.Linear(16, 4),
        ),
        images(1, channels=4),
        {"fc"},
    ),
    "both under no_grad": (
        Model(
            lambda m, x, y: m.fc(torch.cat([quietly(m.a, x), quietly(m.b, y)], 1)),
            a=resnet(),
            b=resnet(),
            fc=nn.Linear(16, 4),
        ),
        images(2),
        {"fc"},
    ),
}


@pytest.mark.parametrize("what", sampled(TWO_TRUNKS, every=3))
def test_two_trunks_have_their_own_stages(what: str) -> None:
    model, inputs, head = TWO_TRUNKS[what]
    assert names(model, inputs) == [*trunk("a", first=True), *trunk("b"), "head"]
    assert head_of(model, inputs) == head
    parameters = Backbone(model, inputs).head.parameters
    assert not any(".layer" in name for name in parameters)


@pytest.mark.parametrize("table_first", [False, True])
def test_an_encoder_of_a_table_goes_with_the_head(table_first: bool) -> None:
    def run(m: Any, x: Tensor, table: Tensor) -> Tensor:
        parts = (m.mlp, table), (m.a, x)
        made = [part(given) for part, given in (parts if table_first else reversed(parts))]
        return m.fc(torch.cat(made, 1))  # type: ignore[no-any-return]  # Any

    model = Model(run, a=resnet(), mlp=perceptron(5, 8), fc=nn.Linear(16, 2))
    inputs = (*images(), TABLE)
    assert names(model, inputs) == [*trunk("a", first=True), "head"]
    assert head_of(model, inputs) == {"mlp", "fc"}


def test_image_and_table_summed() -> None:
    model = Model(
        lambda m, x, t: m.norm(m.a(x)) + m.mlp(t),
        a=resnet(),
        norm=nn.LayerNorm(8),
        mlp=perceptron(5, 8),
    )
    assert head_of(model, (*images(), TABLE)) == {"norm", "mlp"}


def test_three_plain_trunks() -> None:
    model = Model(
        lambda m, x, y, z: m.fc(torch.cat([m.a(x), m.b(y), m.c(z)], 1)),
        a=chain(),
        b=chain(),
        c=chain(),
        fc=nn.Linear(48, 2),
    )
    found = names(model, images(3))
    assert found[:3] == ["stem", "a.3-5", "a.6-10"]
    assert [name for name in found if name.startswith("b.")] == ["b.0-2", "b.3-5", "b.6-10"]
    assert found[-1] == "head"
    assert head_of(model, images(3)) == {"fc"}
    told = Backbone(model, images(3)).explain()
    assert "a trunk begins at b.0, which takes the model's own input" in told


class Tower(nn.Module):
    """The image encoder of CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 16, 16, bias=False)
        self.cls = nn.Parameter(torch.randn(16))
        self.blocks = transformer(3)
        self.ln_post = nn.LayerNorm(16)
        self.proj = nn.Parameter(torch.randn(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), 1, -1), x], 1)
        return self.ln_post(self.blocks(x)[:, 0]) @ self.proj  # type: ignore[no-any-return]  # Any


def transformer(blocks: int) -> nn.Sequential:
    made = [nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(blocks)]
    return nn.Sequential(*made)


class Clip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Tower()
        self.transformer = transformer(2)
        self.token_embedding = nn.Embedding(50, 16)
        self.positional_embedding = nn.Parameter(torch.randn(8, 16))
        self.ln_final = nn.LayerNorm(16)
        self.text_projection = nn.Parameter(torch.randn(16, 16))
        self.logit_scale = nn.Parameter(torch.tensor(2.6))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        seen = F.normalize(self.visual(image), dim=-1)
        tokens = self.token_embedding(text) + self.positional_embedding
        read = self.ln_final(self.transformer(tokens))[:, -1] @ self.text_projection
        return self.logit_scale.exp() * seen @ F.normalize(read, dim=-1).T


def test_clip() -> None:
    inputs = (*images(), torch.randint(0, 50, (2, 8)))
    blocks = [f"visual.blocks.{at}" for at in range(3)] + [f"transformer.{at}" for at in range(2)]
    assert names(Clip(), inputs) == ["stem", *blocks, "head"]
    head = Backbone(Clip(), inputs).head.parameters
    assert {"visual.proj", "visual.ln_post.weight", "text_projection", "logit_scale"} <= set(head)
    for spec in ("first-n-stages:n=1", "head-only", "bias-only", "layer-decay"):
        freezekit.plan(Clip(), spec, example_input=inputs)


TEACHERS: dict[str, Callable[[Any, Tensor], Any]] = {
    "first": lambda m, x: (quietly(m.teacher, x), m.student(x)),
    "last": lambda m, x: (m.student(x), quietly(m.teacher, x)),
    "detached": lambda m, x: (m.teacher(x).detach(), m.student(x)),
    "in a loss": lambda m, x: F.mse_loss(m.student(x), quietly(m.teacher, x)),
    "in logits": lambda m, x: m.student(x) @ quietly(m.teacher, x).T,
}


@pytest.mark.parametrize("what", TEACHERS)
def test_a_teacher_is_beside_the_student(what: str) -> None:
    model = Model(TEACHERS[what], teacher=resnet(4), student=resnet(4))
    stages = Backbone(model, images()).stages
    assert [stage.name for stage in stages] == [*trunk("student", first=True), "head"]
    assert not any(n.startswith("teacher") for s in stages[1:] for n in s.parameters)


def test_a_momentum_encoder_that_comes_last() -> None:
    model = Model(
        lambda m, x, y: (m.predictor(m.online(x)), quietly(m.target, y)),
        online=resnet(),
        predictor=perceptron(8, 4),
        target=resnet(4),
    )
    assert names(model, images(2)) == [*trunk("online", first=True), "head"]
    assert head_of(model, images(2)) == {"predictor"}
    assert "Beside the body: target.conv1" in Backbone(model, images(2)).explain()


def test_averaged_classifiers_are_both_in_the_head() -> None:
    model = Model(
        lambda m, x: (lambda f: m.early(f.mean((2, 3))) + m.late(m.last(f).mean((2, 3))))(m.t(x)),
        t=nn.Sequential(*list(resnet().children())[:-4]),
        last=nn.Sequential(Block(8, 2), Block(8, 1)),
        early=nn.Linear(8, 3),
        late=nn.Linear(8, 3),
    )
    assert head_of(model, images()) == {"early", "late"}


class Lists(nn.Module):
    """One list per kind of layer; registered in another order than used."""

    def __init__(self, *, pre_norm: bool = False, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.patches = nn.Conv2d(3, width, 8, 8, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2 * depth)])
        self.perceptrons = nn.ModuleList([perceptron(width, width) for _ in range(depth)])
        self.attentions = nn.ModuleList(
            [nn.MultiheadAttention(width, 2, batch_first=True) for _ in range(depth)]
        )
        self.fc = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for at, (attend, refine) in enumerate(zip(self.attentions, self.perceptrons, strict=True)):
            first, second = self.norms[2 * at], self.norms[2 * at + 1]
            if self.pre_norm:
                y = first(x)
                x = x + attend(y, y, y)[0]
                x = x + refine(second(x))
            else:
                x = first(x + attend(x, x, x)[0])
                x = second(x + refine(x))
        return self.fc(x.mean(1))  # type: ignore[no-any-return]  # Any

    def in_order(self) -> list[nn.Module]:
        found: list[nn.Module] = [self.patches]
        for at, (attend, refine) in enumerate(zip(self.attentions, self.perceptrons, strict=True)):
            norms = self.norms[2 * at], self.norms[2 * at + 1]
            turns = (norms[0], attend, norms[1], refine)
            found += turns if self.pre_norm else (attend, norms[0], refine, norms[1])
        return found


@pytest.mark.parametrize("pre_norm", [False, True])
def test_parallel_lists_are_blocks(pre_norm: bool) -> None:
    model = Lists(pre_norm=pre_norm)
    blocks = [f"attentions.{at}" for at in range(3)]
    stages = Backbone(model, images()).stages
    assert [stage.name for stage in stages] == ["stem", *blocks, "head"]
    for at, stage in enumerate(stages[1:4]):
        parts = (f"attentions.{at}", f"norms.{2 * at}", f"perceptrons.{at}", f"norms.{2 * at + 1}")
        assert {name.rsplit(".", 1)[0] for name in stage.parameters} >= {parts[0], *parts[1::2]}
        assert all(any(n.startswith(f"{part}.") for part in parts) for n in stage.parameters)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_fraction_of_parallel_lists_is_a_prefix(pre_norm: bool) -> None:
    for share in (0.6, 0.75, 0.9):
        model = Lists(pre_norm=pre_norm)
        freezekit.freeze_(model, f"fraction:share={share},of=parameters", example_input=images()[0])
        model.train()
        leaks: list[bool] = []

        def see(_module: nn.Module, _args: Any, output: Any, leaks: list[bool] = leaks) -> None:
            made = output[0] if isinstance(output, tuple) else output
            leaks.append(made.requires_grad)

        for module in model.in_order():
            if not any(p.requires_grad for p in module.parameters()):
                module.register_forward_hook(see)
        model(*images())
        assert leaks
        assert not any(leaks)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_learning_rates_of_parallel_lists_rise_with_use(pre_norm: bool) -> None:
    model = Lists(pre_norm=pre_norm)
    scales = freezekit.plan(model, "layer-decay:decay=0.5", example_input=images()[0]).lr_scales
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    order = [scales[name_of[next(m.parameters())]] for m in model.in_order()]
    assert all(before <= after for before, after in pairwise(order))
    assert len(set(order)) == 4


def test_lists_that_stride_go_by_resolution() -> None:
    widths = [3, 8, 8, 16, 16]
    model = Model(
        lambda m, x: m.fc(run_lists(m, x).mean((2, 3))),
        norms=nn.ModuleList([nn.BatchNorm2d(width) for width in widths[1:]]),
        convs=nn.ModuleList([nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths)]),
        fc=nn.Linear(16, 2),
    )
    assert names(model, images()) == ["stem", "convs.1", "convs.2", "convs.3", "head"]


def run_lists(model: Any, x: Tensor) -> Tensor:
    for convolution, norm in zip(model.convs, model.norms, strict=True):
        x = norm(convolution(x)).relu()
    return x


def test_blocks_registered_in_another_order_than_used() -> None:
    model = Model(
        lambda m, x: m.fc(m.c(m.b(m.a(m.stem(x)))).mean((2, 3))),
        fc=nn.Linear(8, 2),
        c=block(8, 8),
        a=block(8, 8),
        stem=nn.Conv2d(3, 8, 4, 4),
        b=block(8, 8),
    )
    assert names(model, images()) == ["stem", "a", "b", "c", "head"]


def test_blocks_of_one_stage_that_depend_on_later_ones_are_one_layer() -> None:
    class Twice(nn.Module):
        """The first block is used again after the second."""

        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(block(8, 8), block(8, 8), block(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            first, second, third = self.blocks
            return third(first(second(first(x))))  # type: ignore[no-any-return]  # Any

    model = Model(
        lambda m, x: m.fc(m.last(m.body(m.stem(x))).mean((2, 3))),
        stem=nn.Conv2d(3, 8, 4, 4),
        body=Twice(),
        last=nn.Sequential(block(8, 8, 2), block(8, 8)),
        fc=nn.Linear(8, 2),
    )
    layers = Backbone(model, images()).layers
    shared = next(names for names in layers if "body.blocks.0.0.weight" in names)
    assert "body.blocks.1.0.weight" in shared


TRUNKS = {
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 576,
    "squeezenet1_1": 512,
}
DENSE: dict[str, tuple[Callable[[Any, Tensor], Any], Callable[[int], dict[str, nn.Module]]]] = {
    "one block": (lambda m, f: m.p(f), lambda wide: {"p": block(wide, 5)}),
    "two layers": (
        lambda m, f: m.q(m.p(f).relu()),
        lambda wide: {"p": nn.Conv2d(wide, 8, 3, 1, 1), "q": nn.Conv2d(8, 5, 1)},
    ),
    "two branches": (
        lambda m, f: (m.p(f), m.q(f)),
        lambda wide: {"p": block(wide, 5), "q": block(wide, 9)},
    ),
    "tokens": (
        lambda m, f: m.p(f).flatten(2).transpose(1, 2),
        lambda wide: {"p": block(wide, 5)},
    ),
    "enlarged": (
        lambda m, f: F.interpolate(m.q(m.p(f)), scale_factor=8.0),
        lambda wide: {"p": block(wide, 8), "q": nn.Conv2d(8, 5, 1)},
    ),
}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *sampled((("vgg11_bn", what) for what in DENSE), every=3),
        *sampled(((name, "one block") for name in TRUNKS), every=4),
    ],
)
def test_a_dense_head_on_a_trunk_of_plain_blocks(name: str, what: str) -> None:
    after, make = DENSE[what]
    parts = make(TRUNKS.get(name, 512))
    features = torchvision.models.get_model(name).features
    model = Model(lambda m, x: after(m, m.features(x)), features=features, **parts)
    new = {n for n, _ in model.named_parameters() if n.split(".")[0] in parts}
    assert set(Backbone(model, images()).head.parameters) == new
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for spec in ("head-only", "bias-only", "norm-only"):
            assert not new & freezekit.plan(model, spec, example_input=images()[0]).frozen
    scales = freezekit.plan(
        model, "discriminative-lr:decay=0.5", example_input=images()[0]
    ).lr_scales
    assert {scales.get(parameter, 1.0) for parameter in new} == {1.0}


def test_a_dense_head_after_blocks_of_the_model_itself() -> None:
    parts = {"c1": block(3, 8, 2), "c2": block(8, 8, 2), "c3": block(8, 16, 2)}
    model = Model(lambda m, x: m.out(m.c3(m.c2(m.c1(x)))), **parts, out=block(16, 5))
    assert names(model, images()) == ["stem", "c2", "c3", "head"]
    assert head_of(model, images()) == {"out"}
    headless = Model(lambda m, x: m.c3(m.c2(m.c1(x))), **parts)
    assert not Backbone(headless, images()).head.parameters


def test_a_decoder_is_a_neck_and_no_head() -> None:
    model = Model(
        lambda m, x: m.final(m.up(m.features(x))),
        features=torchvision.models.mobilenet_v2().features,
        up=nn.Sequential(nn.ConvTranspose2d(1280, 8, 4, 2, 1), nn.ConvTranspose2d(8, 8, 4, 2, 1)),
        final=nn.Conv2d(8, 5, 1),
    )
    assert names(model, images())[-2:] == ["up", "head"]
    assert head_of(model, images()) == {"final"}


class Level(nn.Module):
    """A level of a U-Net that holds all those below it."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.enc = block(8, 8)
        self.below = Level(depth - 1) if depth else None
        self.dec = block(16, 8) if depth else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.enc(x)
        if self.below is None or self.dec is None:
            return x
        below = F.interpolate(self.below(F.max_pool2d(x, 2)), scale_factor=2.0)
        return self.dec(torch.cat([x, below], 1))  # type: ignore[no-any-return]  # Any


def test_a_unet_of_nested_levels() -> None:
    model = Model(
        lambda m, x: m.out(m.net(m.stem(x))),
        stem=nn.Conv2d(3, 8, 3, 1, 1),
        net=Level(3),
        out=nn.Conv2d(8, 2, 1),
    )
    stages = Backbone(model, images()).stages
    assert [stage.name for stage in stages[:3]] == ["stem", "net.enc", "net.below.enc"]
    assert all(".dec." not in name for stage in stages[:3] for name in stage.parameters)
    assert head_of(model, images()) == {"out"}


class Short(nn.Module):
    """A PSPNet: layers of its encoder are never called."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = resnet()
        self.psp = block(8, 8)
        self.head = nn.Conv2d(8, 2, 1)
        self.other = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        e: Any = self.encoder  # Any: a module's attributes
        x = e.layer2(e.layer1(e.bn1(e.conv1(x)).relu()))
        return self.head(self.psp(x))  # type: ignore[no-any-return]  # Any


def test_layers_that_are_never_called() -> None:
    backbone = Backbone(Short(), images())
    stages = {stage.name: stage for stage in backbone.stages}
    assert list(stages) == ["stem", "encoder.layer1", "encoder.layer2", "head"]
    assert "encoder.layer4.1.bn2.bias" in stages["encoder.layer2"].parameters
    assert {n.split(".")[0] for n in stages["head"].parameters} == {"psp", "head", "other"}
    assert {n.split(".")[1] for n in backbone.unused} == {"layer3", "layer4", "weight", "bias"}
    told = backbone.explain()
    assert "Parameters that the forward does not use" in told
    assert "encoder.layer2.1.bn2.bias is registered before it" in " ".join(told.split())


def test_layers_that_are_never_called_are_named() -> None:
    with pytest.warns(freezekit.FreezekitWarning, match=r"did not use 'encoder\.layer3.*29 more"):
        freezekit.plan(Short(), "head-only", example_input=images()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        freezekit.plan(Short(), "batch-norm", example_input=images()[0])


PARALLEL_HEADS: dict[str, tuple[Callable[[Any, Tensor], Any], nn.Module]] = {
    "a list": (
        lambda heads, f: [head(f.mean((2, 3))) for head in heads],
        nn.ModuleList([perceptron(16, 2), perceptron(16, 3)]),
    ),
    "a dict": (
        lambda heads, f: {name: head(f.mean((2, 3))) for name, head in heads.items()},
        nn.ModuleDict({"age": perceptron(16, 2), "name": perceptron(16, 3)}),
    ),
    "maps": (
        lambda heads, f: [head(f) for head in heads],
        nn.ModuleList([block(16, 2), block(16, 3)]),
    ),
    "an average": (
        lambda heads, f: sum(head(f.mean((2, 3))) for head in heads),
        nn.ModuleList([perceptron(16, 3), perceptron(16, 3)]),
    ),
}


@pytest.mark.parametrize("what", PARALLEL_HEADS)
def test_a_list_of_heads_is_the_head(what: str) -> None:
    run, heads = PARALLEL_HEADS[what]
    trunk = nn.Sequential(layer(3, 8), layer(8, 8), layer(8, 16))
    model = Model(lambda m, x: run(m.heads, m.trunk(x)), heads=heads, trunk=trunk)
    assert names(model, images()) == ["stem", "trunk.1", "trunk.2", "head"]
    assert head_of(model, images()) == {"heads"}


def test_experts_and_their_gate_are_the_head() -> None:
    def run(m: Any, x: Tensor) -> Any:
        features = m.trunk(x).mean((2, 3))
        gate = m.gate(features).softmax(1)
        return sum(gate[:, at : at + 1] * expert(features) for at, expert in enumerate(m.experts))

    experts = nn.ModuleList([perceptron(16, 5), perceptron(16, 5)])
    trunk = nn.Sequential(layer(3, 8), layer(8, 16))
    model = Model(run, gate=nn.Linear(16, 2), experts=experts, trunk=trunk)
    assert head_of(model, images()) == {"gate", "experts"}


def test_a_train_method_that_returns_nothing() -> None:
    class Held(nn.Sequential):
        def train(self, mode: bool = True) -> None:  # type: ignore[override]  # as people write it
            super().train(mode)

    model = Held(*layer(3, 8), *layer(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    frozen = freezekit.freeze_(model, "head-only", example_input=images()[0])
    assert frozen.verify(images()[0]).passed
