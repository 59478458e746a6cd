"""What a user gave, a spec or a schedule, and the plan with which a schedule begins."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from freezekit.errors import (
    FreezeError,
    ScheduleError,
    SpecError,
    UnknownScheduleError,
    UnknownStrategyError,
)
from freezekit.freezing.plan import FreezePlan
from freezekit.freezing.planning import view
from freezekit.handle.freeze import freeze_
from freezekit.plugins.registry import unknown_name
from freezekit.schedules.asking import ask, plan_of
from freezekit.spec.grammar import parse
from freezekit.spec.progress import Progress
from freezekit.spec.schedule import Schedule
from freezekit.spec.strategy import Strategy
from freezekit.spec.timeline import Timeline

if TYPE_CHECKING:
    from torch import nn

    from freezekit.backbone.view import Backbone
    from freezekit.handle.frozen import Frozen
    from freezekit.plugins.registry import Registry
    from freezekit.results.lean_text import LeanChoice

LONG = 10**6
"""Stands for epochs of a training or steps of an epoch that are not known yet."""


def schedule_or_spec(
    given: str | Strategy | FreezePlan | Schedule, registry: Registry
) -> str | Strategy | FreezePlan | Schedule:
    """Return the schedule of a text, or what was given where it is no schedule.

    Raises:
        SpecError: The text cannot be read or names what no plugin provides, or it is no text.

    Example:
        >>> from freezekit import load_registry
        >>> registry = load_registry()
        >>> schedule_or_spec("head-only", registry), schedule_or_spec("lp-ft", registry).name
        ('head-only', 'lp-ft')
    """
    if not isinstance(given, str):
        if isinstance(given, (Strategy, FreezePlan, Schedule)):
            return given
        raise SpecError(
            f"what to freeze is {type(given).__name__} {given!r:.80}, expected text such as "
            "'first-n-stages:n=2' or 'head-only then full at 3ep', a Strategy, a FreezePlan or a "
            "Schedule"
        )
    try:
        schedule = registry.schedule(given)
    except UnknownScheduleError:  # of the first name
        name = parse(given)[0].name
        raise UnknownStrategyError(unknown_name(registry, name)) from None
    is_spec = isinstance(schedule, Timeline) and len(schedule.phases) == 1
    return given if is_spec else schedule


def undo_earlier(earlier: Frozen, model: nn.Module) -> None:
    """Undo what a callback froze in an earlier training, where it is in the model of this one.

    Another model stays frozen, as it was trained: one callback may serve several folds.

    Example:
        >>> from freezekit import load_backbone
        >>> one, other = (load_backbone("torchvision:resnet18", device="meta") for _ in range(2))
        >>> frozen = freeze_(one, "head-only")
        >>> undo_earlier(frozen, other)
        >>> frozen
        Frozen(ResNet: 60 of 62 parameters frozen, 65 modules held in eval)
        >>> undo_earlier(frozen, one)
        >>> frozen
        Frozen(ResNet: no longer in force)
    """
    its = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) in its for parameter in earlier.backbone.model.parameters()):
        with suppress(FreezeError):  # the model was frozen again since
            earlier.undo()


def freeze_at_first(
    model: nn.Module,
    given: str | Strategy | FreezePlan | Schedule,
    registry: Registry,
    *,
    epochs: int | None = None,
    lean: LeanChoice = False,
    thaw: bool = False,
    example_input: Any = None,  # Any: whatever the model takes
) -> Frozen:
    """Freeze a model as a training begins: by a spec, or by the first plan of a schedule.

    Args:
        model: The model.
        given: As `schedule_or_spec` returns it.
        registry: The strategies that phases can name.
        epochs: As in `first_plan`.
        lean: As in `freeze_`.
        thaw: As in `freeze_`.
        example_input: As in `freeze_`.

    Example:
        >>> from freezekit import load_backbone, load_registry
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> registry = load_registry()
        >>> freeze_at_first(model, schedule_or_spec("lp-ft", registry), registry)
        Frozen(ResNet: 60 of 62 parameters frozen, 65 modules held in eval)
    """
    if isinstance(given, Schedule):
        given = first_plan(given, view(model, example_input, registry), epochs, registry)
    return freeze_(
        model, given, lean=lean, thaw=thaw, example_input=example_input, registry=registry
    )


def first_plan(
    schedule: Schedule, backbone: Backbone, epochs: int | None, registry: Registry
) -> FreezePlan:
    """Return the plan with which a schedule begins, before the data are there.

    A schedule may need the steps of an epoch to check its times. The first plan hardly depends on
    them: the first length counts with which the schedule answers. `follow` asks again, with the
    true one.

    Args:
        schedule: The schedule.
        backbone: The view of the model.
        epochs: Of the training, where they are known.
        registry: The strategies that its phases can name.

    Raises:
        ScheduleError: It answers with none.

    Example:
        >>> from freezekit import Backbone, load_backbone, load_registry
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> registry = load_registry()
        >>> schedule = registry.schedule("head-only then full at 50%")
        >>> len(first_plan(schedule, view, 3, registry).frozen)
        60
    """
    known = epochs if epochs is not None and epochs > 0 else LONG
    for begin in (
        Progress(epochs=known),
        Progress(epochs=known, steps_per_epoch=LONG),
        Progress(epochs=LONG, steps_per_epoch=1),
    ):
        try:
            decision = ask(schedule, backbone, begin, registry)
        except ScheduleError as error:
            refused = error
        else:
            return plan_of(decision.plan or "full", backbone, begin, registry)
    raise refused
