"""The frozen prefix of a model: which calls are skipped, and which of their outputs are needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from freezekit.cache.calls import Call, intercepted
from freezekit.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezekit.cache.layout import Leaf

# Any in this file: a model may take and return anything.


@dataclass(frozen=True)
class Output:
    """What a call returns: the tensors as leaves, and all else as it was seen.

    Attributes:
        leaves: One for each tensor.
        constants: The tensors without samples and the values that are no tensor, by their place.
        structure: How they are nested.
    """

    leaves: tuple[Leaf | None, ...]
    constants: dict[int, Any]
    structure: pytree.TreeSpec

    def stub(self, samples: int, device: torch.device) -> Any:
        """Return what stands for the output where nobody needs it."""
        return self._made(lambda leaf: leaf.stub(samples, device))

    def from_rows(self, rows: Iterator[Tensor]) -> Any:
        """Return the output, made of the rows of its leaves, which come in order."""
        return self._made(lambda leaf: leaf.from_rows(next(rows)))

    def _made(self, make: Callable[[Leaf], Tensor]) -> Any:
        values = [
            self.constants[i] if leaf is None or not leaf.has_samples else make(leaf)
            for i, leaf in enumerate(self.leaves)
        ]
        return pytree.tree_unflatten(values, self.structure)


@dataclass(frozen=True)
class Prefix:
    """What is skipped in a model whose prefix is cached.

    Attributes:
        calls: The outermost calls whose modules, inputs and outputs need no gradient.
        cut: Those of them whose outputs the rest of the model needs.
        outputs: What each call returns.
    """

    calls: tuple[Call, ...]
    cut: tuple[Call, ...]
    outputs: dict[Call, Output] = field(repr=False)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The tensors in a row, in their order."""
        return tuple(
            leaf
            for call in self.cut
            for leaf in self.outputs[call].leaves
            if leaf is not None and leaf.has_samples
        )

    @property
    def numbers(self) -> int:
        """Numbers in a row: those of one sample."""
        return sum(leaf.numbers for leaf in self.leaves)

    @property
    def dtype(self) -> torch.dtype:
        """The type of a row: the narrowest that holds all its tensors exactly."""
        dtype = self.leaves[0].dtype
        for leaf in self.leaves[1:]:
            dtype = torch.promote_types(dtype, leaf.dtype)
        return dtype

    def rows(self, found: dict[Call, Any], samples: int) -> Tensor:
        """Return the outputs of the cut as (samples, numbers)."""
        parts = []
        for call in self.cut:
            values = pytree.tree_leaves(found[call])
            for leaf, value in zip(self.outputs[call].leaves, values, strict=True):
                if leaf is not None and leaf.has_samples:
                    if tuple(value.shape) != leaf.of(samples):
                        raise CacheError(
                            f"the output of {call} has the shape {tuple(value.shape)} for "
                            f"{samples} samples, expected {leaf.of(samples)}: all samples must "
                            "have one size"
                        )
                    parts.append(leaf.to_rows(value, samples).to(self.dtype))
        return torch.cat(parts, 1)

    def run(self, model: nn.Module, forward: Callable[[], Any], rows: Tensor) -> Any:
        """Run a forward without the prefix: the outputs of the cut come from rows."""
        samples = len(rows)
        parts = iter(rows.split([leaf.numbers for leaf in self.leaves], 1))
        given = {call: self.outputs[call].from_rows(parts) for call in self.cut}
        missing = set(self.cut)

        def answer(call: Call, inner: Callable[[], Any], _: Any) -> Any:
            if call in given:
                missing.discard(call)
                return given[call]
            if call in self.outputs:
                return self.outputs[call].stub(samples, rows.device)
            if call.module in whole:
                raise CacheError(
                    f"{call} is called more often than when the prefix was found: this forward "
                    "takes another way; run it without the cache"
                )
            return inner()

        whole = {call.module for call in self.calls}
        modules = {name: module for name, module in model.named_modules() if name in whole}
        with intercepted(modules, answer):
            out = forward()
        if missing:
            raise CacheError(f"{min(missing)} was not called: this forward takes another way")
        return out
