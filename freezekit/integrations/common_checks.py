"""What is checked before a training, whatever the trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.version import Version

from freezekit.errors import ScheduleError, some
from freezekit.freezing.departures import look, warning
from freezekit.freezing.planning import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.handle.frozen import Frozen
    from freezekit.spec.schedule import Schedule


def check_version(package: str, installed: str, tested: tuple[str, str]) -> None:
    """Warn of a version of a trainer that was not tested.

    Args:
        package: Its name.
        installed: Its version.
        tested: From the first version on, below the second.

    Warns:
        FreezekitWarning: It is outside of that range.
    """
    first, end = tested
    if not Version(first) <= Version(installed) < Version(end):
        warn(
            [
                f"{package} {installed} is installed, and this callback was tested with versions "
                f"from {first} to below {end}"
            ],
            stacklevel=4,
        )


class Departures:
    """Tells of flags and modules that somebody else changes, before a training and during it.

    It looks when it is told to, and not at each step: that would cost time.
    """

    def __init__(self, frozen: Frozen) -> None:
        self._frozen = frozen
        self._is_told = self._has_stepped = False

    def look(self) -> None:
        """Warn of departures from the plan in force, once.

        Warns:
            FreezekitWarning: There are some, as after a conversion to SyncBatchNorm.
        """
        if self._is_told:
            return
        if departures := look(self._frozen.backbone, self._frozen.plan).departures:
            self._is_told = True
            warn([warning(departures)], stacklevel=4)

    def after_step(self) -> None:
        """Look after the first step: what a step changes, the first one changes mostly.

        Warns:
            FreezekitWarning: As `look`.
        """
        if not self._has_stepped:
            self._has_stepped = True
            self.look()


def check_sample(schedule: Schedule | None, sample: object) -> None:
    """Refuse a schedule that observes outputs for a sample which was not given.

    Raises:
        ScheduleError: It does.
    """
    if schedule is not None and "outputs" in schedule.observes and sample is None:
        raise ScheduleError(
            f"schedule {schedule.name!r} observes the outputs of stages for a fixed batch: give a "
            "few images as the model takes them, as in FreezeCallback(..., sample=images[:8])"
        )


def check_held(
    frozen: Frozen,
    optimizers: Sequence[Any],  # Any: of torch and of others
    advice: str,
) -> None:
    """Warn of trained parameters that no optimizer has.

    Args:
        frozen: The handle.
        optimizers: All that train the model.
        advice: How they are made of the right parameters.

    Warns:
        FreezekitWarning: There are some.
    """
    held = {id(p) for each in optimizers for group in each.param_groups for p in group["params"]}
    missing = [
        name
        for name, parameter in frozen.backbone.model.named_parameters()
        if parameter.requires_grad and id(parameter) not in held
    ]
    if missing:
        warn(
            [
                f"no optimizer holds {len(missing)} parameter(s) that the plan trains: "
                f"{some(missing)}. They will never move: {advice}"
            ],
            stacklevel=4,
        )
