"""What is checked before a training, whatever the trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.version import Version

from freezekit.errors import some
from freezekit.freezing.departures import look, warning
from freezekit.freezing.planning import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.handle.frozen import Frozen


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


def check_departures(frozen: Frozen) -> None:
    """Warn of flags and modules that were changed between freezing and the start of the training.

    Warns:
        FreezekitWarning: There are some, as after a conversion to SyncBatchNorm.
    """
    if departures := look(frozen.backbone, frozen.plan).departures:
        warn([warning(departures)], stacklevel=4)


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
