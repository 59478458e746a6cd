"""The hooks that a plugin can implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from freezekit.model.records import Stage
    from freezekit.plugins.metric import Metric
    from freezekit.spec.schedule import Schedule
    from freezekit.spec.strategy import Strategy

GROUP = "freezekit"
"""The entry-point group, and pluggy's project name."""

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker(GROUP)
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker(GROUP)


@hookspec
def freezekit_strategies() -> Iterable[type[Strategy]]:  # type: ignore[empty-body]  # a hookspec
    """Return the strategy classes that this plugin provides.

    Example:
        >>> from freezekit import hookimpl
        >>> @hookimpl
        ... def freezekit_strategies():
        ...     return []
    """


@hookspec
def freezekit_schedules() -> Iterable[type[Schedule]]:  # type: ignore[empty-body]  # a hookspec
    """Return the schedule classes that this plugin provides.

    Example:
        >>> from freezekit import hookimpl
        >>> @hookimpl
        ... def freezekit_schedules():
        ...     return []
    """


@hookspec
def freezekit_metrics() -> Iterable[Metric]:  # type: ignore[empty-body]  # a hookspec
    """Return the metrics that this plugin provides; each training reports them.

    Example:
        >>> from freezekit import Metric, hookimpl
        >>> def top_3(logits, labels):
        ...     return (logits.topk(3).indices == labels[:, None]).any(1).float().mean()
        >>> @hookimpl
        ... def freezekit_metrics():
        ...     return [Metric("top_3", top_3)]
    """


@hookspec(firstresult=True)
def freezekit_stages(model: nn.Module) -> Sequence[Stage] | None:
    """Return the stages of a model that this plugin knows, else None.

    The answer replaces the stages that freezekit would derive itself. Together the stages must
    name each parameter and each stateful buffer exactly once.

    Example:
        >>> from freezekit import Stage, hookimpl
        >>> @hookimpl
        ... def freezekit_stages(model):
        ...     if type(model).__name__ != "MyNet":
        ...         return None
        ...     stem = Stage("stem", "stem", parameters=("conv.weight",))
        ...     return [stem, Stage("head", "head", parameters=("fc.weight",))]
    """
