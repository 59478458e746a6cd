"""Lean under torch.compile: Inductor saves less, and computes the same bits as without lean."""

from __future__ import annotations

import copy
import math
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from freezekit import FreezekitWarning, Frozen, freeze_
from freezekit.lean.compiled.mask_operators import PACK, UNPACK, splits_of
from tests.sampled import exhaustive, sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Net(nn.Module):
    """Convolutions between functions of one bit, and a skip."""

    def __init__(self, channels: int = 8, *, breaks: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Linear(channels, 4)
        self.breaks = breaks

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem(image))
        if self.breaks:
            torch._dynamo.graph_break()
        x = nn.functional.hardtanh(self.first(x))
        x = torch.relu(self.second(x) + x)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


pytestmark = [
    # torch's own, of what it does while it traces
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled"),
]

SPEC = "by-name:regex=^(first|second)"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def made(*, lean: bool, spec: str = SPEC, **options: Any) -> tuple[Any, Frozen]:
    torch.manual_seed(0)
    model = Net(**options)
    return model, freeze_(model, spec, lean=lean)


def images(size: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def step(
    model: Any, run: Callable[..., Any], image: Tensor
) -> tuple[Tensor, dict[str, Tensor], int]:
    """Return the loss, the gradients and the bytes that are saved between forward and backward."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), image)}
    saved = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run(image).square().sum()
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, sum(saved.values())


def compare(
    image: Tensor,
    *,
    compiled: Callable[[Any], Callable[..., Any]] = torch.compile,
    at_most: float = 0.5,
    spec: str = SPEC,
    **options: Any,
) -> None:
    """Assert that lean saves less, with the loss and the gradients of the stock model."""
    found = []
    for lean in (False, True):
        torch._dynamo.reset()  # after a graph break, models of one class share compiled code
        model, _ = made(lean=lean, spec=spec, **options)
        found.append(step(model, compiled(model), image))
    (loss, gradients, stock), (lean_loss, lean_gradients, kept) = found
    assert torch.equal(loss, lean_loss)
    assert gradients.keys() == lean_gradients.keys()
    assert all(torch.equal(gradients[name], lean_gradients[name]) for name in gradients)
    assert kept <= at_most * stock, f"{kept} of {stock} bytes"


@pytest.mark.parametrize("channels", sampled([5, 8], every=2))
def test_a_compiled_model_saves_less_with_the_same_bits(channels: int) -> None:
    compare(images(), channels=channels)


def by_method(model: Any) -> Any:
    model.compile()
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "compiled",
    [
        by_method,
        lambda model: torch.compile(model, dynamic=True),
        exhaustive(lambda model: torch.compile(model, mode="reduce-overhead")),
        lambda model: torch.compile(model.to(memory_format=torch.channels_last)),
    ],
    ids=["method", "dynamic", "reduce-overhead", "channels-last"],
)
def test_ways_to_compile(compiled: Callable[[Any], Any]) -> None:
    compare(images(), compiled=compiled)


@pytest.mark.slow
def test_a_model_with_a_graph_break_is_lean_in_both_parts() -> None:
    compare(images(), breaks=True, at_most=0.6)


@pytest.mark.slow
def test_an_image_that_is_given_by_name() -> None:
    def compiled(model: Any) -> Any:
        inner = torch.compile(model)
        return lambda image: inner(image=image)

    compare(images(), compiled=compiled)


def test_functional_transforms_of_a_compiled_function() -> None:
    model, _ = made(lean=True)
    stock, _ = made(lean=False)
    samples = images()

    def of_samples(net: nn.Module) -> dict[str, Tensor]:
        def loss(values: dict[str, Tensor], image: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(net, values, (image[None],))
            return out.square().sum()

        values = {name: p.detach() for name, p in net.named_parameters()}
        return torch.vmap(torch.func.grad(loss), (None, 0))(values, samples)  # type: ignore[no-any-return]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreezekitWarning)  # of the other backend
        found = torch.compile(lambda: of_samples(model), backend="aot_eager")()
    theirs = of_samples(stock)
    assert all(torch.allclose(found[name], theirs[name], atol=1e-5) for name in theirs)


@pytest.mark.slow
def test_autocast() -> None:
    def compiled(model: Any) -> Any:
        inner = torch.compile(model)

        def run(image: Tensor) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return inner(image).float()

        return run

    compare(images(), compiled=compiled)


@pytest.mark.slow
def test_a_part_that_is_compiled_is_lean_within_a_lean_model() -> None:
    from torch._inductor import config

    found = []
    for lean in (False, True):
        model, _ = made(lean=lean)
        model(images())
        torch._dynamo.reset()  # which forgets who asked to be told of compilations
        model.second = torch.compile(nn.Sequential(model.second, nn.ReLU()))
        with config.patch(joint_custom_pre_pass=None):  # as where nothing was compiled before
            found.append(step(model, model, images()))
    assert torch.equal(found[0][0], found[1][0])
    assert found[1][2] < found[0][2]


@pytest.mark.slow
def test_a_graph_is_lean_for_lean_models_alone() -> None:
    """Caches take a graph of a stock model and one of a lean model for different ones."""
    saved = []
    for lean in (False, True, False, True):
        torch._dynamo.reset()  # the caches on the disk stay
        model, _ = made(lean=lean)
        saved.append(step(model, torch.compile(model), images())[2])
    assert saved[0] == saved[2] > saved[1] == saved[3]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_training_evaluation_and_a_change_of_plan_take_turns() -> None:
    model, frozen = made(lean=True)
    run = torch.compile(model)
    stock, stock_frozen = made(lean=False)
    stock_run = torch.compile(stock)
    for spec in (SPEC, "full", "by-name:regex=^(stem|first)", SPEC):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FreezekitWarning)
            frozen.change_(spec)
            stock_frozen.change_(spec)
        for one in (model, stock):
            one.train()
        mine, theirs = step(model, run, images()), step(stock, stock_run, images())
        assert torch.equal(mine[0], theirs[0])
        assert mine[1].keys() == theirs[1].keys()
        assert all(torch.equal(mine[1][name], theirs[1][name]) for name in mine[1])
        with torch.no_grad():
            assert torch.equal(run(images(seed=2)), stock_run(images(seed=2)))


@pytest.mark.slow
def test_a_pass_of_ones_own_stays() -> None:
    from torch._inductor import config
    from torch._inductor.custom_graph_pass import CustomGraphPass

    class Counted(CustomGraphPass):
        calls = 0

        def __call__(self, graph: object) -> None:
            Counted.calls += 1

        def uuid(self) -> str:
            return "counted"

    with config.patch(joint_custom_pre_pass=Counted(), fx_graph_cache=False):
        compare(images())
    assert Counted.calls == 2
    options = {"joint_custom_pre_pass": Counted(), "fx_graph_cache": False}
    compare(images(), compiled=lambda model: torch.compile(model, options=options))
    assert Counted.calls == 4


class Gated(nn.Module):
    """Cheap functions between convolutions and matrix products that train."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 16, 3, padding=1)
        self.norm = nn.LayerNorm(16)
        self.up = nn.Linear(16, 16)
        self.down = nn.Linear(16, 16)

    def forward(self, image: Tensor) -> Tensor:
        x = nn.functional.silu(self.stem(image))
        x = self.last(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())
        x = x.flatten(2).transpose(1, 2)
        return self.down(nn.functional.gelu(self.up(self.norm(x))))  # type: ignore[no-any-return]


@pytest.mark.slow
def test_cheap_functions_are_computed_again_as_in_the_eager_model() -> None:
    saved, results = {}, {}
    for lean in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = Gated()
        freeze_(model, "full", lean=lean)
        for way, run in (("eager", model), ("compiled", torch.compile(model))):
            loss, gradients, saved[lean, way] = step(model, run, images())
        results[lean] = loss, gradients
    assert torch.equal(results[False][0], results[True][0])
    stock, lean_ones = results[False][1], results[True][1]
    assert all(torch.equal(stock[name], lean_ones[name]) for name in stock)
    assert saved[True, "compiled"] <= 1.02 * saved[True, "eager"]
    assert saved[True, "compiled"] < 0.8 * saved[False, "compiled"]


@pytest.mark.slow
def test_a_mask_of_what_is_saved_anyway_is_no_bits() -> None:
    """Of a hard swish, the backward needs the input whole, and has the masks of it."""
    from torch._inductor.utils import run_fw_bw_and_get_code

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 8, 3))
    freeze_(model, "full", lean=True)
    run = torch.compile(model)
    _, codes = run_fw_bw_and_get_code(lambda: run(images()))
    assert len(codes) == 2
    assert "uint8" not in "".join(codes)


