"""Load one plugin, and say all that is wrong with it; nothing that it does gets out of here."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from freezekit.errors import PluginError, suggest
from freezekit.plugins import hookspecs
from freezekit.spec.options import option_infos
from freezekit.spec.strategy import Strategy

if TYPE_CHECKING:
    import pluggy

    from freezekit.plugins.discovery import FoundPlugin

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class PluginRecord:
    """What became of one entry point.

    Attributes:
        name: The entry point's name.
        module: What it points at, such as "package.module".
        distribution: The distribution that declares it.
        version: That distribution's version.
        status: "ok", "blocked" (not loaded, as asked) or "failed" (`errors` says what is wrong;
            strategies that are listed all the same can be used).
        strategies: Names of the strategies that it adds.
        hooks: Names of the hooks that it implements.
        errors: What went wrong, one sentence each.
    """

    name: str
    module: str
    distribution: str
    version: str
    status: Literal["ok", "failed", "blocked"]
    strategies: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The plugin in words, for messages."""
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class LoadedPlugin:
    """What a plugin brought: strategy classes that are in order, its hooks, and its errors."""

    classes: tuple[type[Strategy], ...] = ()
    hooks: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def load_plugin(found: FoundPlugin, manager: pluggy.PluginManager) -> LoadedPlugin:
    """Import a plugin, register it with the manager, and collect its strategies.

    What it raises, `SystemExit` included, becomes text in `errors`; only KeyboardInterrupt gets
    through. A plugin with a hook that is misspelt or has a wrong signature is not left
    registered.
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
    except BaseException as error:  # noqa: BLE001  # contained, whatever a plugin does
        _forget(found, manager)
        return LoadedPlugin(errors=(failure_text(error, found.module),))
    if not hooks:
        _forget(found, manager)
        return LoadedPlugin(errors=errors)
    if "freezekit_strategies" not in hooks:
        return LoadedPlugin((), hooks, errors)
    try:
        offers = _offers(plugin, manager)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # as above
        text = f"freezekit_strategies() failed: {failure_text(error, found.module)}"
        return LoadedPlugin((), hooks, (*errors, text))
    classes = []
    for offer in offers:
        problem = _problem(offer, found.module)
        if problem:
            errors += (problem,)
        elif isinstance(offer, type) and issubclass(offer, Strategy):
            classes.append(offer)
    return LoadedPlugin(tuple(classes), hooks, errors)


def failure_text(error: BaseException, module: str) -> str:
    """Return type and message of an exception, and the last line in the plugin that led to it."""
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


def _forget(found: FoundPlugin, manager: pluggy.PluginManager) -> None:
    if manager.has_plugin(found.origin):
        manager.unregister(name=found.origin)


def _check_hooks(
    plugin: object, manager: pluggy.PluginManager
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a plugin's hooks and what is wrong with them; no hooks where one is unknown."""
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
        f"function {name!r} is no hook without its decorator; put @freezekit.hookimpl above it"
        for name in specs
        if name not in hooks and callable(getattr(plugin, name, None))
    ]
    if not hooks and not errors:
        errors = [f"implements no hook; expected one or more of {', '.join(specs)}"]
    return hooks, tuple(errors)


def _offers(plugin: object, manager: pluggy.PluginManager) -> list[object]:
    """Return what one plugin's `freezekit_strategies` offers, unchecked."""
    others = [other for _, other in manager.list_name_plugin() if other is not plugin]
    answers = manager.subset_hook_caller("freezekit_strategies", others)()
    for answer in answers or [None]:  # the manager drops None
        if isinstance(answer, str) or not isinstance(answer, Iterable):
            raise TypeError(f"it returned {answer!r}, expected a list of strategy classes")
    return [offer for answer in answers for offer in answer]


def _problem(offer: object, module: str) -> str:
    """Say what is wrong with something that is offered as a strategy; "" if nothing is."""
    try:
        if not (isinstance(offer, type) and issubclass(offer, Strategy)):
            return f"offers {offer!r}, which is not a subclass of freezekit.Strategy"
        return _class_problem(offer)
    except PluginError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # defaults and reprs are the plugin's code
        return f"a strategy that it offers cannot be read: {failure_text(error, module)}"


def _class_problem(cls: type[Strategy]) -> str:
    whose = f"strategy class {cls.__qualname__!r}"
    decorated = cls.__dict__.get("__dataclass_params__")
    if decorated is None or not decorated.frozen:
        return f"{whose} is not a frozen dataclass; put @dataclass(frozen=True) above it"
    options = {option.name for option in option_infos(cls)}
    for attribute in ("name", "summary"):
        if attribute in options:
            return f"{whose} makes {attribute!r} an option; annotate it as ClassVar[str]"
        if not (isinstance(getattr(cls, attribute, None), str) and getattr(cls, attribute)):
            return f"{whose} has no {attribute}; set the class variable {attribute!r} to a text"
    if not _NAME.fullmatch(cls.name):
        return (
            f"{whose} has the name {cls.name!r}, expected lower-case letters, digits and hyphens, "
            "as in 'first-n-stages'"
        )
    if cls.plan is Strategy.plan:
        return f"{whose} has no method 'plan'"
    return ""
