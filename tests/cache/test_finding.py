"""What can be skipped is found in models of many structures, and the rest trains as ever."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from freezekit import CacheError, FreezePlan, freeze_

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.cache.dataset import CachedDataset

# Any in this file: what a model takes.

SAMPLES, BATCH, STEPS = 6, 3, 6


def data(tensors: int = 1) -> TensorDataset:
    source = torch.Generator().manual_seed(0)
    return TensorDataset(*(torch.randn(SAMPLES, 3, 8, 8, generator=source) for _ in range(tensors)))


def conv(into: int = 4, out: int = 4) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, padding=1)


class Model(nn.Module):
    """A frozen stem, and a head that is trained."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        self.stem = conv(3)
        for name, module in modules.items():
            setattr(self, name, module)
        self.head = nn.Linear(4, 2)

    def pooled(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def frozen_but(model: nn.Module, *trained: str) -> FreezePlan:
    names = [n for n, _ in model.named_parameters() if not n.startswith(trained)]
    return FreezePlan(names, eval_modules=())


def losses(model: nn.Module, dataset: Any, run: Callable[[nn.Module, Any], Any]) -> list[float]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    found: list[float] = []
    while len(found) < STEPS:
        for batch in DataLoader(dataset, BATCH):
            loss = (run(model, batch) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
    return found


def is_same(model: nn.Module, *trained: str, tensors: int = 1) -> CachedDataset:
    """Check that a training from the cache is one without it, and return the cache."""

    def run(model: nn.Module, batch: Any) -> Any:
        return model(*batch)

    other = copy.deepcopy(model)
    freeze_(other, frozen_but(other, *trained))
    wanted = losses(other, data(tensors), run)
    cached = freeze_(model, frozen_but(model, *trained)).cache(data(tensors), BATCH, call=run)
    assert losses(model, cached, run) == wanted
    few = (next(iter(DataLoader(given, 2))) for given in (cached, data(tensors)))
    torch.testing.assert_close(*(run(model, batch) for batch in few))  # kernels differ by the size
    return cached


class Twice(Model):
    """A frozen module comes before what is trained, and after it."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.stem(x))
        return self.pooled(self.shared(self.middle(x)))


def test_a_module_that_is_called_again_by_the_rest() -> None:
    cached = is_same(Twice(shared=conv(), middle=conv()), "middle", "head")
    assert cached.filled.boundary == ("shared",)


class Pair(Model):
    """Two images go through one module, one after the other in the first dimension."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self.stem(torch.cat([x, y])).chunk(2)
        return self.pooled(x - y)


def test_the_samples_of_two_images_in_one_dimension() -> None:
    cached = is_same(Pair(), "head", tensors=2)
    assert cached.filled.boundary == ("stem",)
    assert cached.filled.bytes_per_sample == 2 * 4 * 8 * 8 * 4


class Windows(nn.Module):
    """The entries of a sample are together in the first dimension."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (2, 4)).permute(0, 2, 1, 3, 4).flatten(0, 1)


class Sequence(nn.Module):
    """The samples are in the second dimension, and the memory is in another order."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2).contiguous().transpose(0, 1)


class Strides(nn.Module):
    """The samples are in the first dimension, and not the slowest in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1).contiguous().transpose(0, 1)


@pytest.mark.parametrize("layout", [Windows, Sequence, Strides])
def test_samples_are_found_in_any_dimension(layout: type[nn.Module]) -> None:
    class Laid(Model):
        def forward(self, x: Tensor) -> Tensor:
            samples = len(x)
            x = self.layout(self.stem(x))
            strides.add((len(x), x.stride()))
            x = x.transpose(0, 1) if layout is Sequence else x.reshape(samples, -1, 4)
            return self.head(x).mean(1)

    strides: set[tuple[int, tuple[int, ...]]] = set()
    model = Laid(layout=layout())
    cached = is_same(model, "head")
    assert cached.filled.boundary == ("layout",)
    strides.clear()
    rows = torch.stack([cached[i][0] for i in range(SAMPLES)])
    assert torch.equal(model(rows), model(data().tensors[0]))
    assert len(strides) == 1


class Nested(nn.Module):
    """Returns tensors in a nest, beside its number of samples and what does not depend on them."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {
            "maps": (x, x.mean(1, keepdim=True)),
            "samples": len(x),
            "entries": 2 * len(x),
            "size": x.shape[-1],
            "grid": torch.arange(4.0),
        }


class TakesNest(Model):
    def forward(self, x: Tensor) -> Tensor:
        found = self.nested(self.stem(x))
        x, mean = found["maps"]
        assert found["entries"] == 2 * found["samples"] == 2 * len(x)
        return self.pooled(x * mean + found["size"] + found["grid"].sum())


def test_a_nest_with_the_number_of_samples() -> None:
    assert is_same(TakesNest(nested=Nested()), "head").filled.boundary == ("nested",)


class Top(nn.Module):
    """Returns whole numbers beside its output, which float32 does not hold exactly."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.flatten(1).argsort(1) + 2**30


class TakesTop(Model):
    def forward(self, x: Tensor) -> Tensor:
        x, order = self.top(self.stem(x))
        return self.pooled(x.flatten(1).gather(1, order - 2**30).view_as(x))


def test_whole_numbers_are_kept_exactly() -> None:
    assert is_same(TakesTop(top=Top()), "head").filled.boundary == ("top",)


class Fourier(nn.Module):
    """Returns complex numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x)


class TakesFourier(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.fourier(self.stem(x)).abs())


def test_complex_numbers_are_computed_again() -> None:
    assert is_same(TakesFourier(fourier=Fourier()), "head").filled.boundary == ("stem",)


