"""A whole bench run as a task of an engine: one model with all its strategies on one host.

So its ratios are of pairs of turns on that host, as ever.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import msgspec

from freezekit import errors
from freezekit.bench.environment import command
from freezekit.bench.forked import ForkServer
from freezekit.bench.run import BenchOptions, BenchRun
from freezekit.errors import FreezekitError, WorkerError
from freezekit.plugins.registering import load_registry
from freezekit.results.records import Result, Workload
from freezekit.results.store import as_data
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.bench.base_run import ProgressUpdate

JSON = Any  # Any: JSON data

FUNCTION = "freezekit.bench.task:measure"
"""How a task names `measure`."""

Asked = tuple[tuple[Result, frozenset[Variant]], ...]
"""As `BenchRun.results_asked_for` returns it."""


def argument_of(workload: Workload, options: BenchOptions) -> JSON:
    """Return the argument of `measure`, as JSON data.

    Example:
        >>> argument_of(Workload("timm:resnet18"), BenchOptions(()))["workload"]["model"]
        'timm:resnet18'
    """
    data = {"workload": workload, "options": options, "command": command()}
    return msgspec.to_builtins(data)


def measure(argument: JSON, report: Callable[[JSON], None]) -> JSON:
    """Measure a model; return what `answered` reads. The result's environment names the host.

    Args:
        argument: As `argument_of` returns it.
        report: Takes the name of each phase as it begins.
    """
    workload = msgspec.convert(argument["workload"], Workload)
    options = msgspec.convert(argument["options"], BenchOptions)
    said: list[str] = []

    def tell(now: ProgressUpdate) -> None:
        if now.phase not in said:
            said.append(now.phase)
            report(now.phase)

    with ForkServer() as server:
        registry = load_registry(options.block)
        run = BenchRun(workload, options, registry, lambda _: None, tell, server)
        where = {"host": platform.node(), "command": argument["command"]}
        run.change(env={**run.result.env, **where})
        try:
            result = run.measure()
        except FreezekitError as error:
            return {"error": str(error), "kind": type(error).__name__}
    before = list(options.earlier)
    asked = [
        [before.index(known) if known in before else None, sorted(v.label for v in variants)]
        for known, variants in run.results_asked_for()
    ]
    return {"result": as_data(result) if result.rows else None, "asked": asked}


def answered(answer: JSON, options: BenchOptions) -> tuple[Result | None, Asked]:
    """Return the result that a task answered, if anything was left to measure, and what was asked.

    Args:
        answer: What `measure` returned.
        options: As it was given.

    Raises:
        FreezekitError: The model cannot be measured at all; of the kind that was raised there.
    """
    if "error" in answer:
        kind = getattr(errors, answer["kind"], WorkerError)
        error: FreezekitError = kind(answer["error"])
        raise error
    result = None if answer["result"] is None else msgspec.convert(answer["result"], Result)
    asked: list[tuple[Result, frozenset[Variant]]] = []
    for index, labels in answer["asked"]:
        known = result if index is None else options.earlier[index]
        assert known is not None
        variants = (row.variant for row in known.rows)
        asked.append((known, frozenset(v for v in variants if v.label in labels)))
    return result, tuple(asked)
