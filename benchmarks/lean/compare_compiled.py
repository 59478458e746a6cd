"""Trains a stock and a lean copy of one model side by side, both compiled, and reports differences.

The graphs are those that Inductor would generate kernels for, with its passes and its partitioner.
They are run as they are, operator by operator: to generate kernels takes minutes for each model.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch._inductor import config
from torch._inductor.compile_fx import partition_fn
from torch._inductor.decomposition import select_decomp_table

from benchmarks.lean.compare import NAMES_SHOWN, train
from benchmarks.lean.subject import Subject, session, subject
from benchmarks.zoo.models import ZooModel, room_for
from freezekit import FreezekitError

if TYPE_CHECKING:
    from torch.fx import GraphModule

Line = dict[str, Any]  # Any: JSON


def examine(job: Line) -> Line:
    """Return the line of one model and one strategy: compared, refused or failed.

    Args:
        job: The fields of a `ZooModel`, and a strategy's spec.
    """
    started = time.perf_counter()
    line = dict(job)
    try:
        of = subject(ZooModel(job["library"], job["name"], job["family"]).text)
        with room_for(sum(p.numel() for p in of.model.parameters())):
            line |= compared(of, job["strategy"])
    except FreezekitError as error:
        line |= {"status": "refused", "reason": f"{type(error).__name__}: {error}"[:500]}
    except Exception as error:  # noqa: BLE001  # whatever a library's model or torch raises
        line |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    line["seconds"] = round(time.perf_counter() - started, 2)
    gc.collect()
    return line


def compared(of: Subject, strategy: str) -> Line:
    """Train both copies, and return what differs and how many graphs there were."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    sides = [session(of, strategy, lean=lean) for lean in (False, True)]
    backend = aot_autograd(
        fw_compiler=as_it_is,
        bw_compiler=as_it_is,
        partition_fn=partition_fn,
        decompositions=select_decomp_table(),
        keep_inference_input_mutations=True,
    )
    for side in sides:
        side.model.compile(backend=backend)
    with config.patch(fallback_random=True):
        different, blind = train(*sides)
    found: Line = {
        "image_size": of.image_size,
        "status": "compared",
        "exact": not different,
        "blind": blind,
        "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
    }
    if different:
        found["differs"] = [[where, what] for where, what in sorted(different.items())]
        found["differs"] = found["differs"][:NAMES_SHOWN]
        found["differ"] = len(different)
    return found


def as_it_is(graph: GraphModule, inputs: object) -> Any:  # noqa: ARG001  # Any: torch's callable
    return make_boxed_func(graph.forward)
