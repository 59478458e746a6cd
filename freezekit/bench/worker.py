"""The measuring process: one job, events on stdout. `freezekit.bench.lifeline` starts it.

A job is JSON: {"kind": "plans" | "static" | "memory" | "timing" | "names", "workload",
"variants", "block", "threads", "schedules", "phases"}, and what the kind needs besides. In the
folder "compiled_in", if it is given, Inductor keeps what it compiles. Each event
is one JSON object on a line, the last one {"event": "end"}: without it the job was not done,
whatever the exit code. What a model prints goes to stderr.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from freezekit.bench.cache_figures import forwards_of
from freezekit.bench.compiled_memory import (
    CompiledFigures,
    compiled_figures,
    of_any_compiler,
)
from freezekit.bench.design import LEAST_SECONDS
from freezekit.bench.event_output import take_stdout
from freezekit.bench.identity import model_digest, plan_digests
from freezekit.bench.memory import measured_figures
from freezekit.bench.phase_plan import PhasePlan
from freezekit.bench.phases import phases_of
from freezekit.bench.stage_figures import staged_view
from freezekit.bench.static import (
    StaticFigures,
    frees_little,
    static_figures,
)
from freezekit.bench.timing import run_timing
from freezekit.bench.workload import describe_workload
from freezekit.errors import FreezekitError, ModelError
from freezekit.lean.native.core import core_in_use, is_to_be_built
from freezekit.model.loading import check_name
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.model.own_folder import look_in_current_folder
from freezekit.plugins.registering import load_registry
from freezekit.results.records import Workload
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from freezekit.plugins.registry import Registry

Event = dict[str, Any]  # Any: JSON


RAISED = (Exception, SystemExit)
"""What ends one row alone: a model or a plugin may raise anything, and call sys.exit()."""

Jobs = Mapping[str, Callable[[Workload, Event], Iterator[Event]]]
"""What a process can do, by the kind of the job."""


def serve(jobs: Jobs, job: Event) -> None:
    """Do a job, and write its events to stdout."""
    send = take_stdout()
    look_in_current_folder()
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    workload = Workload(**job["workload"])
    try:
        for event in jobs[job["kind"]](workload, job):
            send(event)
    except BaseException as error:  # noqa: BLE001  # the parent reports all to the user, exits too
        send({"event": "broken", **failure(error)})
    send({"event": "end"})


def _resolved(workload: Workload, job: Event) -> Generator[Event, None, Workload]:
    """Tell of the environment, the workload and the model; return the workload as resolved."""
    check_device(workload)
    yield from environment_events(workload, job)
    workload = describe_workload(workload)
    digest = model_digest(workload)
    yield {
        "event": "workload",
        "workload": msgspec.to_builtins(workload),
        "model_digest": digest,
    }
    return workload


def _plans(workload: Workload, job: Event) -> Iterator[Event]:
    registry = load_registry(job["block"])
    workload = yield from _resolved(workload, job)
    variants = variants_of(job)
    specs = dict.fromkeys(variant.spec for variant in variants)
    digests = plan_digests(workload, specs, registry)
    for variant in variants:
        yield {"event": "plan", "label": variant.label, "plan_digest": digests[variant.spec]}
    for text in job["schedules"]:
        try:
            phases = phases_of(workload, text, registry, **job["totals"])
        except RAISED as error:
            yield {"event": "refused", "schedule": text, **failure(error)}
            continue
        yield {"event": "phases", "schedule": text, "phases": phases}


def _phases(job: Event) -> dict[str, PhasePlan]:
    """Return the plans of the variants that are phases of a schedule, by their specs."""
    return {spec: PhasePlan.from_data(data) for spec, data in job["phases"].items()}


def _static(workload: Workload, job: Event) -> Iterator[Event]:
    registry = load_registry(job["block"])
    phases = _phases(job)
    workload = yield from _resolved(workload, job)
    variants = variants_of(job)
    staged, forwards = staged_view(workload, registry), forwards_of(workload)
    full: StaticFigures | None = None
    eager: dict[Variant, StaticFigures] = {}
    for variant in variants:
        try:
            what = phases.get(variant.spec, variant.spec)
            figures = eager.get(variant.eager) or static_figures(
                workload,
                what,
                registry,
                lean=variant.lean,
                cached=variant.cached,
                staged=staged,
                forwards=forwards,
            )
            eager[variant.eager] = figures
            if variant.compiled:  # what is predicted holds for an eager model
                figures = replace(figures, memory=of_any_compiler(figures.memory))
        except RAISED as error:
            yield {"event": "failed", "label": variant.label, **failure(error)}
            continue
        full = full or figures  # the baseline is the first
        found = {"event": "static", "label": variant.label, **msgspec.to_builtins(figures)}
        is_plain = not variant.cached and not variant.compiled
        wants_outlook = is_plain and Variant(variant.spec, lean=True) not in variants
        if wants_outlook and frees_little(figures, full):
            found["with_lean"] = _outlook(workload, what, registry)
        yield found


def _outlook(workload: Workload, what: str | PhasePlan, registry: Registry) -> Event | None:
    """Predict the figures of the strategy with lean; None where that is not possible."""
    try:
        memory = static_figures(workload, what, registry, lean=True).memory
    except RAISED:  # the row is valid without it
        return None
    if memory.saved_activations_bytes is None or memory.peak_bytes is None:
        return None
    return {
        "saved_activations_bytes": memory.saved_activations_bytes,
        "peak_bytes": memory.peak_bytes,
    }


def _memory(workload: Workload, job: Event) -> Iterator[Event]:
    registry = load_registry(job["block"])
    (variant,) = variants_of(job)
    try:
        if variant.compiled:
            found = compiled_figures(workload, variant, registry, folder=job.get("compiled_in"))
            yield _compiled_event(variant, found)
            return
        what = _phases(job).get(variant.spec, variant.spec)
        memory = measured_figures(
            workload, what, registry, lean=variant.lean, cached=variant.cached
        )
    except RAISED as error:
        yield {"event": "failed", "label": variant.label, **failure(error)}
        return
    yield {"event": "memory", "label": variant.label, "memory": msgspec.to_builtins(memory)}


def _compiled_event(variant: Variant, found: CompiledFigures) -> Event:
    return {
        "event": "memory",
        "label": variant.label,
        "memory": msgspec.to_builtins(found.memory),
        "compile_seconds": found.compile_seconds,
        "warnings": found.warnings,
    }


def _timing(workload: Workload, job: Event) -> Iterator[Event]:
    return run_timing(
        workload,
        {variant.label: variant for variant in variants_of(job)},
        budget_seconds=job["budget_seconds"],
        spent_seconds=job["spent_seconds"],
        least_seconds=LEAST_SECONDS,
        seed=workload.seed,
        registry=load_registry(job["block"]),
        phases=_phases(job),
        compiled_in=job.get("compiled_in"),
    )


def _names(_: Workload, job: Event) -> Iterator[Event]:
    for name in job["models"]:
        check_name(name)
    yield {"event": "known"}


def check_device(workload: Workload) -> None:
    """Raise where the workload's device is missing.

    Raises:
        ModelError: Torch sees no CUDA device.
    """
    if workload.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: torch sees no CUDA device here; use --device cpu")


def variants_of(job: Event) -> list[Variant]:
    """Return the variants of a job."""
    return [Variant(**variant) for variant in job["variants"]]


def failure(error: BaseException) -> Event:
    """Return what went wrong, as a row's status and reason, and whether the model is the cause.

    Example:
        >>> failure(SystemExit(0))["error"]
        'the code of the model or of a plugin left with sys.exit(0)'
    """
    if isinstance(error, SystemExit):
        said = f"the code of the model or of a plugin left with sys.exit({error.code!r})"
        return {"status": "error", "error": said, "model": False}
    text = str(error).strip() or type(error).__name__
    if is_out_of_memory(error):
        return {"status": "oom", "error": text.splitlines()[0], "model": False}
    if not isinstance(error, FreezekitError):
        text = f"{type(error).__name__}: {text}"
    return {"status": "error", "error": text, "model": isinstance(error, ModelError)}


def environment_events(workload: Workload, job: Event) -> Iterator[Event]:
    """Tell of the environment; where a row is lean, lean's native core is built before."""
    facts = _environment_of(workload)
    if any(variant.lean for variant in variants_of(job)):
        if is_to_be_built(workload.device):
            yield {"event": "doing", "what": "compiling the native core of lean, once"}
        facts["lean_core"] = core_in_use(workload.device, build=True)
    yield {"event": "environment", "environment": facts}


def _environment_of(workload: Workload) -> Event:
    """Return the facts of software and device that this process knows."""
    import torchvision

    cuda = torch.cuda.get_device_name() if workload.device == "cuda" else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": importlib.metadata.version("timm"),  # not imported: that takes half a second
        "platform": platform.platform(),
        "device": cuda or workload.device,
        "cuda": torch.version.cuda if cuda else None,
        "threads": torch.get_num_threads(),
    }


def main(job: Event) -> None:
    """Do a job of a bench run."""
    jobs = {
        "plans": _plans,
        "static": _static,
        "memory": _memory,
        "timing": _timing,
        "names": _names,
    }
    serve(jobs, job)
