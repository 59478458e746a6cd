"""A training that goes on from a checkpoint, and what its trainer leaves out of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import ScheduleError
from freezekit.freezing.planning import warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.schedules.followed import FollowedSchedule


def warn_of_anew(step: int, state: object, advice: str) -> None:
    """Warn where a training goes on and its schedule begins anew.

    Args:
        step: Steps that were made before.
        state: Of the schedule, or None.
        advice: How a state is loaded.

    Warns:
        FreezekitWarning: Steps were made before, and no state of the schedule was loaded.
    """
    if state is None and step:
        warn(
            [
                f"the training goes on at step {step}, and the schedule begins anew: no state of "
                f"it was loaded; {advice}"
            ],
            stacklevel=4,
        )


def warn_of_another_plan(callback: object) -> None:
    """Warn where a checkpoint was written under another plan, without a schedule.

    Warns:
        FreezekitWarning: Always.
    """
    warn(
        [f"the checkpoint was written under another plan than that of {callback}, which counts"],
        stacklevel=4,
    )


def end_missed_epoch(
    run: FollowedSchedule, epoch: int, metrics: Mapping[str, float], trainer: str
) -> bool:
    """End the epoch of a checkpoint that was written after its last batch.

    Trainers count that epoch as ended, and call no hook for it. Without such an epoch this does
    nothing, and returns False.

    Args:
        run: The schedule, with the state of the checkpoint.
        epoch: The epochs that have ended, as the trainer counts them.
        metrics: What the checkpoint knows of the epoch.
        trainer: Its name.

    Raises:
        ScheduleError: The schedule needs metrics of it that nobody knows.
    """
    if run.progress.epoch >= epoch:
        return False
    try:
        run.epoch(metrics)
    except ScheduleError as error:
        raise ScheduleError(
            f"the checkpoint was written after the last batch of epoch {epoch}, and before its "
            f"validation, which {trainer} leaves out when it resumes: {error}. Resume from a "
            "checkpoint of another step, or of the end of a validation or of an epoch"
        ) from error
    return True
