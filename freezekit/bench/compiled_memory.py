"""The memory of a training step under `torch.compile`: measured, for nothing predicts it."""

from __future__ import annotations

import gc
import warnings
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from msgspec.structs import replace
from torch import Tensor
from torch.utils._pytree import tree_leaves

from freezekit.bench.allocations import allocations
from freezekit.bench.compiling import compile_session
from freezekit.bench.memory import cpu_peak_bytes, cuda_peak_bytes, resident_peak_bytes
from freezekit.bench.rows import take_rows
from freezekit.bench.static import static_figures
from freezekit.bench.workload import build
from freezekit.errors import FreezekitWarning
from freezekit.memory.tracker import storage_bytes
from freezekit.results.records import Memory

if TYPE_CHECKING:
    from freezekit.bench.workload import Session
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload
    from freezekit.results.variant import Variant

USUAL_STEPS = 3
"""Steps whose median is what a step takes without compilation; torch is warm after the first."""


@dataclass(frozen=True)
class CompiledFigures:
    """What a compiled step takes.

    Attributes:
        memory: Without a predicted peak, and without what is alive at the peak.
        compile_seconds: Of the first step, beyond those of a usual one.
        warnings: What lean, the model or a plugin warned of as the model was compiled.
    """

    memory: Memory
    compile_seconds: float
    warnings: tuple[str, ...]


def compiled_figures(
    workload: Workload,
    variant: Variant,
    registry: Registry | None = None,
    *,
    folder: str | None = None,
) -> CompiledFigures:
    """Compile a strategy's training step, run it for real and measure it.

    It is meant for a fresh process. A storage tracker does not see what compiled code allocates. So
    saved activations are what the device's allocator has given out in a forward and not taken back,
    and the peak is its highest total in a step. What is alive between two steps does not depend on
    the compiler, and is counted under fake tensors.

    Args:
        workload: The training step.
        variant: Of which `compiled` is taken for granted.
        registry: Where the strategy is looked up; None for the default one.
        folder: As `compile_session` takes it.

    Raises:
        CompilationError: The machine cannot compile, or the model cannot be compiled.
        FreezekitError: As `measured_figures`.
        torch.OutOfMemoryError, MemoryError, RuntimeError: Memory ran out.
    """
    lean, cached = variant.lean, variant.cached
    counted = static_figures(
        workload, variant.spec, registry, lean=lean, cached=cached, flops=False
    ).memory
    session = build(workload, variant.spec, registry, lean=lean)
    if cached:
        take_rows(session)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", FreezekitWarning)
        first = compile_session(session, variant.label, folder)
    told = dict.fromkeys(str(w.message) for w in said if issubclass(w.category, FreezekitWarning))
    seconds = max(0.0, first - median(_seconds(session) for _ in range(USUAL_STEPS)))
    return CompiledFigures(_memory(session, counted), seconds, tuple(told))


def _seconds(session: Session) -> float:
    started = perf_counter()
    session.step()
    if session.workload.device == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - started


def of_any_compiler(memory: Memory) -> Memory:
    """Return what of a step's memory does not depend on whether the model is compiled.

    Example:
        >>> of_any_compiler(Memory(peak_bytes=9, peak_method="predicted", buffers_bytes=1))
        Memory(peak_bytes=None, peak_method=None, ... buffers_bytes=1, ...)
    """
    return Memory(
        parameters_bytes=memory.parameters_bytes,
        buffers_bytes=memory.buffers_bytes,
        inputs_bytes=memory.inputs_bytes,
        gradients_bytes=memory.gradients_bytes,
        optimizer_bytes=memory.optimizer_bytes,
    )


def _memory(session: Session, counted: Memory) -> Memory:
    session.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    is_cuda = session.workload.device == "cuda"
    saved = _kept_on_cuda(session) if is_cuda else allocations(lambda: _graph(session)).left_bytes
    gc.collect()
    peak = cuda_peak_bytes(session) if is_cuda else cpu_peak_bytes(session, _idle(session, counted))
    return replace(
        of_any_compiler(counted),
        peak_bytes=peak,
        peak_method="measured",
        saved_activations_bytes=max(0, saved),
        process_bytes=torch.cuda.max_memory_reserved() if is_cuda else resident_peak_bytes(),
    )


def _graph(session: Session) -> object:
    return session.loss().grad_fn  # the graph alone: the loss counts only if the graph holds it


def _kept_on_cuda(session: Session) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    graph = _graph(session)
    torch.cuda.synchronize()
    kept = torch.cuda.memory_allocated() - before
    del graph
    return kept


def _idle(session: Session, counted: Memory) -> int:
    """Return the bytes that are alive between two steps, without gradients."""
    known = (
        counted.parameters_bytes,
        counted.buffers_bytes,
        counted.inputs_bytes,
        counted.optimizer_bytes,
    )
    if None not in known:
        return sum(count or 0 for count in known)
    # The model needs real numbers, so that nothing was counted; labels alone are missing here.
    model, state = session.model, list(session.optimizer.state.values())
    there = tree_leaves([*model.parameters(), *model.buffers(), session.inputs, state])
    tensors = (leaf for leaf in there if isinstance(leaf, Tensor))
    return sum(storage_bytes(tensors, session.workload.device).values())
