"""The calls of a model that can be computed once for each sample, and what they return."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from freezekit.cache.calls import Call, intercepted, outputs_of
from freezekit.cache.layout import leaf_of, same
from freezekit.cache.prefix import Output, PerSample
from freezekit.errors import CacheError
from freezekit.model.nested import tensors
from freezekit.model.random_state import RandomState, cuda_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Run = Callable[[Any], Any]  # calls the model with a batch, as training does

# Any in this file: a model may take and return anything.

SAMPLES = 4, 3
"""Two numbers of samples that tell where the samples are in each tensor. Not powers of each other,
and above 1, as a batch norm that is trained needs two."""


@dataclass(frozen=True)
class Candidates:
    """Calls that can be computed once for each sample.

    Attributes:
        outputs: What each returns, in the order of the forward.
        times: How often their modules are called in a forward.
        reason: Why the call after them cannot be computed once; "" where there is none.
    """

    outputs: dict[Call, Output]
    times: dict[str, int]
    reason: str


def find_candidates(model: nn.Module, run: Run, batch: Any, few: Any) -> Candidates:
    """Find the outermost calls that depend on frozen weights and their own sample alone.

    Args:
        model: A model with a frozen part, in the mode of training.
        run: Calls it with a batch, as training does.
        batch: `SAMPLES[0]` samples.
        few: The first `SAMPLES[1]` of them.

    Raises:
        CacheError: There is none.
    """
    calls, times, drawing = _observed(model, run, batch)
    if not calls:
        raise CacheError(
            "no call of a module comes before all that is trained, so that nothing can be "
            "computed once; freeze a prefix, as first-n-stages and head-only do"
        )
    outputs: dict[Call, Output] = {}
    reason = ""
    unsteady = _unsteady(model, run, batch, calls)
    unsteady |= dict.fromkeys(
        drawing, "draws random numbers, such as dropout; hold it in eval mode"
    )
    with torch.no_grad():
        seen = [outputs_of(model, partial(run, b), calls) for b in four_batches(batch, few)]
    for call in calls:
        try:
            if call in unsteady:
                raise CacheError(f"{call} {unsteady[call]}")
            outputs[call] = output_of([found[call] for found in seen], str(call))
        except CacheError as error:
            reason = str(error)
            break
    if not outputs:
        raise CacheError(f"the prefix cannot be computed once: {reason}")
    modules = {call.module for call in outputs}
    return Candidates(outputs, {m: n for m, n in times.items() if m in modules}, reason)


def _observed(
    model: nn.Module, run: Run, batch: Any
) -> tuple[list[Call], dict[str, int], set[Call]]:
    """Return the outermost calls of which nothing needs a gradient, in a forward of training.

    Returns:
        The calls, how often each module was called, and the calls that drew random numbers.
    """
    trains = {
        name
        for name, module in model.named_modules()
        if any(p.requires_grad for p in module.parameters())
    }
    free: list[tuple[Call, tuple[Call, ...]]] = []
    inside: list[Call] = []
    drawing: set[Call] = set()
    devices = cuda_devices(model)
    times: Counter[str] = Counter()

    def watch(call: Call, inner: Callable[[], Any], given: Any) -> Any:
        times[call.module] += 1
        inside.append(call)
        before = RandomState.now(devices)
        out = inner()
        if RandomState.now(devices) != before:
            drawing.add(call)
        inside.pop()
        found = list(tensors(out))
        needs = any(t.requires_grad for t in (*tensors(given), *found))
        # An object with tensors inside cannot be made anew; the calls within its maker can.
        is_plain = len(found) == sum(isinstance(t, Tensor) for t in pytree.tree_leaves(out))
        if found and is_plain and not needs and call.module not in trains:
            free.append((call, tuple(inside)))
        return out

    modules = {name: module for name, module in model.named_modules() if name}
    with torch.enable_grad(), intercepted(modules, watch):
        run(batch)
    all_free = {call for call, _ in free}
    calls = [call for call, around in free if not all_free & set(around)]
    return calls, dict(times), drawing


def _unsteady(model: nn.Module, run: Run, batch: Any, calls: list[Call]) -> dict[Call, str]:
    """Return the calls that depend on more than frozen weights and the batch, and on what."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        first = outputs_of(model, partial(run, batch), calls)
        live = [n for n, buffer in model.named_buffers() if not same(buffers[n], buffer)]
        torch.rand(1, device=next(model.parameters()).device)
        second = outputs_of(model, partial(run, batch), calls)
        trained = [p for p in model.parameters() if p.requires_grad]
        values = [p.detach().clone() for p in trained]
        for p in trained:
            p.mul_(1.1).add_(0.1)
        other = outputs_of(model, partial(run, batch), calls)
        for p, value in zip(trained, values, strict=True):
            p.copy_(value)
    found = {}
    for call in calls:
        if any(name.startswith(f"{call.module}.") for name in live):
            found[call] = "changes its statistics in each forward; hold it in eval mode"
        elif not _all_same(first[call], second[call]):
            found[call] = "gives another output each time, as with random numbers of its own"
        elif not _all_same(first[call], other[call]):
            found[call] = "takes what is trained, without a gradient"
    return found


def output_of(seen: Sequence[Any], whose: str) -> Output:
    """Return what a call returns, seen for several batches.

    Raises:
        CacheError: It depends on more than each sample.
    """
    flat = [pytree.tree_flatten(each) for each in seen]
    structure = flat[0][1]
    if any(other != structure for _, other in flat):
        raise CacheError(f"{whose} returns other things for another batch")
    leaves = []
    constants = {}
    for i, values in enumerate(zip(*(values for values, _ in flat), strict=True)):
        leaf = leaf_of(values, SAMPLES, whose) if isinstance(values[0], Tensor) else None
        leaves.append(leaf)
        if leaf is None:
            constants[i] = _constant(values, whose)
        elif not leaf.has_samples:
            constants[i] = values[0]
    return Output(tuple(leaves), constants, structure)


def _constant(values: Sequence[Any], whose: str) -> Any:
    """Return a value that is no tensor, as it depends on the number of samples."""
    whole, few, *others = values
    if all(_is_equal(value, whole) for value in values):
        return whole
    if type(whole) is int and others == [whole, whole]:
        each, rest = divmod(whole, SAMPLES[0])
        if not rest and few == each * SAMPLES[1]:
            return PerSample(each)
    raise CacheError(f"{whose} returns another {type(whole).__name__} for another batch")


def _is_equal(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except (ValueError, TypeError, RuntimeError):  # such as an array, which is not one bool
        return False


def four_batches(batch: Any, few: Any) -> tuple[Any, Any, Any, Any]:
    """Return a batch, a smaller one, one in another order, and one with its first sample twice."""
    return batch, few, _turned(batch), _mixed(batch)


def _turned(batch: Any) -> Any:
    """Return a batch with the last sample first."""
    return pytree.tree_map(lambda v: v.roll(1, 0) if _has_samples(v) else v, batch)


def _mixed(batch: Any) -> Any:
    """Return a batch with the first sample in place of the second."""
    return pytree.tree_map(
        lambda v: torch.cat([v[:1], v[:1], v[2:]]) if _has_samples(v) else v, batch
    )


def _has_samples(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == SAMPLES[0]


def _all_same(one: Any, other: Any) -> bool:
    return all(same(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
