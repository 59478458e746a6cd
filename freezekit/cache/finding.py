"""Find what can be skipped in a model, and prove that the rest is the same without it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from freezekit.cache.calls import Call, intercepted, outputs_of
from freezekit.cache.layout import leaf_of
from freezekit.cache.prefix import Output, Prefix
from freezekit.errors import CacheError, some
from freezekit.model.nested import tensors
from freezekit.model.random_state import RandomState, cuda_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Run = Callable[[Any], Any]  # calls the model with a batch, as training does

# Any in this file: a model may take and return anything.

SAMPLES = 4, 3
"""Two numbers of samples that tell where the samples are in each tensor. Not powers of each other,
and above 1, as a batch norm that is trained needs two."""


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

    def is_enough(cut: tuple[Call, ...], calls: tuple[Call, ...] = whole.calls) -> bool:
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
            for call in cut:
                # A module without parameters, such as a pooling in a shortcut, costs next to
                # nothing: it runs where what it takes is in the cut already.
                if not any(True for _ in model.get_submodule(call.module).parameters()):
                    less, rest = (tuple(c for c in each if c != call) for each in (cut, calls))
                    if is_enough(less, rest):
                        cut, calls = less, rest
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
