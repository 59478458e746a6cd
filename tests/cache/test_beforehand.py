"""What a cache would be is known beforehand: it is what a real search finds and proves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import DenseNet, GoogLeNet, SwinTransformer

from freezekit import Backbone, FreezePlan, freeze_, plan
from freezekit.cache.beforehand import Forwards
from freezekit.cache.candidates import SAMPLES
from freezekit.cache.finding import find_prefix
from freezekit.cache.untouched import in_training
from freezekit.errors import CacheError
from freezekit.model.flops import forward_flops
from tests.cache.test_cached_training import Branches
from tests.sampled import sampled

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 32


MODELS: dict[str, Callable[[], nn.Module]] = {
    **{
        name: partial(timm.create_model, name, num_classes=5)
        for name in ("test_resnet", "test_efficientnet", "test_convnext")
    },
    "vit": lambda: timm.create_model(
        "test_vit", num_classes=5, img_size=SIZE, proj_drop_rate=0.1, drop_path_rate=0.1
    ),
    "swin": lambda: SwinTransformer([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=5),
    "densenet": lambda: DenseNet(4, (2, 2, 2), 8, num_classes=5),
    "own": Branches,
}


def batch_of(samples: int) -> Tensor:
    return torch.rand(samples, 3, SIZE, SIZE)


def found(model: nn.Module) -> tuple[tuple[str, ...], int]:
    """Return the cut and the bytes that a search with data finds."""
    batch = batch_of(SAMPLES[0])
    with in_training(model):
        prefix = find_prefix(model, model, batch, batch[: SAMPLES[1]])
    return tuple(map(str, prefix.cut)), prefix.numbers * prefix.dtype.itemsize


@pytest.mark.parametrize("name", sampled(MODELS, every=2))
def test_cut_and_bytes_are_those_that_a_search_finds(name: str) -> None:
    """At each boundary, from one record of a training in which nothing is frozen."""
    torch.manual_seed(0)
    model = MODELS[name]().train()
    seen = Forwards(model, model, batch_of)
    frozen: set[str] = set()
    for stage in Backbone(model, batch_of(2)).stages[:-1]:
        frozen |= set(stage.parameters)
        handle = freeze_(model, FreezePlan(frozen), example_input=batch_of(2))
        expected = seen.expected(handle.plan)
        assert (expected.boundary, expected.bytes_per_sample) == found(model)
        handle.undo()


def test_flops_are_those_of_the_calls_that_are_skipped() -> None:
    model = MODELS["test_resnet"]().train()
    seen = Forwards(model, model, batch_of)
    by_module = forward_flops(model, batch_of(1))
    assert seen.flops_per_sample == by_module[""]
    expected = seen.expected(plan(model, "head-only"))
    assert expected.flops_per_sample == by_module[""] - by_module["fc"]


def test_outputs_of_training_alone_count() -> None:
    """The auxiliary heads take features in the middle of a frozen part."""
    model = GoogLeNet(num_classes=5, init_weights=False).train()
    seen = Forwards(model, model, lambda samples: torch.rand(samples, 3, 64, 64))
    trained = ("aux1.", "aux2.", "fc.")
    names = {name for name, _ in model.named_parameters() if not name.startswith(trained)}
    decided = freeze_(model, FreezePlan(names)).plan
    assert seen.expected(decided).boundary == ("inception4a", "inception4d", "avgpool")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: FreezePlan(), "no call of a module comes before all that is trained"),
        (lambda m: FreezePlan(without_head(m), ()), "stem changes its statistics in each forward"),
        (
            lambda m: FreezePlan(without_head(m), set(dict(m.named_modules())) - {"b.2", ""}),
            None,
        ),
    ],
)
def test_what_is_not_held_in_eval_mode_has_no_cache(
    change: Callable[[nn.Module], FreezePlan], reason: str | None
) -> None:
    """A live dropout ends the prefix before it; live statistics at the start leave nothing."""
    model = Branches().train()
    seen, decided = Forwards(model, model, batch_of), change(model)
    if reason is None:
        assert seen.expected(decided).boundary == ("stem", "a.0", "a.1")
        return
    with pytest.raises(CacheError, match=reason):
        seen.expected(decided)


def test_a_norm_over_the_batch_has_no_cache() -> None:
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Flatten(), nn.Linear(8 * 30 * 30, 2))
    seen = Forwards(model.train(), model, batch_of)
    decided = freeze_(model, FreezePlan(["0.weight", "0.bias", "1.weight", "1.bias"])).plan
    with pytest.raises(CacheError, match="depends on the other samples of the batch"):
        seen.expected(decided)


def test_a_skip_of_the_image_has_no_cache() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 3, 1, 1), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head((self.conv(x) + x).mean((2, 3)))
            return y

    model = Skip().train()
    seen = Forwards(model, model, batch_of)
    with pytest.raises(CacheError, match="uses values of the frozen part that no module returns"):
        seen.expected(plan(model, "head-only", example_input=batch_of(2)))


def without_head(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters() if not name.startswith("head")}
