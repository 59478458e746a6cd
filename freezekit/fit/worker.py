"""The process that predicts what fits. Its job and its events are like those of `bench.worker`."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import msgspec
import torch

from freezekit.bench.environment import available_bytes
from freezekit.bench.worker import (
    RAISED,
    Event,
    check_device,
    environment_events,
    failure,
    serve,
    variants_of,
)
from freezekit.bench.workload import describe_workload
from freezekit.fit.advice import is_to_be_advised, within_budget
from freezekit.fit.margin import default_margin
from freezekit.fit.prediction import largest_predicted, predicted_at, row_bytes
from freezekit.fit.records import limit_bytes
from freezekit.fit.search import FIRST_TRIED
from freezekit.fit.workspace_check import check_workspace
from freezekit.plugins.registering import load_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.results.records import Workload


def _fit(workload: Workload, job: Event) -> Iterator[Event]:
    check_device(workload)
    registry = load_registry(job["block"])
    yield from environment_events(workload, job)
    memory_bytes = job["memory_bytes"]
    if workload.device == "cuda" and memory_bytes is None:
        memory_bytes = torch.cuda.mem_get_info()[0]
    if memory_bytes is None:
        memory_bytes = available_bytes()
    yield {"event": "memory_bytes", "memory_bytes": memory_bytes}
    check = check_workspace() if workload.device == "cpu" else None
    margin = default_margin(workload, check) if job["margin"] is None else job["margin"]
    checked = None if check is None else msgspec.to_builtins(check)
    yield {"event": "margin", "margin": margin, "workspace_check": checked}
    asked = job["batch_size"]
    workload = describe_workload(
        msgspec.structs.replace(workload, batch_size=asked or FIRST_TRIED[0])
    )
    yield {"event": "workload", "workload": msgspec.to_builtins(workload)}
    limit = limit_bytes(memory_bytes, margin)
    gc.freeze()  # imported objects are half of what each garbage collection would traverse
    variants = variants_of(job)
    for variant in variants:
        yield {"event": "trying", "what": f"predicting {variant.label}"}
        try:
            row = row_bytes(workload, variant, registry) if variant.cached else None
            if asked:
                found = predicted_at(workload, variant, registry, asked)
            else:
                found = largest_predicted(workload, variant, registry, limit)
        except RAISED as error:
            yield {"event": "failed", "label": variant.label, **failure(error)}
            continue
        advice = None
        if (found.memory.peak_bytes or 0) > limit and is_to_be_advised(variant, variants):
            yield {"event": "trying", "what": f"predicting {variant.spec} within the memory"}
            advice = within_budget(workload, variant.spec, registry, asked or 1, limit)
        yield {
            "event": "fit",
            "label": variant.label,
            **msgspec.to_builtins(found),
            "cache_bytes_per_sample": row,
            "within_budget": msgspec.to_builtins(advice),
        }


def main(job: Event) -> None:
    """Do a job of a fit run."""
    serve({"fit": _fit}, job)
