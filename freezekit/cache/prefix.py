"""The frozen prefix of a model: which calls are skipped, and which of their outputs are needed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
class PerSample:
    """A whole number that a call returns, which grows with the number of samples.

    Attributes:
        each: What it is for one sample.
    """

    each: int


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

    def stubs(self, samples: int, device: torch.device) -> list[Any]:
        """Return what stands for the values of the output where nobody needs them."""
        return self._values(samples, lambda leaf: leaf.stub(samples, device))

    def from_rows(self, rows: Iterator[Tensor], samples: int) -> Any:
        """Return the output, made of the rows of its leaves, which come in order."""
        return self.nested(self._values(samples, lambda leaf: leaf.from_rows(next(rows))))

    def nested(self, values: list[Any]) -> Any:
        """Return the output, made of its values."""
        return pytree.tree_unflatten(values, self.structure)

    def _values(self, samples: int, make: Callable[[Leaf], Tensor]) -> list[Any]:
        found = []
        for i, leaf in enumerate(self.leaves):
            if leaf is not None and leaf.has_samples:
                found.append(make(leaf))
            else:
                value = self.constants[i]
                is_count = isinstance(value, PerSample)
                found.append(value.each * samples if is_count else value)
        return found


@dataclass(frozen=True)
class Prefix:
    """What is skipped in a model whose prefix is cached.

    Attributes:
        calls: The outermost calls whose modules, inputs and outputs need no gradient.
        cut: Those of them whose outputs the rest of the model needs.
        outputs: What each call returns.
        times: How often the modules of the calls are called in a forward.
        is_written: Whether the rest writes into the outputs of the cut, such as a ReLU in place. It
            is given a copy then, so that a batch can be given again.
    """

    calls: tuple[Call, ...]
    cut: tuple[Call, ...]
    outputs: dict[Call, Output] = field(repr=False)
    times: dict[str, int] = field(repr=False)
    is_written: bool = False
    _skipping: Skipping | None = field(default=None, init=False, repr=False, compare=False)

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
        """The type of a row: the narrowest float that holds all its tensors exactly."""
        dtype = self.leaves[0].dtype
        for leaf in self.leaves[1:]:
            dtype = torch.promote_types(dtype, leaf.dtype)
        are_floats = all(leaf.dtype.is_floating_point for leaf in self.leaves)
        return dtype if are_floats else torch.float64  # of whole numbers, those up to 2**53

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

    def without(self, call: Call) -> Prefix:
        """Return a prefix in which a call is not skipped."""
        calls = tuple(each for each in self.calls if each != call)
        outputs = {each: self.outputs[each] for each in calls}
        cut = tuple(each for each in self.cut if each != call)
        return replace(self, calls=calls, cut=cut, outputs=outputs)

    def run(self, model: nn.Module, forward: Callable[[], Any], rows: Tensor) -> Any:
        """Run a forward without the prefix: the outputs of the cut come from rows.

        Raises:
            CacheError: The forward does not call the modules as when the prefix was found.
        """
        if torch.compiler.is_compiling():  # looks up once, at compilation
            return Skipping(model, self).run(forward, rows)
        if self._skipping is None or self._skipping.model is not model:
            object.__setattr__(self, "_skipping", Skipping(model, self))
        assert self._skipping is not None
        return self._skipping.run(forward, rows)

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to another model, and looks its modules up itself."""
        return {**vars(self), "_skipping": None}


class Skipping:
    """Forwards of one model without its prefix. To look its modules up in each takes time.

    Attributes:
        model: The model.
    """

    def __init__(self, model: nn.Module, prefix: Prefix) -> None:
        self.model = model
        self._prefix = prefix
        self._modules = {n: m for n, m in model.named_modules() if n in prefix.times}
        self._sizes = [leaf.numbers for leaf in prefix.leaves]
        self._size: tuple[int, torch.device] | None = None
        self._stubs: dict[Call, list[Any]] = {}  # of this size: they take no memory, only time

    def run(self, forward: Callable[[], Any], rows: Tensor) -> Any:
        """Run a forward; see `Prefix.run`."""
        prefix, samples = self._prefix, len(rows)
        parts = iter((rows.clone() if prefix.is_written else rows).split(self._sizes, 1))
        given = {call: prefix.outputs[call].from_rows(parts, samples) for call in prefix.cut}
        if self._size != (size := (samples, rows.device)):
            self._size = size
            self._stubs = {call: out.stubs(*size) for call, out in prefix.outputs.items()}

        def answer(call: Call, inner: Callable[[], Any], _: Any) -> Any:
            if call in given:
                missing.discard(call)
                return given[call]
            if call in self._stubs:
                return prefix.outputs[call].nested(self._stubs[call])
            if call.number >= prefix.times[call.module]:
                raise CacheError(
                    f"{call} is called more often than when the prefix was found: this forward "
                    "takes another way; run it without the cache"
                )
            return inner()

        missing = set(prefix.cut)
        with intercepted(self._modules, answer):
            out = forward()
        if missing:
            raise CacheError(f"{min(missing)} was not called: this forward takes another way")
        return out
