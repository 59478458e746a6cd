"""The boundary of a model whose tensors are the features, and how these stand in a row."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Literal

import msgspec
import torch
from torch.utils import _pytree as pytree

from freezekit.cache.calls import outputs_of
from freezekit.cache.finding import SAMPLES, find_prefix
from freezekit.cache.fingerprint import frozen_tensors, weights_digest
from freezekit.cache.untouched import in_training
from freezekit.errors import CacheError, FreezeError, FreezekitWarning, ModelError
from freezekit.extraction.cut import cut_inside
from freezekit.extraction.pooling import mean_over_positions, pooled_shape
from freezekit.freezing.eval_hold import RECORD
from freezekit.handle.freeze import freeze_
from freezekit.model.nested import tensors
from freezekit.model.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

    from freezekit.cache.prefix import Prefix
    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.spec.strategy import Strategy

Pool = Literal["none", "mean"]


class FeatureTensor(msgspec.Struct, frozen=True):
    """One tensor of the boundary, as it stands in a row.

    Attributes:
        name: The module that returns it; with a number where that returns several.
        shape: Its shape for one sample.
        start: Its first column.
        numbers: How many columns it has.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    numbers: int


@dataclass(frozen=True)
class Boundary:
    """Where the features are taken.

    Attributes:
        prefix: The calls whose outputs are the features.
        tensors: What is in a row, in its order.
        pool: "mean" where positions are averaged.
        weights: A digest of the weights and statistics that features depend on.
    """

    prefix: Prefix
    tensors: tuple[FeatureTensor, ...]
    pool: Pool
    weights: str

    @property
    def numbers(self) -> int:
        """Numbers of a sample."""
        return sum(tensor.numbers for tensor in self.tensors)

    def __str__(self) -> str:
        parts = [f"{tensor.name} {tensor.shape}" for tensor in self.tensors]
        pooled = ", averaged over positions" if self.pool == "mean" else ""
        return f"{', '.join(parts)}{pooled}: {self.numbers:,} numbers a sample"

    def rows(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the features of images as (images, numbers).

        Args:
            model: The model in which the boundary was found, in eval mode.
            images: As its preprocessing makes them, on any device.

        Raises:
            CacheError: The forward takes another way than on the images before.
        """
        samples = len(images)
        images = _as_weights(model, images)
        with torch.no_grad():
            try:
                found = outputs_of(model, partial(model, images), self.prefix.cut)
            except KeyError as error:
                raise CacheError(f"{error.args[0]} was not called for these images") from None
        parts = []
        for call in self.prefix.cut:
            leaves = self.prefix.outputs[call].leaves
            values = pytree.tree_leaves(found[call])
            for leaf, value in zip(leaves, values, strict=True):
                if leaf is None or not leaf.has_samples:
                    continue
                if tuple(value.shape) != leaf.of(samples):
                    raise CacheError(
                        f"the output of {call} has the shape {tuple(value.shape)} for {samples} "
                        f"images, expected {leaf.of(samples)}"
                    )
                each = value.reshape(samples, *_shape(leaf.shape))
                if self.pool == "mean":
                    each = mean_over_positions(each)
                parts.append(each.flatten(1).float())
        return torch.cat(parts, 1)


def find_boundary(
    model: nn.Module,
    spec: str | Strategy | FreezePlan,
    shape: tuple[int, int, int],
    *,
    pool: Pool = "none",
    of_stage: bool = False,
    registry: Registry | None = None,
) -> Boundary:
    """Return the boundary of a strategy: the tensors that what it trains needs of what it freezes.

    The model is left as it was, but for gradients of parameters that the strategy freezes.

    Args:
        model: A model that is not frozen by freezekit. It is observed in eval mode.
        spec: A strategy, or a plan.
        shape: (channels, height, width) of the images.
        pool: "mean" averages each tensor over its positions: the tokens, or height and width.
        of_stage: Take what the frozen modules return, though a pooling after them makes it smaller.
        registry: The strategies that the text can name. The default is all installed plugins.

    Raises:
        CacheError: Nothing comes before all that is trained, the tensors cannot be divided into
            samples, or positions cannot be told from channels.
        ModelError: The model does not take such images.
        FreezeError: The model is frozen by freezekit.
        SpecError, StagingError, PlanError, PluginError: As in `freezekit.freeze_`.

    Example:
        >>> from freezekit.testing import MODELS
        >>> model = MODELS["residual"]()
        >>> print(find_boundary(model, "head-only", (3, 32, 32)))
        layer3 (16, 4, 4): 256 numbers a sample
        >>> print(find_boundary(model, "head-only", (3, 32, 32), pool="mean"))
        layer3 (16,), averaged over positions: 16 numbers a sample
    """
    if RECORD in vars(model):
        raise FreezeError("the model is frozen: call undo() of its handle, then find the boundary")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreezekitWarning)  # of a training, and nothing is trained
        frozen = freeze_(model, spec, registry=registry)
    try:
        with in_training(model):  # gives modes, buffers and random states back
            model.eval()
            # Noise tells samples apart, whatever the user's first images are.
            source = torch.Generator().manual_seed(0)
            images = _as_weights(model, torch.randn(SAMPLES[0], *shape, generator=source))
            _check_taken(model, images)
            prefix = find_prefix(model, model, images, images[: SAMPLES[1]])
            inside = cut_inside(model, prefix, _frozen_modules(model, frozen.plan), images)
            if inside and (of_stage or inside.numbers < prefix.numbers):
                prefix = inside
        weights = weights_digest(frozen_tensors(model, frozen.plan))
    finally:
        frozen.undo()
    return Boundary(prefix, _layout(prefix, pool), pool, weights)


def _frozen_modules(model: nn.Module, plan: FreezePlan) -> set[str]:
    """Return the modules that a plan in force holds in eval mode, or whose weights it freezes."""
    frozen = {
        name
        for name, module in model.named_modules()
        if (flags := [p.requires_grad for p in module.parameters()]) and not any(flags)
    }
    return frozen.union(plan.eval_modules or ())


def _as_weights(model: nn.Module, images: Tensor) -> Tensor:
    """Return images on the device and in the type of the model."""
    first = next(p for p in model.parameters() if p.is_floating_point())
    return images.to(first.device, first.dtype)


def _check_taken(model: nn.Module, images: Tensor) -> None:
    try:
        with torch.no_grad():
            out = model(images)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{type(model).__name__} does not take images of {tuple(images.shape)}: "
            f"{type(error).__name__}: {error!s:.200}"
        ) from error
    if next(tensors(out), None) is None:
        raise ModelError(f"{type(model).__name__} returns no tensor for images")


def _layout(prefix: Prefix, pool: Pool) -> tuple[FeatureTensor, ...]:
    found: list[FeatureTensor] = []
    start = 0
    for call in prefix.cut:
        leaves = [leaf for leaf in prefix.outputs[call].leaves if leaf and leaf.has_samples]
        for number, leaf in enumerate(leaves):
            shape = _shape(leaf.shape)
            if pool == "mean":
                if leaf.shape[0] != 1:
                    raise CacheError(
                        f"the output of {call} has {leaf.shape[0]} entries for each sample, and "
                        "its positions are not known; leave out the pooling"
                    )
                shape = pooled_shape(shape, str(call))
            name = f"{call}.{number}" if len(leaves) > 1 else str(call)
            found.append(FeatureTensor(name, shape, start, prod(shape)))
            start += prod(shape)
    return tuple(found)


def _shape(of_leaf: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape for one sample, whose first dimension in a leaf is mostly 1."""
    return of_leaf[1:] if of_leaf[0] == 1 and len(of_leaf) > 1 else of_leaf
