"""All plugins, their strategies and schedules by name, and those that a text makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast, get_args

from freezekit.errors import (
    FreezekitError,
    PluginError,
    SpecError,
    StagingError,
    UnknownScheduleError,
    UnknownStrategyError,
    suggest,
)
from freezekit.model.records import Stage, StageKind
from freezekit.plugins.loading import (
    SCHEDULE,
    STRATEGY,
    Kind,
    PluginRecord,
    failure_text,
)
from freezekit.plugins.read_only import read_only
from freezekit.spec.grammar import BAR_HINT, Part, build, parse
from freezekit.spec.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pluggy
    from torch import nn

    from freezekit.plugins.metric import Metric
    from freezekit.spec.named import Named
    from freezekit.spec.schedule import Schedule
    from freezekit.spec.strategy import Strategy

BLOCK_VARIABLE = "FREEZEKIT_BLOCK"

BUILT_IN_METRICS = ("accuracy", "balanced_accuracy", "loss")
"""Those of each training; `freezekit.training.metrics` computes them."""

N = TypeVar("N", bound="Named")


@dataclass(frozen=True)
class RegisteredStrategy:
    """A strategy class and the plugin that provides it."""

    cls: type[Strategy]
    plugin: PluginRecord


@dataclass(frozen=True)
class RegisteredSchedule:
    """A schedule class and the plugin that provides it."""

    cls: type[Schedule]
    plugin: PluginRecord


@dataclass(frozen=True, eq=False)
class Registry:
    """The installed plugins, and the strategies and schedules that they provide.

    `load_registry` makes one. `plan` and `freeze_` take one as `registry`; by default they use all
    installed plugins.

    Attributes:
        plugins: One record per entry point. The built-in plugins come first.
        strategies: The strategies by name, in the order of their plugins.
        schedules: The schedules by name, in the order of their plugins.
        metrics: The metrics by name, in the order of their plugins.
        notes: Other facts for the user, such as an unknown name to block.

    Example:
        >>> from freezekit import load_registry
        >>> registry = load_registry()
        >>> "full" in registry.strategies
        True
        >>> registry.create("first-n-stages:n=2")
        (FirstNStages(n=2),)
    """

    plugins: tuple[PluginRecord, ...]
    strategies: Mapping[str, RegisteredStrategy]
    schedules: Mapping[str, RegisteredSchedule]
    metrics: Mapping[str, Metric]
    notes: tuple[str, ...]
    _manager: pluggy.PluginManager = field(repr=False)

    def create(self, spec: str) -> tuple[Strategy, ...]:
        """Make the strategies of a spec, in the order of the spec, however they are joined.

        Raises:
            UnknownStrategyError: The spec names a strategy that no plugin provides.
            SpecError: The text cannot be read, or an option is wrong.
            PluginError: The class of a strategy failed while it read its options.
        """
        return tuple(strategy for strategies in self.sums(spec) for strategy in strategies)

    def sums(self, spec: str) -> tuple[tuple[Strategy, ...], ...]:
        """Make the strategies of a spec: the sums that `|` unites, in the order of the spec.

        Raises:
            UnknownStrategyError: The spec names a strategy that no plugin provides.
            SpecError: The text cannot be read, or an option is wrong.
            PluginError: The class of a strategy failed while it read its options.

        Example:
            >>> from freezekit import load_registry
            >>> load_registry().sums("full + head-only | first-n-stages:n=1")
            ((Full(), HeadOnly()), (FirstNStages(n=1),))
        """
        sums: list[list[Strategy]] = []
        has_options = False
        for part in parse(spec):
            if part.unites or not sums:
                sums.append([])
            try:
                sums[-1].append(self._make(part.name, part.options))
            except UnknownStrategyError as error:
                if part.unites and has_options:  # it may be meant as an item of an option
                    raise UnknownStrategyError(f"{error}{BAR_HINT}") from None
                raise
            has_options = bool(part.options)
        return tuple(map(tuple, sums))

    def schedule(self, text: str) -> Schedule:
        """Make the schedule of a text: a schedule's name with options, or specs in turn.

        The specs are read too, so that a misspelt one is told at once.

        Raises:
            UnknownScheduleError: The text names neither a schedule nor strategies.
            UnknownStrategyError: A phase names a strategy that no plugin provides.
            SpecError: The text cannot be read, or an option is wrong.
            PluginError: The class of a schedule failed while it read its options.

        Example:
            >>> from freezekit import load_registry
            >>> str(load_registry().schedule("head-only then full at 1ep"))
            'head-only then full at 1ep'
        """
        timeline = Timeline.parse(text)
        for _, spec in timeline.phases:
            parts = parse(spec)
            named = [part for part in parts if part.name in self.schedules]
            if len(timeline.phases) == len(parts) == len(named) == 1:
                return self._make_schedule(named[0])
            if named:
                raise SpecError(
                    f"{named[0].name!r} in {text!r} is a schedule, and a phase is made of "
                    "strategies; give the schedule alone"
                )
            if len(timeline.phases) == 1 and parts[0].name not in self.strategies:
                raise UnknownScheduleError(self._unknown_schedule(parts[0].name))
            self.sums(spec)
        return timeline

    def find(self, name: str) -> RegisteredStrategy:
        """Return the strategy class of a name, and its plugin.

        Raises:
            UnknownStrategyError: No plugin provides it. The message lists near names, all names,
                and the plugins that failed or are blocked: one of these may provide it.
        """
        if name in self.strategies:
            return self.strategies[name]
        hint = ""
        if name in self.schedules:
            hint = f". {name!r} is a schedule; give it with --schedule, or to Frozen.follow()"
        text = _unknown(STRATEGY.word, STRATEGY.plural, name, self.strategies, self.plugins)
        raise UnknownStrategyError(text + hint)

    def find_schedule(self, name: str) -> RegisteredSchedule:
        """Return the schedule class of a name, and its plugin.

        Raises:
            UnknownScheduleError: No plugin provides it. The message is as that of `find`.
        """
        if name in self.schedules:
            return self.schedules[name]
        raise UnknownScheduleError(self._unknown_schedule(name))

    def _unknown_schedule(self, name: str) -> str:
        text = _unknown(SCHEDULE.word, SCHEDULE.plural, name, self.schedules, self.plugins)
        near = suggest(name, self.strategies)
        if near and not suggest(name, self.schedules):
            text += f". There are strategies of a similar name{near}"
        return text

    def stages(self, model: nn.Module) -> Sequence[Stage] | None:
        """Ask the plugins for the stages of a model; pluggy asks the last registered plugin first.

        Returns:
            The first answer that is not None. None if no plugin knows the model.

        Raises:
            PluginError: The hook of a plugin failed, changed the model, or returned stages that do
                not divide it.
            FreezekitError: A plugin refused the model on purpose.
        """
        plugins = [plugin for _, plugin in self._manager.list_name_plugin()]
        for impl in reversed(self._manager.hook.freezekit_stages.get_hookimpls()):
            others = [plugin for plugin in plugins if plugin is not impl.plugin]
            ask = self._manager.subset_hook_caller("freezekit_stages", others)
            try:
                with read_only(model, f"{impl.plugin_name} in freezekit_stages()"):
                    answer: Sequence[Stage] | None = ask(model=model)
            except (FreezekitError, KeyboardInterrupt):
                raise
            except BaseException as error:
                module = getattr(impl.function, "__module__", "")
                raise PluginError(
                    f"{impl.plugin_name} failed in freezekit_stages() for a "
                    f"{type(model).__name__}: {failure_text(error, module)}; to go on without the "
                    f"plugin, name it in {BLOCK_VARIABLE}"
                ) from error
            if answer is not None:
                return _checked_stages(answer, model, impl.plugin_name)
        return None

    def plugin_of(self, named: Strategy | Schedule) -> PluginRecord:
        """Return the plugin that provides the class of a strategy or a schedule.

        Raises:
            UnknownStrategyError: No plugin does.
        """
        for registered in self._registered():
            if registered.cls is type(named):
                return registered.plugin
        raise UnknownStrategyError(f"no plugin provides the class {type(named).__qualname__!r}")

    def origin(self, named: Strategy | Schedule) -> str:
        """Return the plugin of an object in words, or its class and module if it has no plugin."""
        try:
            return self.plugin_of(named).origin
        except UnknownStrategyError:
            return f"class {type(named).__qualname__!r} of {type(named).__module__}"

    def _registered(self) -> Iterator[RegisteredStrategy | RegisteredSchedule]:
        yield from self.strategies.values()
        yield from self.schedules.values()

    def _make(self, name: str, options: tuple[tuple[str, str], ...]) -> Strategy:
        registered = self.find(name)
        return _built(STRATEGY, registered.cls, options, registered.plugin)

    def _make_schedule(self, part: Part) -> Schedule:
        registered = self.find_schedule(part.name)
        return _built(SCHEDULE, registered.cls, part.options, registered.plugin)


def unknown_name(registry: Registry, name: str) -> str:
    """Return the message about a name that is neither that of a strategy nor of a schedule.

    Example:
        >>> from freezekit import load_registry
        >>> print(unknown_name(load_registry(), "hed-only"))
        unknown strategy or schedule 'hed-only', did you mean 'head-only'? The known ...
    """
    names = [*registry.strategies, *registry.schedules]
    word, plural = "strategy or schedule", "strategies and schedules"
    return _unknown(word, plural, name, names, registry.plugins)


def _unknown(
    word: str, plural: str, name: str, names: Iterable[str], plugins: Iterable[PluginRecord]
) -> str:
    near = suggest(name, names) or "."
    known = ", ".join(sorted(names)) or "none; install freezekit with pip"
    text = f"unknown {word} {name!r}{near} The known {plural} are: {known}"
    statuses = [(plugin.status, plugin.origin) for plugin in plugins]
    for status, words in (("failed", "failed to load"), ("blocked", "are blocked")):
        origins = [origin for its, origin in statuses if its == status]
        if origins:
            text += f". These plugins {words} and may provide it: {', '.join(origins)}"
    if any(status == "failed" for status, _ in statuses):
        text += ". Run 'freezekit plugins' to see why"
    return text


def _built(
    kind: Kind, cls: type[N], options: tuple[tuple[str, str], ...], plugin: PluginRecord
) -> N:
    """Make an object from its options. A failure is reported as the fault of its plugin."""
    try:
        return build(cls, options)
    except (FreezekitError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(
            f"{kind.word} {cls.name!r} ({plugin.origin}) failed while it read its options: "
            f"{failure_text(error, cls.__module__)}"
        ) from error


def _checked_stages(answer: object, model: nn.Module, origin: str) -> tuple[Stage, ...]:
    """Return the answer of a hook if its stages divide the model; else raise PluginError."""
    from freezekit.backbone.view import Backbone

    stages = tuple(answer) if isinstance(answer, (list, tuple)) else (answer,)
    for stage in stages:
        names = [stage.parameters, stage.buffers, stage.modules] if isinstance(stage, Stage) else []
        texts = [name for group in names if isinstance(group, (list, tuple)) for name in group]
        if (
            not isinstance(stage, Stage)
            or stage.kind not in get_args(StageKind)
            or not all(isinstance(group, (list, tuple)) for group in names)
            or not all(isinstance(text, str) for text in (stage.name, *texts))
        ):
            raise PluginError(
                f"{origin} answered freezekit_stages() with {stage!r}, expected a sequence of "
                "freezekit.Stage of kind 'stem', 'body', 'neck' or 'head', with tuples of names; "
                f"to go on without the plugin, name it in {BLOCK_VARIABLE}"
            )
    try:
        return Backbone(model, stager=lambda _: cast("tuple[Stage, ...]", stages)).stages
    except StagingError as error:
        raise PluginError(
            f"{origin} answered freezekit_stages() with stages that do not fit: {error}; to go on "
            f"without the plugin, name it in {BLOCK_VARIABLE}"
        ) from error
