"""The frozen prefix of a model: which calls are skipped, and which of their outputs are needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from freezekit.cache.calls import Call, intercepted, outputs_of
from freezekit.cache.layout import Leaf, leaf_of
from freezekit.errors import CacheError, some
from freezekit.model.nested import tensors
from freezekit.model.random_state import RandomState, cuda_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Run = Callable[[Any], Any]  # calls the model with a batch, as training does

# Any in this file: a model may take and return anything.

SAMPLES = 4, 3
"""Two numbers of samples that tell where the samples are in each tensor. Not powers of each other,
and above 1, as a batch norm that is trained needs two."""


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


def find_prefix(model: nn.Module, run: Run, batch: Any, few: Any) -> Prefix:
    """Find what can be skipped, and prove on a batch that the rest is the same without it.

    Args:
        model: A model with a frozen part, in the mode of training. Its buffers and random states
            may change.
        run: Calls it with a batch, as training does.
        batch: `SAMPLES[0]` samples.
        few: `SAMPLES[1]` samples.

    Raises:
        CacheError: Nothing comes before all that is trained, or it depends on more than the sample.
    """
    seen = _observed(model, run, batch)
    if not seen:
        raise CacheError(
            "no call of a module comes before all that is trained, so that nothing can be "
            "computed once; freeze a prefix, as first-n-stages and head-only do"
        )
    calls, reason = _steady(model, run, batch, seen)
    if not calls:
        raise CacheError(f"the prefix cannot be computed once: {reason}")
    outputs = _outputs(model, run, (batch, few), calls)
    calls = [call for call in calls if call in outputs]
    whole = Prefix(tuple(calls), tuple(calls), outputs)
    _check_independent(model, run, batch, whole)
    return _least(model, run, batch, whole, reason)


def _observed(model: nn.Module, run: Run, batch: Any) -> list[Call]:
    """Return the outermost calls of which nothing needs a gradient, in a forward of training."""
    trains = {
        name
        for name, module in model.named_modules()
        if any(p.requires_grad for p in module.parameters())
    }
    free: list[tuple[Call, tuple[Call, ...]]] = []
    inside: list[Call] = []

    def watch(call: Call, inner: Callable[[], Any], given: Any) -> Any:
        inside.append(call)
        out = inner()
        inside.pop()
        found = list(tensors(out))
        needs = any(t.requires_grad for t in (*tensors(given), *found))
        if found and not needs and call.module not in trains:
            free.append((call, tuple(inside)))
        return out

    modules = {name: module for name, module in model.named_modules() if name}
    with torch.enable_grad(), intercepted(modules, watch):
        run(batch)
    all_free = {call for call, _ in free}
    return [call for call, around in free if not all_free & set(around)]


def _steady(model: nn.Module, run: Run, batch: Any, calls: list[Call]) -> tuple[list[Call], str]:
    """Return the calls before the first that depends on more than weights and samples, and why."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        first = outputs_of(model, partial(run, batch), calls)
    live = [n for n, buffer in model.named_buffers() if not torch.equal(buffers[n], buffer)]
    with torch.no_grad():
        torch.rand(1, device=next(model.parameters()).device)
        second = outputs_of(model, partial(run, batch), calls)
        trained = [p for p in model.parameters() if p.requires_grad]
        values = [p.detach().clone() for p in trained]
        for p in trained:
            p.mul_(1.1).add_(0.1)
        other = outputs_of(model, partial(run, batch), calls)
        for p, value in zip(trained, values, strict=True):
            p.copy_(value)
    for i, call in enumerate(calls):
        if any(name.startswith(f"{call.module}.") for name in live):
            return calls[:i], f"{call} changes its statistics in each forward; hold it in eval mode"
        if not _same(first[call], second[call]):
            return calls[:i], f"{call} draws random numbers, such as dropout; hold it in eval mode"
        if not _same(first[call], other[call]):
            return calls[:i], f"{call} takes what is trained, without a gradient"
    return calls, ""