def test_another_backend_is_told() -> None:
    model, _ = made(lean=True)
    with pytest.warns(FreezekitWarning, match="lean has no effect in this compiled model"):
        loss, gradients, _ = step(model, torch.compile(model, backend="aot_eager"), images())
    stock, _ = made(lean=False)
    stock_loss, stock_gradients, _ = step(stock, stock, images())
    assert torch.equal(loss, stock_loss)
    assert all(torch.equal(gradients[name], stock_gradients[name]) for name in gradients)


def test_an_export_has_no_marker() -> None:
    model, _ = made(lean=True)
    program = torch.export.export(copy.deepcopy(model), (images(),), strict=True)
    assert "lean_graph" not in str(program.graph)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 8), (7,), (16,), (2, 3, 5, 4), (3, 5, 7, 6)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_mask_is_held_as_bits(
    shape: tuple[int, ...], memory_format: torch.memory_format, *, compiled: bool
) -> None:
    import freezekit.lean.compiled.lowering  # noqa: F401

    mask = torch.rand(shape) < 0.5
    if len(shape) == 4:
        mask = mask.contiguous(memory_format=memory_format)
    splits = splits_of(shape)
    pack, unpack = (torch.compile(f, dynamic=False) if compiled else f for f in (PACK, UNPACK))
    bits = pack(mask, splits)
    assert bits.numel() * math.prod(splits) == mask.numel()
    assert torch.equal(bits, PACK(mask, splits))
    assert torch.equal(unpack(bits, splits), mask)
