"""The memory of one training step, by category and at its peak, for real or under fake tensors."""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from freezekit.bench.allocations import allocations
from freezekit.bench.rows import take_rows
from freezekit.bench.workload import Session, build
from freezekit.memory.tracker import StorageTracker, storage_bytes
from freezekit.memory.workspace import cpu_workspace
from freezekit.results.records import Memory

if TYPE_CHECKING:
    from freezekit.bench.phase_plan import Measured
    from freezekit.plugins.registry import Registry
    from freezekit.results.lean_text import LeanChoice
    from freezekit.results.records import Workload


def measured_figures(
    workload: Workload,
    spec: Measured,
    registry: Registry | None = None,
    *,
    lean: LeanChoice = False,
    cached: bool = False,
) -> Memory:
    """Run a strategy's training step for real and measure its memory.

    It is meant for a fresh process per strategy, which is never timed. The first step allocates the
    optimizer's state. The second is tracked by storages. The third is observed by the device's own
    allocator: `max_memory_allocated` on CUDA, the allocator's events on the CPU. In between, one
    forward pass shows what the graph holds.

    The workspace is the allocator's peak minus the tracker's. It can be slightly negative (-0.3 %
    of the peak in mobilenet_v3_small): autograd adds two gradients of one tensor in place, except
    while a dispatch mode such as the tracker is active.

    Args:
        workload: The training step.
        spec: The strategy, or the plan of a phase.
        registry: Where it is looked up; None for the default one.
        lean: As in `freeze_`.
        cached: Take features of a cache in place of images.

    Raises:
        FreezekitError: The model cannot be built, the strategy refuses it, or it cannot be cached.
        torch.OutOfMemoryError, MemoryError, RuntimeError: Memory ran out; see `is_out_of_memory`.

    Example:
        >>> from freezekit.results.records import Workload
        >>> tiny = Workload("torchvision:shufflenet_v2_x0_5", batch_size=2, image_size=32)
        >>> memory = measured_figures(tiny, "full")
        >>> memory.peak_method
        'measured'
        >>> memory.peak_bytes == memory.tracker_peak_bytes + memory.workspace_bytes
        True
    """
    session = build(workload, spec, registry, lean=lean)
    if cached:
        take_rows(session)
    traced, idle_bytes = traced_memory(session)
    process: int | None
    if workload.device == "cuda":
        peak, process = cuda_peak_bytes(session), torch.cuda.max_memory_reserved()
    else:
        process = resident_peak_bytes()  # before the profiler adds to it
        peak = cpu_peak_bytes(session, idle_bytes)
    tracked = traced.tracker_peak_bytes
    return msgspec.structs.replace(
        traced,
        peak_bytes=peak,
        peak_method="measured",
        workspace_bytes=None if tracked is None else peak - tracked,
        process_bytes=process,
    )


def traced_memory(session: Session, *, workspace: bool = False) -> tuple[Memory, int]:
    """Run two steps and a forward pass under the storage tracker, for real or fake tensors alike.

    Returns the categories with `tracker_peak_bytes`, and the bytes alive between two steps, without
    gradients. These are divided into parameters, buffers, optimizer state and the rest, inputs:
    images, labels and whatever else the model keeps. Saved activations are the bytes that are freed
    with the graph; with autocast they include the cast copies of the weights. `workspace` adds the
    bytes that `cpu_workspace` predicts beyond the tracker.
    """
    model, optimizer = session.model, session.optimizer
    device = session.workload.device
    tracker = StorageTracker(device, cpu_workspace if workspace else None)
    state_before = list(optimizer.state.values())  # of the phases before this one
    tracker.add(_tensors([*model.parameters(), *model.buffers(), session.inputs, state_before]))
    with tracker:
        session.step()
        optimizer.zero_grad(set_to_none=True)
        gc.collect()
        idle = tracker.snapshot()
        graph = (
            session.loss().grad_fn
        )  # the graph alone: the loss counts only if the graph holds it
        with_graph_bytes = tracker.current_bytes
        del graph
        gc.collect()
        # A model may keep a part of its last graph, as RAFT does: then not all of it is freed.
        saved_bytes = with_graph_bytes - min(tracker.current_bytes, sum(idle.values()))
        tracker.reset_peak()
        kept = _step_in_two(session, tracker)
    parameters = storage_bytes(model.parameters(), device)
    buffers = storage_bytes(model.buffers(), device)
    state = storage_bytes(_tensors(list(optimizer.state.values())), device)
    trainable = (p for p in model.parameters() if p.requires_grad)
    grads = [p.grad for p in trainable if p.grad is not None]
    gradients = storage_bytes(grads, device)
    at_peak, accumulated = tracker.peak_storages(), tracker.numbers_of(grads)
    memory = Memory(
        tracker_peak_bytes=tracker.peak_bytes,
        parameters_bytes=sum(parameters.values()),
        buffers_bytes=_sum_without(buffers, parameters),
        inputs_bytes=_sum_without(idle, parameters, buffers, state),
        gradients_bytes=sum(gradients.values()),
        optimizer_bytes=_sum_without(state, parameters, buffers),
        saved_activations_bytes=saved_bytes,
        gradients_at_peak_bytes=sum(size for n, size in at_peak.items() if n in accumulated),
        saved_at_peak_bytes=sum(size for n, size in at_peak.items() if n in kept - accumulated),
    )
    if workspace:
        beyond = tracker.peak_with_workspace_bytes - tracker.peak_bytes
        memory = msgspec.structs.replace(memory, workspace_bytes=beyond)
    return memory, sum(idle.values())


def _step_in_two(session: Session, tracker: StorageTracker) -> set[int]:
    """Run a step as `session.step` does; return the storages that forward kept for backward."""
    session.optimizer.zero_grad(set_to_none=True)
    before = tracker.alive()
    loss = session.loss()
    kept = tracker.alive() - before - tracker.numbers_of([loss])
    loss.backward()
    del loss  # as in a step, where the loss is freed before the optimizer runs
    session.optimizer.step()
    return kept


def cuda_peak_bytes(session: Session) -> int:
    """Return the highest total that CUDA's caching allocator had allocated during a step."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    session.step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def cpu_peak_bytes(session: Session, idle_bytes: int) -> int:
    """Run one step and add the allocator's events to the bytes that were alive before.

    Gradients are dropped first: their blocks would be freed in the step, and the profiler misses
    that for blocks allocated before. The step makes them again, so the peak is the same.
    """
    session.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    return idle_bytes + allocations(session.step).peak_bytes


def resident_peak_bytes() -> int | None:
    """Return the most that this process held in memory; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where `ru_maxrss` counts what the starting process held, too
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB


def _tensors(nest: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


def _sum_without(storages: dict[int, int], *others: dict[int, int]) -> int:
    excluded = set().union(*others)
    return sum(size for key, size in storages.items() if key not in excluded)
