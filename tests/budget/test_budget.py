"""`lean="budget:…"`: the step fits, and every bit is that of stock PyTorch."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from freezekit import freeze_, load_backbone
from freezekit.budget.decide import decide
from freezekit.errors import FreezeError, FreezekitWarning, InsufficientMemoryError, SizeError
from freezekit.memory.tracker import StorageTracker
from tests.sampled import sampled

if TYPE_CHECKING:
    from freezekit.handle.frozen import Frozen


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.GELU()
        self.drop = nn.Dropout(0.1)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = images + self.drop(self.act(self.norm(self.conv(images))))
        return found


def small_model() -> nn.Module:
    torch.manual_seed(0)
    blocks = [Block(16) for _ in range(6)]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks, *head)


def least_bytes(model: nn.Module, images: Tensor, spec: str) -> tuple[int, int]:
    """Return the least peak that can be had, and that of lean alone."""
    copied = copy.deepcopy(model)
    freeze_(copied, spec, lean=True)
    with pytest.warns(FreezekitWarning, match="does not fit"):
        choice = decide(copied.train(), (images,), {}, 1)
    assert choice is not None
    return choice.step.peak_bytes, choice.plain.peak_bytes


def train(
    model: nn.Module, images: Tensor, spec: str, lean: bool | str, steps: int = 3
) -> tuple[Frozen, list[Tensor]]:
    """Return the handle and everything that a training computes."""
    copied = copy.deepcopy(model)
    frozen = freeze_(copied, spec, lean=lean)
    copied.train()
    optimizer = torch.optim.SGD(frozen.param_groups(lr=0.01))
    torch.manual_seed(1)
    found: list[Tensor] = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = copied(images).square().mean()
        loss.backward()
        found += [loss.detach(), *(p.grad for p in copied.parameters() if p.grad is not None)]
        optimizer.step()
    return frozen, [*found, *copied.state_dict().values(), torch.get_rng_state()]


def check_same(first: list[Tensor], second: list[Tensor]) -> None:
    assert len(first) == len(second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    with StorageTracker("cpu") as tracker:
        tracker.add([*model.parameters(), *model.buffers(), images])
        before = tracker.current_bytes
        graph = model(images).sum().grad_fn
        found = tracker.current_bytes - before
        del graph
    return found


@pytest.mark.parametrize(
    ("spec", "part"),
    [("full", 0.2), ("bias-only", 0.6), ("norm-only", 0.2), ("by-name:regex='[0-2].*'", 0.4)],
)
def test_has_the_bits_of_stock(spec: str, part: float) -> None:
    model, images = small_model(), torch.randn(4, 3, 24, 24)
    least, plain = least_bytes(model, images, spec)
    assert least < plain
    budget = int(least + part * (plain - least))
    frozen, found = train(model, images, spec, f"budget:{budget}")
    assert frozen.recomputed
    check_same(found, train(model, images, spec, lean=False)[1])
    assert "FLOPs" in frozen.report().splitlines()[-1]


@pytest.mark.parametrize("name", sampled(["timm:test_vit", "timm:test_convnext2"], every=2))
def test_models(name: str) -> None:
    model = load_backbone(name, num_classes=5)
    images = torch.randn(2, 3, 160, 160)
    least, plain = least_bytes(model, images, "norm-only")
    frozen, found = train(model, images, "norm-only", f"budget:{(least + plain) // 2}", steps=2)
    assert frozen.recomputed
    check_same(found, train(model, images, "norm-only", lean=False, steps=2)[1])


def test_holds_less_and_fits() -> None:
    model, images = small_model(), torch.randn(8, 3, 24, 24)
    least, plain = least_bytes(model, images, "full")
    budget = (least + plain) // 2
    frozen = freeze_(model.train(), "full", lean=f"budget:{budget}")
    optimizer = torch.optim.AdamW(frozen.param_groups(lr=0.01))
    model(images).sum().backward()
    optimizer.step()
    state = [t for each in optimizer.state.values() for t in each.values()]
    with StorageTracker("cpu") as tracker:
        tracker.add([*model.parameters(), *model.buffers(), images, *state])
        optimizer.zero_grad()
        model(images).sum().backward()
    assert tracker.peak_bytes <= budget
    less = saved_bytes(model, images)
    freeze_(model, "full", lean=True)
    assert less < 0.9 * saved_bytes(model, images)


def test_computes_nothing_again_where_all_fits() -> None:
    model, images = small_model(), torch.randn(2, 3, 16, 16)
    frozen, found = train(model, images, "bias-only", "budget:1GiB")
    assert frozen.recomputed == ()
    assert frozen.report().endswith("nothing is computed again")
    check_same(found, train(model, images, "bias-only", lean=True)[1])


def test_says_the_least_that_is_possible() -> None:
    model, images = small_model().train(), torch.randn(4, 3, 24, 24)
    least, _ = least_bytes(model, images, "bias-only")
    frozen = freeze_(model, "bias-only", lean=f"budget:{least // 2}")
    said = r"does not fit into the budget of .*: it takes .* at least, when . modules are computed"
    with pytest.warns(FreezekitWarning, match=said) as warned:
        model(images)
    assert warned[0].filename == __file__  # where the user called it
    assert "which does not fit" in frozen.report()
    with pytest.raises(InsufficientMemoryError, match="parameters, buffers and gradients"):
        freeze_(model, "bias-only", lean="budget:1KiB")


def test_chooses_anew_for_a_larger_batch_and_another_plan() -> None:
    model, images = small_model().train(), torch.randn(4, 3, 24, 24)
    least, plain = least_bytes(model, images, "full")
    frozen = freeze_(model, "full", lean=f"budget:{(least + plain) // 2}")
    model(images[:1])
    assert frozen.recomputed == ()
    model(images)
    chosen = frozen.recomputed
    assert chosen
    model(images[:1])  # what holds for a large batch holds for a small one
    assert frozen.recomputed == chosen
    frozen.change_("by-name:regex='[0-5].*'")
    model(images)
    assert frozen.recomputed == ()
    with pytest.warns(FreezekitWarning, match="thaws"):
        frozen.change_("full")
    model(images)
    assert frozen.recomputed == chosen


def test_undo_copies_and_pickles() -> None:
    model, images = small_model().train(), torch.randn(4, 3, 24, 24)
    least, plain = least_bytes(model, images, "full")
    frozen = freeze_(model, "full", lean=f"budget:{(least + plain) // 2}")
    keys = list(model.state_dict())
    model(images)
    chosen = frozen.recomputed
    saved = saved_bytes(model, images)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert saved_bytes(copied, images) == saved
        assert all(vars(m)["forward"].module is m for m in copied.modules() if "forward" in vars(m))
    assert list(model.state_dict()) == keys
    assert all("forward" in vars(model.get_submodule(name)) for name in chosen)
    frozen.undo()
    assert not any("forward" in vars(module) for module in model.modules())


def test_without_gradients_nothing_is_chosen() -> None:
    model, images = small_model(), torch.randn(4, 3, 24, 24)
    frozen = freeze_(model, "full", lean="budget:1MiB")
    with torch.no_grad():
        model(images)
    assert "the first forward chooses" in frozen.report()


def test_a_model_that_needs_values_stays_lean() -> None:
    class NeedsValues(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            if images.sum() > 0:
                images = images * 2
            found: Tensor = super().forward(images)
            return found

    model = NeedsValues(*small_model()).train()
    frozen = freeze_(model, "full", lean="budget:1MiB")
    with pytest.warns(FreezekitWarning, match="cannot be predicted"):
        model(torch.randn(4, 3, 24, 24)).sum().backward()
    assert frozen.recomputed == ()


def test_under_autocast() -> None:
    model, images = small_model(), torch.randn(4, 3, 24, 24)
    found = {}
    for lean in (False, True):
        copied = copy.deepcopy(model).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            least, plain = least_bytes(model, images, "bias-only")
            frozen = freeze_(copied, "bias-only", lean=lean and f"budget:{(least + plain) // 2}")
            torch.manual_seed(2)
            out = copied(images)
        out.sum().backward()
        found[lean] = [out, *(p.grad for p in copied.parameters() if p.grad is not None)]
    assert frozen.recomputed
    check_same(found[False], found[True])


@pytest.mark.parametrize("text", ["budget:", "budget:abc", "budget:0", "budget:-1", "budget:3KiX"])
def test_refuses_what_is_no_size(text: str) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(SizeError, match="no size"):
        freeze_(model, "full", lean=text)
    assert "forward" not in vars(model)


@pytest.mark.parametrize("given", ["on", "2GiB", 3, None])
def test_refuses_what_is_no_budget(given: object) -> None:
    with pytest.raises(FreezeError, match=r"is neither True, False nor a budget such as"):
        freeze_(nn.Linear(2, 2), "full", lean=given)  # type: ignore[arg-type]  # wrong on purpose
