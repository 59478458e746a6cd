"""Verification of a schedule: a copy is trained through its phases, and each claim checked."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import nn

from freezekit.backbone.view import view_of_copy
from freezekit.errors import FreezekitError, FreezekitWarning, ScheduleError, SpecError
from freezekit.freezing.planning import decide
from freezekit.model.copies import eagerly
from freezekit.model.loss import LossFunction, loss_function
from freezekit.model.nested import shapes_text
from freezekit.model.outside import caches_kept
from freezekit.model.random_state import RandomState, cuda_devices
from freezekit.model.tasks import task_of
from freezekit.schedules.asking import plan_of
from freezekit.schedules.change import put_in_force
from freezekit.schedules.rendezvous import party_of
from freezekit.spec.schedule import Schedule
from freezekit.verify.claims import check_values
from freezekit.verify.inputs import arguments_of, example_or
from freezekit.verify.isolation import copy_with, state_preserved
from freezekit.verify.live import Live, ScheduledRun
from freezekit.verify.phases import summary
from freezekit.verify.reaching import (
    STEPS,
    all_phases,
    fewest_epochs,
    phases_of,
    text_of,
)
from freezekit.verify.records import Check, ScheduleVerification, count
from freezekit.verify.through import Trained, resumed
from freezekit.verify.training import TrainingTask
from freezekit.verify.undo import undo_restores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.plugins.registry import Registry
    from freezekit.verify.reaching import Begin

STEPS_PER_EPOCH = 2


def verify_schedule(
    backbone: Backbone,
    schedule: Schedule,
    registry: Registry,
    inputs: Any = None,  # Any: whatever the model takes
    *,
    epochs: int | None = None,
    steps_per_epoch: int = STEPS_PER_EPOCH,
    loss: LossFunction | None = None,
    thaw: bool = False,
    tell: Callable[[str], object] = lambda _: None,
) -> ScheduleVerification:
    """Do what `Frozen.verify_schedule` documents, for a model that is frozen.

    Args:
        backbone: Its view.
        schedule: What the copy follows.
        registry: The strategies that its phases name.
        inputs: As in `Frozen.verify`.
        epochs: As in `Frozen.verify_schedule`.
        steps_per_epoch: As there.
        loss: As in `Frozen.verify`.
        thaw: As in `freeze_`.
        tell: Takes what is done now, in words.

    Raises:
        FreezekitError: As `Frozen.verify_schedule` documents.
    """
    model = backbone.model
    check_values(model)
    _check(schedule, epochs, steps_per_epoch)
    tell("phases")
    is_given = epochs is not None
    known = all_phases(schedule, backbone, registry, steps_per_epoch)
    if epochs is None:
        epochs = fewest_epochs(schedule, backbone, registry, steps_per_epoch, len(known))
    run = ScheduledRun(backbone, schedule, registry, epochs, steps_per_epoch, thaw)
    _check_plans(run)
    with state_preserved(model), caches_kept(model), eagerly(model):
        args, kwargs = arguments_of(model, example_or(backbone, inputs))
        if isinstance(loss, nn.Module):
            (loss,) = copy_with(loss)  # it may have parameters, which get gradients
        task = TrainingTask(args, kwargs, loss or loss_function(task_of(model)))
        begin = RandomState.now(cuda_devices(model))
        live = Live(run, task, begin)
        trained = Trained(live, run)
        trained.go(tell)
        checks = [*summary(trained.phases), live.one_optimizer()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FreezekitWarning)  # each was shown before
            checks.append(resumed(trained, tell))
        checks.append(_undo(live, run))
    phases = tuple(phase.done() for phase in trained.phases)
    not_reached = _not_reached(run, known, trained)
    return ScheduleVerification(
        tuple(checks),
        _conditions(run, len(phases), shapes_text((args, kwargs))),
        _notes(run, len(phases), is_cut_off=not is_given and bool(not_reached)),
        phases,
        not_reached,
    )


def _check(schedule: object, epochs: object, steps_per_epoch: object) -> None:
    if not isinstance(schedule, Schedule):
        raise SpecError(
            f"the schedule is {type(schedule).__name__} {schedule!r:.80}, expected text such as "
            "'head-only then full at 1ep', or a Schedule"
        )
    for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        is_whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not (is_whole or (value is None and name == "epochs")):
            raise ScheduleError(f"{name} is {value!r}, expected a whole number of at least 1")


def _check_plans(run: ScheduledRun) -> None:
    """Make the plans of all phases: one that cannot be made is told before the training."""
    where = run.backbone, run.registry
    try:
        begins = phases_of(run.schedule, *where, run.epochs, run.steps_per_epoch)
    except ScheduleError:
        if not run.schedule.observes:
            raise
        begins = ()  # it needs what only the training shows
    for begin in begins:
        plan_of(begin.given, run.backbone, begin.at, run.registry, thaw=run.thaw)
    for spec in run.schedule.plans():
        try:
            decide(run.backbone, spec, run.registry, thaw=run.thaw)
        except FreezekitError as error:
            raise type(error)(f"the phase {text_of(spec)!r}: {error}") from error


def _undo(live: Live, run: ScheduledRun) -> Check:
    """Undo the freezing of the trained copy, and of a copy that never had another plan."""
    (model,) = copy_with(run.backbone.model)
    put_in_force(view_of_copy(run.backbone, model), live.run.plan, None)
    return undo_restores(live.model, model)


def _conditions(run: ScheduledRun, phases: int, shapes: str) -> str:
    party = party_of(None, "", "")
    ranks = f" on {len(party.ranks)} ranks" if party else ""
    steps = count(run.epochs * run.steps_per_epoch, "step")
    epochs = count(run.epochs, "epoch")
    return f"{count(phases, 'phase')}, {steps} of SGD in {epochs}{ranks}, input {shapes}"


def _not_reached(run: ScheduledRun, known: Sequence[Begin], trained: Trained) -> tuple[str, ...]:
    """Return the texts of the plans that were never in force."""
    reached = {phase.plan for phase in trained.phases}
    missing = []
    for given in (*(begin.given for begin in known), *run.schedule.plans()):
        with suppress(FreezekitError):  # a plan that cannot be made was not in force
            if decide(run.backbone, given, run.registry, thaw=run.thaw) in reached:
                continue
        missing.append(text_of(given) or "a plan")
    return tuple(dict.fromkeys(missing))


def _notes(run: ScheduledRun, phases: int, *, is_cut_off: bool) -> tuple[str, ...]:
    if is_cut_off:
        return (f"at most {STEPS} steps unless epochs are given",)
    observed = " and ".join(sorted(run.schedule.observes - {"metrics"}))
    if not observed:
        return ()
    every, steps = run.schedule.observe_every, run.epochs * run.steps_per_epoch
    if every > steps:
        looks = f"the schedule looks every {every} steps, of {steps}"
        return (f"observed nothing: {looks}; give more epochs",)
    if phases == 1:
        return (f"no change of plan: the schedule observes {observed}",)
    return (f"other phases may follow: the schedule observes {observed}",)
