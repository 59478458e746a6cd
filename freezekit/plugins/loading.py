"""Load one plugin, check it, and turn each of its failures into a sentence of its record."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from freezekit.errors import PluginError, suggest
from freezekit.plugins import hookspecs
from freezekit.plugins.metric import Metric
from freezekit.spec.options import option_infos
from freezekit.spec.schedule import Schedule
from freezekit.spec.strategy import Strategy

if TYPE_CHECKING:
    import pluggy

    from freezekit.plugins.discovery import FoundPlugin
    from freezekit.spec.named import Named

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Kind:
    """A kind of class that plugins provide.

    Attributes:
        word: What it is called, such as "strategy".
        plural: The word for several.
        base: The base class.
        method: The method that each class implements.
    """

    word: str
    plural: str
    base: type[Named]
    method: str

    @property
    def hook(self) -> str:
        """The hook that returns such classes."""
        return f"freezekit_{self.plural}"


STRATEGY = Kind("strategy", "strategies", Strategy, "plan")
SCHEDULE = Kind("schedule", "schedules", Schedule, "decide")
KINDS = (STRATEGY, SCHEDULE)
METRICS = "freezekit_metrics"
_CONTENT = {**{kind.hook: f"{kind.word} classes" for kind in KINDS}, METRICS: "metrics"}
"""What a hook returns a list of."""


@dataclass(frozen=True)
class PluginRecord:
    """The result of loading one entry point.

    Attributes:
        name: The entry point's name.
        module: The module that it names, such as "package.module".
        distribution: The distribution that declares it.
        version: The version of that distribution.
        status: "ok", "blocked" (the user asked not to load it) or "failed" (`errors` says why;
            the strategies and schedules listed here can still be used).
        strategies: Names of the strategies that it adds.
        schedules: Names of the schedules that it adds.
        hooks: Names of the hooks that it implements.
        errors: One sentence for each failure.
        metrics: Names of the metrics that it adds.
    """

    name: str
    module: str
    distribution: str
    version: str
    status: Literal["ok", "failed", "blocked"]
    strategies: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Name, distribution and version of the plugin, for messages."""
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class LoadedPlugin:
    """The content of one plugin: its valid classes and metrics, its hooks, and its errors."""

    strategies: tuple[type[Strategy], ...] = ()
    schedules: tuple[type[Schedule], ...] = ()
    hooks: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()


def load_plugin(found: FoundPlugin, manager: pluggy.PluginManager) -> LoadedPlugin:
    """Import a plugin, register it with the manager, and collect its classes.

    An exception of the plugin, `SystemExit` included, becomes a text in `errors`. Only
    KeyboardInterrupt goes through. A plugin with a misspelt hook, or a hook with a wrong
    signature, is unregistered again.
    """
    if found.entry_point is None:
        return LoadedPlugin(errors=(found.problem,))
    try:
        plugin: object = found.entry_point.load()
        hash(plugin)  # the manager keeps plugins in sets
        manager.register(plugin, name=found.origin)
        hooks, errors = _check_hooks(plugin, manager)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # a plugin's failure must not stop the others
        _unregister(found, manager)
        return LoadedPlugin(errors=(failure_text(error, found.module),))
    if not hooks:
        _unregister(found, manager)
        return LoadedPlugin(errors=errors)
    found_by_hook: dict[str, list[object]] = {hook: [] for hook in _CONTENT}
    for hook, content in _CONTENT.items():
        if hook not in hooks:
            continue
        try:
            candidates = _hook_result(hook, content, plugin, manager)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # as above
            errors += (f"{hook}() failed: {failure_text(error, found.module)}",)
            continue
        for candidate in candidates:
            if problem := _problem(hook, candidate, found.module):
                errors += (problem,)
            else:
                found_by_hook[hook].append(candidate)
    # Of these types, as just checked:
    return LoadedPlugin(
        cast("tuple[type[Strategy], ...]", tuple(found_by_hook[STRATEGY.hook])),
        cast("tuple[type[Schedule], ...]", tuple(found_by_hook[SCHEDULE.hook])),
        hooks,
        errors,
        cast("tuple[Metric, ...]", tuple(found_by_hook[METRICS])),
    )