class MeanToo(nn.Module):
    """Returns a mean of the batch beside its output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.mean((0, 2, 3))


class TakesMean(Model):
    def forward(self, x: Tensor) -> Tensor:
        x, mean = self.mean_too(self.stem(x))
        return self.pooled(x) + mean.sum()


def test_what_depends_on_the_batch_is_not_skipped() -> None:
    assert is_same(TakesMean(mean_too=MeanToo()), "head").filled.boundary == ("stem",)


@dataclass
class Found:
    maps: Tensor


class Holding(nn.Module):
    """Returns an object of a class of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Found:
        return Found(self.conv(x))


class TakesObject(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.holding(self.stem(x)).maps)


def test_an_object_is_made_by_the_model_and_what_it_holds_is_kept() -> None:
    assert is_same(TakesObject(holding=Holding()), "head").filled.boundary == ("holding.conv",)


class Drops(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.late(self.drop(self.stem(x))))


@pytest.mark.parametrize("share", [0.5, 1e-9])  # of the second, two draws are hardly different
def test_random_numbers_end_the_prefix(share: float) -> None:
    model = Drops(drop=nn.Dropout(share), late=conv())
    torch.manual_seed(0)
    other = copy.deepcopy(model)
    freeze_(other, frozen_but(other, "head"))
    torch.manual_seed(1)
    wanted = losses(other, data(), lambda model, batch: model(*batch))
    cached = freeze_(model, frozen_but(model, "head")).cache(data(), BATCH)
    torch.manual_seed(1)
    assert losses(model, cached, lambda model, batch: model(*batch)) == wanted
    assert cached.filled.boundary == ("stem",)


class DropsBetween(Model):
    """An auxiliary head with dropout comes before the last part of the prefix."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        early = self.aux(x)
        return self.pooled(self.late(x)), early.mean((2, 3))


def test_dropout_of_the_rest_between_two_frozen_parts() -> None:
    aux = nn.Sequential(conv(4, 4), nn.Dropout(0.5), conv(4, 2))
    model = DropsBetween(aux=aux, late=conv())
    other = copy.deepcopy(model)

    def run(model: nn.Module, batch: Any) -> Tensor:
        one, two = model(*batch)
        return one + two

    freeze_(other, frozen_but(other, "aux", "head"))
    torch.manual_seed(1)
    wanted = losses(other, data(), run)
    cached = freeze_(model, frozen_but(model, "aux", "head")).cache(data(), BATCH)
    torch.manual_seed(1)
    assert losses(model, cached, run) == wanted
    assert cached.filled.boundary == ("stem", "late")


class Skips(Model):
    """Around what is trained goes a skip through a pooling that has no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.pooled(self.pool(self.block(x)) + self.skip(x))


@pytest.mark.parametrize("skip", [nn.AvgPool2d(2), nn.Sequential(nn.Identity(), nn.MaxPool2d(2))])
def test_a_pooling_of_what_is_kept_is_not_kept_too(skip: nn.Module) -> None:
    cached = is_same(Skips(block=conv(), pool=nn.MaxPool2d(2), skip=skip), "block", "head")
    assert cached.filled.boundary == ("stem",)


class Writes(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(nn.functional.relu_(self.stem(x)))


def test_a_batch_is_as_it_was_where_the_rest_writes_in_place() -> None:
    model = Writes()
    cached = freeze_(model, frozen_but(model, "head")).cache(data(), BATCH)
    rows = torch.stack([cached[i][0] for i in range(BATCH)])
    before = rows.clone()
    assert (rows < 0).any()
    model(rows)
    assert torch.equal(rows, before)


class SeesImage(Model):
    """A branch that is trained takes the image itself."""

    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.stem(x) + self.branch(x))


def test_a_trained_branch_that_takes_the_image_is_refused() -> None:
    model = SeesImage(branch=conv(3))
    frozen = freeze_(model, frozen_but(model, "branch", "head"))
    with pytest.raises(CacheError, match="what is trained takes the images themselves"):
        frozen.cache(data(), BATCH)


class Listed(Model):
    def forward(self, images: Any) -> Tensor:
        return self.pooled(self.stem(torch.stack(list(images["all"]))))


@pytest.mark.parametrize("nest", [list, lambda images: {"all": images}])
def test_images_within_a_nest_are_refused(nest: Callable[[Tensor], Any]) -> None:
    model = Listed()
    frozen = freeze_(model, frozen_but(model, "head"))
    with pytest.raises(CacheError, match=r"given (list|dict): features take the place of one"):
        frozen.cache(data(), BATCH, call=lambda model, batch: model(nest(batch[0])))


class Overflows(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.stem(x) * float("inf") * 0)


def test_a_model_that_gives_nan_is_refused() -> None:
    model = Overflows()
    frozen = freeze_(model, frozen_but(model, "head"))
    with pytest.raises(CacheError, match="the model gives NaN for the first samples"):
        frozen.cache(data(), BATCH)


class Changing(Model):
    """Calls its stem once more, when it is told."""

    again = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.pooled(self.stem(x[:, :3]) if self.again else x)


def test_a_forward_that_takes_another_way_is_refused() -> None:
    model = Changing()
    cached = freeze_(model, frozen_but(model, "head")).cache(data(), BATCH)
    rows = torch.stack([cached[i][0] for i in range(BATCH)])
    model(rows)
    model.again = True
    with pytest.raises(CacheError, match=r"stem \(call 2\) is called more often"):
        model(rows)
    model.stem = conv(3)
    with pytest.raises(CacheError, match=r"'stem.weight' requires a gradient since the cache was"):
        model(rows)
