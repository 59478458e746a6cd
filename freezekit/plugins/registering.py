"""The registry of the plugins that are installed."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import pluggy

from freezekit.errors import suggest
from freezekit.plugins import hookspecs
from freezekit.plugins.discovery import FoundPlugin, canonical, find_plugins, unmet_requirement
from freezekit.plugins.loading import (
    SCHEDULE,
    STRATEGY,
    Kind,
    LoadedPlugin,
    PluginRecord,
    load_plugin,
)
from freezekit.plugins.registry import (
    BLOCK_VARIABLE,
    BUILT_IN_METRICS,
    RegisteredSchedule,
    RegisteredStrategy,
    Registry,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from freezekit.plugins.metric import Metric
    from freezekit.spec.named import Named

N = TypeVar("N", bound="Named")


def load_registry(block: Iterable[str] = ()) -> Registry:
    """Find all plugins and load each on its own. A plugin that fails does not stop the others.

    Args:
        block: Names of entry points or distributions not to load. A text can hold several names,
            separated by commas. The environment variable FREEZEKIT_BLOCK adds to them.

    Example:
        >>> from freezekit import load_registry
        >>> registry = load_registry(block=["batch-norm"])
        >>> "batch-norm" in registry.strategies, "full" in registry.strategies
        (False, True)
    """
    given = ",".join([*block, os.environ.get(BLOCK_VARIABLE, "")]).split(",")
    blocked = [name.strip() for name in given if name.strip()]
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    plugins = find_plugins()
    records: list[PluginRecord] = []
    strategies: dict[str, RegisteredStrategy] = {}
    schedules: dict[str, RegisteredSchedule] = {}
    metrics: dict[str, Metric] = {}
    for found in plugins:
        is_blocked = not _names(found).isdisjoint(map(canonical, blocked))
        with redirect_stdout(sys.stderr):  # a plugin that prints must not spoil `--json`
            loaded = LoadedPlugin() if is_blocked else load_plugin(found, manager)
        taken = {name: each.plugin for name, each in strategies.items()}
        taken |= {name: each.plugin for name, each in schedules.items()}
        mine, conflicts = _free_names(STRATEGY, loaded.strategies, found, taken)
        timed, more = _free_names(SCHEDULE, loaded.schedules, found, taken, mine)
        measured, others = _free_metrics(loaded.metrics, found, metrics)
        errors = (*loaded.errors, *conflicts, *more, *others)
        if not is_blocked and (unmet := unmet_requirement(found)):
            errors = (unmet, *errors)
        record = PluginRecord(
            found.name,
            found.module,
            found.distribution,
            found.version,
            "blocked" if is_blocked else "failed" if errors else "ok",
            tuple(mine),
            tuple(timed),
            loaded.hooks,
            errors,
            tuple(measured),
        )
        records.append(record)
        metrics |= measured
        strategies.update((name, RegisteredStrategy(cls, record)) for name, cls in mine.items())
        schedules.update((name, RegisteredSchedule(cls, record)) for name, cls in timed.items())
    return Registry(
        tuple(records),
        MappingProxyType(strategies),
        MappingProxyType(schedules),
        MappingProxyType(metrics),
        _unknown_blocks(blocked, plugins),
        manager,
    )


def _free_names(
    kind: Kind,
    classes: Iterable[type[N]],
    found: FoundPlugin,
    taken: Mapping[str, PluginRecord],
    own: Iterable[str] = (),
) -> tuple[dict[str, type[N]], list[str]]:
    """Return the classes whose names are free, by name, and a sentence for each of the others.

    A strategy and a schedule cannot have the same name: a text could mean either.
    """
    own = set(own)
    free: dict[str, type[N]] = {}
    conflicts = []
    for cls in classes:
        if cls.name not in taken and cls.name not in own and cls.name not in free:
            free[cls.name] = cls
            continue
        holder = taken[cls.name].origin if cls.name in taken else found.origin
        conflicts.append(
            f"the {kind.word} name {cls.name!r} of {found.origin} is taken by {holder}, which "
            f"keeps it; rename {cls.__qualname__!r}, or name one of the two plugins in "
            f"{BLOCK_VARIABLE}"
        )
    return free, conflicts


def _free_metrics(
    given: Iterable[Metric], found: FoundPlugin, taken: Mapping[str, Metric]
) -> tuple[dict[str, Metric], list[str]]:
    """Return the metrics whose names are free, by name, and a sentence for each of the others."""
    free: dict[str, Metric] = {}
    conflicts = []
    for metric in given:
        if metric.name in taken or metric.name in free or metric.name in BUILT_IN_METRICS:
            conflicts.append(
                f"the metric name {metric.name!r} of {found.origin} is taken; rename it"
            )
        else:
            free[metric.name] = replace(metric, origin=found.origin)
    return free, conflicts


def _names(found: FoundPlugin) -> set[str]:
    return {canonical(found.name), canonical(found.distribution)}


def _unknown_blocks(blocked: Iterable[str], plugins: Iterable[FoundPlugin]) -> tuple[str, ...]:
    known = {name for found in plugins for name in _names(found)}
    return tuple(
        f"cannot block {name!r}: no plugin or distribution has that name{suggest(name, known)}"
        for name in blocked
        if canonical(name) not in known
    )


@cache
def default_registry() -> Registry:
    """Return the registry of all installed plugins. Each process loads it once."""
    return load_registry()