def failure_text(error: BaseException, module: str) -> str:
    """Return the type and message of an exception, and the last line of the plugin in its trace."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    text = " ".join(traceback.format_exception_only(error)[0].split())
    package = module.partition(":")[0].partition(".")[0]
    lines = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return f"{text} ({lines[-1]})" if lines else text


def _unregister(found: FoundPlugin, manager: pluggy.PluginManager) -> None:
    if manager.has_plugin(found.origin):
        manager.unregister(name=found.origin)


def _check_hooks(
    plugin: object, manager: pluggy.PluginManager
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a plugin's hooks and their errors. One unknown hook makes the tuple of hooks empty."""
    specs = [name for name in dir(hookspecs) if manager.parse_hookspec_opts(hookspecs, name)]
    callers = manager.get_hookcallers(plugin) or []
    unknown = [
        caller.name
        for caller in callers
        if not caller.has_spec()
        and not all(i.optionalhook for i in caller.get_hookimpls() if i.plugin is plugin)
    ]
    if unknown:
        known = ", ".join(specs)
        return (), tuple(
            f"unknown hook {name!r}{suggest(name, specs) or '.'} The hooks are: {known}"
            for name in unknown
        )
    hooks = tuple(sorted(caller.name for caller in callers if caller.has_spec()))
    errors = [
        f"function {name!r} lacks the decorator of a hook; put @freezekit.hookimpl above it"
        for name in specs
        if name not in hooks and callable(getattr(plugin, name, None))
    ]
    if not hooks and not errors:
        errors = [f"the plugin implements no hook; expected one or more of {', '.join(specs)}"]
    return hooks, tuple(errors)


def _hook_result(
    hook: str, content: str, plugin: object, manager: pluggy.PluginManager
) -> list[object]:
    """Return the unchecked items that a hook of one plugin returns."""
    others = [other for _, other in manager.list_name_plugin() if other is not plugin]
    answers = manager.subset_hook_caller(hook, others)()
    for answer in answers or [None]:  # pluggy drops an answer of None
        if isinstance(answer, str) or not isinstance(answer, Iterable):
            raise TypeError(f"it returned {answer!r}, expected a list of {content}")
    return [candidate for answer in answers for candidate in answer]


def _problem(hook: str, candidate: object, module: str) -> str:
    """Say why an item that a plugin returned is not valid; "" if it is."""
    if hook == METRICS:
        return _metric_problem(candidate)
    kind = next(kind for kind in KINDS if kind.hook == hook)
    try:
        if not (isinstance(candidate, type) and issubclass(candidate, kind.base)):
            return (
                f"{kind.hook}() returned {candidate!r}, which is not a subclass of "
                f"freezekit.{kind.base.__name__}"
            )
        return _class_problem(kind, candidate)
    except PluginError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # defaults and reprs are the plugin's code
        return f"a {kind.word} of the plugin cannot be read: {failure_text(error, module)}"


def _metric_problem(candidate: object) -> str:
    if not isinstance(candidate, Metric):
        return f"{METRICS}() returned {candidate!r:.80}, which is no freezekit.Metric"
    if not (isinstance(candidate.name, str) and candidate.name.isidentifier()):
        return (
            f"{METRICS}() returned a metric of the name {candidate.name!r}, expected letters, "
            "digits and underscores, as in 'top_3'"
        )
    if not callable(candidate.function):
        return f"the function of the metric {candidate.name!r} is no function"
    return ""


def _class_problem(kind: Kind, cls: type[Named]) -> str:
    whose = f"{kind.word} class {cls.__qualname__!r}"
    decorated = cls.__dict__.get("__dataclass_params__")
    if decorated is None or not decorated.frozen:
        return f"{whose} is not a frozen dataclass; put @dataclass(frozen=True) above it"
    options = {option.name for option in option_infos(cls)}
    for attribute in ("name", "summary"):
        if attribute in options:
            return f"{whose} makes {attribute!r} an option; annotate it as ClassVar[str]"
        if not (isinstance(getattr(cls, attribute, None), str) and getattr(cls, attribute)):
            return f"{whose} has no {attribute}; set its class variable {attribute!r} to a text"
    if not _NAME.fullmatch(cls.name):
        return (
            f"{whose} has the name {cls.name!r}, expected lower-case letters, digits and hyphens, "
            "as in 'first-n-stages'"
        )
    if getattr(cls, kind.method) is getattr(kind.base, kind.method):
        return f"{whose} has no method {kind.method!r}"
    return ""