def _outputs(
    model: nn.Module, run: Run, batches: Sequence[Any], calls: list[Call]
) -> dict[Call, Output]:
    with torch.no_grad():
        first, second = (outputs_of(model, partial(run, each), calls) for each in batches)
    found = {}
    for call in calls:
        one, structure = pytree.tree_flatten(first[call])
        two = pytree.tree_leaves(second[call])
        leaves = tuple(
            leaf_of(a, b, SAMPLES, str(call)) if isinstance(a, Tensor) else None
            for a, b in zip(one, two, strict=True)
        )
        constants = {
            i: value
            for i, (leaf, value) in enumerate(zip(leaves, one, strict=True))
            if leaf is None or not leaf.has_samples
        }
        found[call] = Output(leaves, constants, structure)
    return found


def _check_independent(model: nn.Module, run: Run, batch: Any, prefix: Prefix) -> None:
    """Refuse a prefix in which a sample sees other samples of its batch.

    Raises:
        CacheError: It does.
    """
    samples = SAMPLES[0]

    def roll(value: Any) -> Any:
        is_batch = isinstance(value, Tensor) and value.dim() and len(value) == samples
        return value.roll(1, 0) if is_batch else value

    turned = pytree.tree_map(roll, batch)
    mixed = pytree.tree_map(
        lambda v: torch.cat([v[:1], v[:1], v[2:]]) if isinstance(v, Tensor) and v.dim() else v,
        batch,
    )
    with torch.no_grad():
        plain, rolled, other = (
            prefix.rows(outputs_of(model, partial(run, each), prefix.cut), samples)
            for each in (batch, turned, mixed)
        )
    close = torch.allclose(plain.roll(1, 0), rolled, rtol=1e-3, atol=1e-5, equal_nan=True)
    if not close or not torch.allclose(plain[:1], other[:1], rtol=1e-3, atol=1e-5, equal_nan=True):
        raise CacheError(
            f"the output of {some(sorted(map(str, prefix.calls)))} depends on the other samples of "
            "the batch, so that it cannot be computed once for each sample"
        )


def _least(model: nn.Module, run: Run, batch: Any, whole: Prefix, reason: str) -> Prefix:
    """Return the prefix with the smallest cut whose outputs are all that the rest needs.

    Raises:
        CacheError: No cut leaves loss and gradients as they are.
    """
    samples, calls = SAMPLES[0], whole.calls
    wanted = _result(model, partial(run, batch))
    with torch.no_grad():
        found = outputs_of(model, partial(run, batch), calls)

    def is_enough(cut: tuple[Call, ...]) -> bool:
        prefix = Prefix(calls, cut, whole.outputs)
        if not prefix.leaves:
            return False
        rows = prefix.rows(found, samples)
        stub = _poisoned(batch)
        try:
            got = _result(model, lambda: prefix.run(model, partial(run, stub), rows))
        except Exception:  # noqa: BLE001  # a stub may break any code of the model
            return False
        return all(
            (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
            for a, b in zip(got, wanted, strict=True)
        )

    for count in range(1, len(calls) + 1):  # mostly the last call is all that the rest needs
        cut = calls[-count:]
        if is_enough(cut):
            for call in cut[:-1]:
                less = tuple(c for c in cut if c != call)
                cut = less if is_enough(less) else cut
            return Prefix(calls, cut, whole.outputs)
    raise CacheError(
        "what is trained uses values of the frozen part that no module returns"
        + (f"; {reason}" if reason else "")
        + ": the prefix of this model cannot be cached at this boundary"
    )


def _result(model: nn.Module, run: Callable[[], Any]) -> list[Tensor | None]:
    """Return a loss and the gradients of what is trained, from one random state and buffers."""
    devices = cuda_devices(model)
    state = RandomState.now(devices)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.enable_grad():
        out = run()
    loss = sum(
        (t.float().square().mean() for t in tensors(out) if t.is_floating_point()),
        torch.zeros(()),
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    state.restore()
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
    return [loss.detach(), *gradients]


def _poisoned(batch: Any) -> Any:
    """Return a batch whose images are NaN: what reads them shows."""

    def poison(value: Any) -> Any:
        is_image = isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 3
        return (
            torch.full((), float("nan"), device=value.device).expand_as(value)
            if is_image
            else value
        )

    return pytree.tree_map(poison, batch)


def _same(one: Any, other: Any) -> bool:
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
