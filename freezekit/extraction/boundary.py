"""The boundary of a model whose tensors are the features, and how these stand in a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Literal

import msgspec
import torch
from torch.utils import _pytree as pytree

from freezekit.cache.calls import outputs_of
from freezekit.errors import CacheError
from freezekit.extraction.pooling import mean_over_positions, pooled_shape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from freezekit.cache.layout import Leaf
    from freezekit.cache.prefix import Prefix

Pool = Literal["none", "mean"]
OUTPUT = "output"
"""Name of what the model itself returns."""


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
        images = as_weights(model, images)
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
                each = leaf.by_sample(value, samples).reshape(samples, *_shape(leaf))
                if self.pool == "mean":
                    each = mean_over_positions(each)
                parts.append(each.flatten(1).float())
        return torch.cat(parts, 1)


def layout_of(prefix: Prefix, pool: Pool) -> tuple[FeatureTensor, ...]:
    """Return the tensors in a row.

    Raises:
        CacheError: Positions that are to be averaged cannot be told from channels.
    """
    found: list[FeatureTensor] = []
    start = 0
    for call in prefix.cut:
        leaves = [leaf for leaf in prefix.outputs[call].leaves if leaf and leaf.has_samples]
        for number, leaf in enumerate(leaves):
            shape = _shape(leaf)
            if pool == "mean":
                if (entries := _entries(leaf)) != 1:
                    raise CacheError(
                        f"the output of {call} has {entries} entries for each sample, and "
                        "its positions are not known; leave out the pooling"
                    )
                shape = pooled_shape(shape, str(call))
            name = str(call) or OUTPUT
            name = f"{name}[{number}]" if len(leaves) > 1 else name
            found.append(FeatureTensor(name, shape, start, prod(shape)))
            start += prod(shape)
    return tuple(found)


def as_weights(model: nn.Module, images: Tensor) -> Tensor:
    """Return images on the device and in the type of the model."""
    first = next(p for p in model.parameters() if p.is_floating_point())
    return images.to(first.device, first.dtype)


def _entries(leaf: Leaf) -> int:
    """Return how many entries of a sample are in the dimension of the samples, mostly 1."""
    assert leaf.dim is not None
    return leaf.shape[leaf.dim]


def _shape(leaf: Leaf) -> tuple[int, ...]:
    """Return the shape for one sample."""
    if _entries(leaf) != 1 or len(leaf.shape) == 1:
        return leaf.shape
    return tuple(size for dim, size in enumerate(leaf.shape) if dim != leaf.dim)
