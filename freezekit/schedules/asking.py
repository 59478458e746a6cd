"""Ask a schedule for its decision, and check the answer. A live training asks in every step."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from freezekit.errors import FreezekitError, PluginError, suggest
from freezekit.freezing.plan import FreezePlan
from freezekit.freezing.planning import decide
from freezekit.plugins.read_only import answer_of, plugin_failure
from freezekit.spec.schedule import Decision
from freezekit.spec.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.backbone.view import Backbone
    from freezekit.plugins.registry import Registry
    from freezekit.spec.progress import Data, Progress
    from freezekit.spec.schedule import Schedule

NOTHING = Decision()


def ask(
    schedule: Schedule,
    backbone: Backbone,
    progress: Progress,
    registry: Registry,
    last: Decision | None = None,
) -> Decision:
    """Return the decision of a schedule, checked.

    The flags and modes of the model are guarded without `last`, and at each end of an epoch. To
    look at all of them in each step would take longer than the decision.

    Args:
        schedule: The schedule.
        backbone: What it decides about.
        progress: How far the training has come.
        registry: Where its plugin is looked up for messages.
        last: The decision before this one, with this backbone. What is the same object in both is
            not checked again.

    Raises:
        PluginError: The schedule failed, changed the model, or gave an answer that is not valid.
        FreezekitError: The schedule refused on purpose, as with ScheduleError.

    Example:
        >>> from freezekit import Backbone, Progress, load_backbone, load_registry
        >>> backbone = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> registry = load_registry()
        >>> schedule = registry.schedule("head-only then full at 1ep")
        >>> ask(schedule, backbone, Progress(step=9, epoch=1), registry).plan
        'full'
    """
    if last is None or progress.step_in_epoch == 0:
        whose = _whose(schedule, registry)
        answer = answer_of(
            lambda: schedule.decide(backbone, progress), backbone.model, whose, "decide"
        )
    else:
        try:
            answer = schedule.decide(backbone, progress)
        except (FreezekitError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise plugin_failure(_whose(schedule, registry), error) from error
    if last is not None and answer is last:
        return last
    problem = (
        _problem(answer, backbone, last or NOTHING)
        if isinstance(answer, Decision)
        else f"{type(answer).__name__!r}, expected a Decision"
    )
    if problem:
        raise PluginError(f"{_whose(schedule, registry)} returned {problem}")
    return answer


def plan_of(
    given: str | Strategy | FreezePlan,
    backbone: Backbone,
    progress: Progress,
    registry: Registry,
    *,
    thaw: bool = False,
) -> FreezePlan:
    """Return the plan of a phase; an error says which phase it is.

    Args:
        given: The `plan` of a decision.
        backbone: What the plan is for.
        progress: When the phase begins.
        registry: The strategies that a spec can name.
        thaw: As in `freezekit.plan`.

    Raises:
        FreezekitError: As `freezekit.plan` raises it, such as PlanError.
    """
    try:
        return decide(backbone, given, registry, thaw=thaw)
    except FreezekitError as error:
        what = "a plan" if isinstance(given, FreezePlan) else f"{_text(given)!r}"
        raise type(error)(
            f"the phase that begins after {progress.step} step(s) and {progress.epoch} epoch(s), "
            f"with {what}: {error}"
        ) from error


def _text(given: str | Strategy) -> str:
    return given if isinstance(given, str) else given.name


def _whose(schedule: Schedule, registry: Registry) -> str:
    return f"schedule {schedule.name!r} ({registry.origin(schedule)})"


def _problem(answer: Decision, backbone: Backbone, last: Decision) -> str:
    """Say what is wrong with a decision, "" if nothing."""
    plan, rates, state = answer.plan, answer.rates, answer.state
    if plan is not last.plan and not (
        plan is None or isinstance(plan, (str, Strategy, FreezePlan))
    ):
        return (
            f"a plan of type {type(plan).__name__!r}, expected a spec, a Strategy or a FreezePlan"
        )
    if rates is not last.rates and rates is not None and not _are_rates(rates, backbone):
        return _wrong_rate(rates, backbone)
    if state is not last.state and state is not None and not _is_data(state):
        return (
            f"the state {state!r}, which JSON does not hold as it is; expected a dict with texts "
            "as keys, of None, bool, int, finite float, str, lists and dicts"
        )
    return ""


def _are_rates(rates: Mapping[str, float], backbone: Backbone) -> bool:
    try:
        names = {stage.name for stage in backbone.stages}
        return rates.keys() <= names and all(0 < rate < math.inf for rate in rates.values())
    except (AttributeError, TypeError):
        return False


def _wrong_rate(rates: object, backbone: Backbone) -> str:
    """Say which rate is wrong, and why."""
    try:
        given = dict(rates)  # type: ignore[call-overload]  # an answer that was found to be wrong
    except (TypeError, ValueError):
        return f"rates of type {type(rates).__name__!r}, expected factors by the names of stages"
    names = [stage.name for stage in backbone.stages]
    unknown = [name for name in given if name not in names]
    if unknown:
        near = suggest(str(unknown[0]), names) or "."
        return (
            f"a rate for {unknown[0]!r}, which is no stage of {type(backbone.model).__name__}"
            f"{near} The stages are: {', '.join(names)}"
        )
    name, rate = next((n, r) for n, r in given.items() if not _is_rate(r))
    return (
        f"the rate {rate!r} for {name!r}, expected a finite number above 0; to keep a stage fixed, "
        "freeze it"
    )


def _is_rate(rate: object) -> bool:
    try:
        return bool(0 < rate < math.inf)  # type: ignore[operator]  # that is the question
    except TypeError:
        return False


def _is_data(state: Mapping[str, Data]) -> bool:
    """Return whether a state is the same after it went through JSON."""
    try:
        text = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(state, dict) and bool(json.loads(text) == state)
