"""What a cache of a plan would hold and save, from recorded forwards: nothing is computed.

`find_prefix` finds the same in a model with data, and proves it. Here nothing has values, so that
what a sample sees of the others of its batch does not show, but for batch norms.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils import _pytree as pytree

from freezekit.budget import choosing_nothing
from freezekit.cache.candidates import SAMPLES
from freezekit.cache.layout import leaf_by_shape
from freezekit.cache.prefix import Output, Prefix
from freezekit.cache.trace import Enter, Leave, Op, Trace, traced
from freezekit.errors import CacheError, some
from freezekit.model.nested import tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from freezekit.cache.calls import Call
    from freezekit.cache.trace import Number
    from freezekit.freezing.plan import FreezePlan

# Any in this file: a module may take and return anything.

IMAGE = None
"""Stands for the images among the calls on which a value depends."""


@dataclass(frozen=True)
class Expected:
    """What a cache would be.

    Attributes:
        prefix: What it skips, with the layout of a row.
        flops_per_sample: Floating-point operations that it skips for each sample.
    """

    prefix: Prefix
    flops_per_sample: int

    @property
    def bytes_per_sample(self) -> int:
        """Of a row."""
        return self.prefix.numbers * self.prefix.dtype.itemsize

    @property
    def boundary(self) -> tuple[str, ...]:
        """The modules whose outputs are kept."""
        return tuple(map(str, self.prefix.cut))


class Forwards:
    """Two recorded forwards of a model in training, with different numbers of samples.

    Example:
        >>> import torch
        >>> from freezekit import plan
        >>> from freezekit.testing import MODELS
        >>> model = MODELS["residual"]().train()
        >>> seen = Forwards(model, model, lambda samples: torch.rand(samples, 3, 32, 32))
        >>> found = seen.expected(plan(model, "head-only"))
        >>> found.boundary, found.bytes_per_sample
        (('layer3',), 1024)
    """

    def __init__(
        self, model: nn.Module, run: Callable[[Any], Any], batch_of: Callable[[int], Any]
    ) -> None:
        """Run the model twice. Its buffers may change.

        Args:
            model: In train mode; fake tensors are enough.
            run: Calls it with a batch, as training does.
            batch_of: Makes a batch of a number of samples.
        """
        self._without_parameters = {
            name
            for name, module in model.named_modules()
            if not any(True for _ in module.parameters())
        }
        with choosing_nothing():
            self._few, self._more = (traced(model, run, batch_of(samples)) for samples in SAMPLES)

    @property
    def flops_per_sample(self) -> int:
        """Floating-point operations of the whole forward."""
        return self._few.flops // SAMPLES[0]

    def expected(self, plan: FreezePlan) -> Expected:
        """Return what a cache would be under a plan.

        Raises:
            CacheError: There can be none; the message says why.
        """
        trace, held = self._few, plan.eval_modules or frozenset()
        free = _free(trace, {n for n in trace.parameters if n not in plan.frozen})
        if not free:
            raise CacheError(
                "no call of a module comes before all that is trained, so that nothing can be "
                "computed once; freeze a prefix, as first-n-stages and head-only do"
            )
        calls, flops, reason = _steady(trace, free, held)
        if not calls:
            raise CacheError(f"the prefix cannot be computed once: {reason}")
        outputs = {call: self._output(call) for call in calls}
        cut = _cut(trace, outputs)
        if not cut:
            raise CacheError(
                "what is trained uses values of the frozen part that no module returns"
                + (f"; {reason}" if reason else "")
                + ": the prefix of this model cannot be cached at this boundary"
            )
        for call in cut:
            # A module without parameters costs next to nothing, as in `find_prefix`: it runs where
            # what it takes is in the cut already.
            rest = {c: out for c, out in outputs.items() if c != call}
            is_called_again = any(c.module == call.module for c in rest)
            if call.module in self._without_parameters and not is_called_again:
                less = _cut(trace, rest)
                if less and set(less) < set(cut):
                    cut, outputs = less, rest
        skipped = {call.module for call in outputs}
        called = [event.call.module for event in trace.events if isinstance(event, Enter)]
        times = Counter(module for module in called if module in skipped)
        return Expected(Prefix(tuple(outputs), cut, outputs, times), flops // SAMPLES[0])

    def _output(self, call: Call) -> Output:
        one, structure = pytree.tree_flatten(self._few.outputs[call])
        two = pytree.tree_leaves(self._more.outputs.get(call))
        if len(one) != len(two):
            raise CacheError(f"{call} returns another number of values for another batch size")
        leaves = tuple(
            leaf_by_shape(a, b, SAMPLES, str(call)) if isinstance(a, Tensor) else None
            for a, b in zip(one, two, strict=True)
        )
        constants = {
            i: value
            for i, (leaf, value) in enumerate(zip(leaves, one, strict=True))
            if leaf is None or not leaf.has_samples
        }
        return Output(leaves, constants, structure)


def _free(trace: Trace, trained: set[str]) -> list[Call]:
    """Return the outermost calls of which nothing depends on what is trained."""
    tainted = {trace.parameters[name] for name in trained}
    trains = {part for name in trained for part in _around(name)}
    needs: set[Call] = set()
    free: list[tuple[Call, tuple[Call, ...]]] = []
    inside: list[Call] = []
    for event in trace.events:
        match event:
            case Op():
                if event.reads & tainted:
                    tainted |= event.writes
            case Enter():
                inside.append(event.call)
                if event.reads & tainted:
                    needs.add(event.call)
            case Leave():
                inside.pop()
                made = {new for old, new in event.returned if old in tainted}
                tainted |= made
                has_tensors = any(True for _ in tensors(trace.outputs[event.call]))
                is_free = event.call.module not in trains and event.call not in needs
                if has_tensors and is_free and not made:
                    free.append((event.call, tuple(inside)))
    all_free = {call for call, _ in free}
    return [call for call, around in free if not all_free & set(around)]


def _steady(trace: Trace, free: list[Call], held: frozenset[str]) -> tuple[list[Call], int, str]:
    """Return the calls before the first that depends on more than weights and samples.

    Returns their FLOPs beside them, and why there are no more.
    """
    wanted, flops, of_call = set(free), 0, 0
    now: Call | None = None
    reason = ""
    for event in trace.events:
        match event:
            case Enter() if now is None and event.call in wanted:
                now, of_call, reason = event.call, 0, ""
            case Leave() if event.call == now:
                if reason:
                    return free[: free.index(now)], flops, reason
                now, flops = None, flops + of_call
            case Op() if now is not None:
                of_call += event.flops
                reason = reason or _reason(event, now, held)
    return free, flops, ""


def _reason(op: Op, call: Call, held: frozenset[str]) -> str:
    if op.unsteady == "batch":
        raise CacheError(
            f"the output of {some([str(call)])} depends on the other samples of the batch, so that "
            "it cannot be computed once for each sample"
        )
    if op.module in held or not op.unsteady:
        return ""
    if op.unsteady == "statistics":
        return f"{call} changes its statistics in each forward; hold it in eval mode"
    return f"{call} draws random numbers, such as dropout; hold it in eval mode"


def _cut(trace: Trace, outputs: Mapping[Call, Output]) -> tuple[Call, ...]:
    """Return the calls whose outputs reach the results without passing through another of them.

    Returns none where images reach the results, too.
    """
    sources: dict[Number, set[Call | None]] = {number: {IMAGE} for number in trace.images}
    now: Call | None = None
    for event in trace.events:
        match event:
            case Enter() if now is None and event.call in outputs:
                now = event.call
            case Leave() if event.call == now:
                tensor_leaves = [leaf for leaf in outputs[event.call].leaves if leaf is not None]
                for (_, new), leaf in zip(event.returned, tensor_leaves, strict=True):
                    sources[new] = {now} if leaf.has_samples else set()
                now = None
            case Leave() if now is None:
                for old, new in event.returned:
                    sources[new] = set(sources.get(old, ()))
            case Op() if now is None:
                read = {one for number in event.reads for one in sources.get(number, ())}
                for number in event.writes if read else ():
                    sources.setdefault(number, set()).update(read)
    needed = {one for number in trace.results for one in sources.get(number, ())}
    return () if IMAGE in needed else tuple(call for call in outputs if call in needed)


def _around(parameter: str) -> set[str]:
    """Return the names of the modules around a parameter."""
    parts = parameter.split(".")[:-1]
    return {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
