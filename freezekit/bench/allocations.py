"""What torch's CPU allocator gives out while something runs, by its own events."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

# Not `torch.profiler.profile`: that imports torch's compiler, which takes seconds.
from torch.autograd.profiler import profile

if TYPE_CHECKING:
    from collections.abc import Callable


class Allocations(NamedTuple):
    """Bytes beyond what was alive before: at most at once, and still there at the end."""

    peak_bytes: int
    left_bytes: int


def allocations(run: Callable[[], object]) -> Allocations:
    """Run something once and add up the allocator's events.

    The profiler does not see a block freed that it did not see allocated.

    Example:
        >>> import torch
        >>> rows = torch.zeros(256)
        >>> allocations(lambda: rows.clone()[:1].clone())
        Allocations(peak_bytes=1028, left_bytes=4)
    """
    with profile(profile_memory=True) as record:
        result = run()  # named, so that it is alive until the end
    assert record.kineto_results is not None
    events = [event for event in record.kineto_results.events() if event.name() == "[memory]"]
    del result
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return Allocations(peak, alive)
