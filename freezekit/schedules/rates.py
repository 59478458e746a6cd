"""Multipliers of learning rates, changed in an optimizer and in what schedules its rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.freezing.parameter_groups import MULTIPLIER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.optim import Optimizer

GROUP_RATES = "lr", "initial_lr", "max_lr", "min_lr", "base_lr", "swa_lr"
"""Keys of a group under which torch's and timm's schedulers keep absolute rates."""
SCHEDULER_RATES = "base_lrs", "max_lrs", "min_lrs", "base_values", "restore_lr", "_last_lr"
"""Lists of a scheduler with one absolute rate for each group; `base_values` and `restore_lr` are
timm's."""
SCHEDULED = "initial_lr"
"""The key that each scheduler of torch and timm puts into all groups."""


def multiplier(group: Mapping[str, Any]) -> float:  # Any: torch's own record
    """Return by what the learning rate of a group is multiplied.

    Groups that the user made have no such key: their rates were not multiplied.
    """
    return float(group.get(MULTIPLIER, 1.0))


def set_multipliers(
    optimizer: Optimizer,
    schedulers: Sequence[Any],  # Any: torch's, timm's and others have no common class
    wanted: Mapping[int, float],
) -> None:
    """Scale all absolute rates of groups, so that they are multiplied by what is wanted.

    Rates that grow or fall by a factor, and rates that are computed from a base rate, are both
    scaled. So a scheduler goes on as if the multiplier had been there from its beginning. Its
    common floor, such as `eta_min`, is not scaled.

    Args:
        optimizer: Its groups are changed in place.
        schedulers: All that set its rates.
        wanted: The new multiplier by the index of a group. Other groups stay.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        >>> set_multipliers(optimizer, [cosine], {0: 0.5})
        >>> optimizer.param_groups[0]["lr"], cosine.base_lrs
        (0.05, [0.05])
    """
    ratios = {}
    for index, value in wanted.items():
        group = optimizer.param_groups[index]
        if (before := multiplier(group)) == value:
            continue
        ratios[index] = value / before
        group[MULTIPLIER] = value
        for key in GROUP_RATES:
            if _is_rate(group.get(key)):
                group[key] = group[key] * ratios[index]
    if not ratios:
        return
    count = len(optimizer.param_groups)
    for scheduler in with_inner(schedulers):
        for name in SCHEDULER_RATES:
            rates = getattr(scheduler, name, None)
            if isinstance(rates, list) and len(rates) == count:
                for index, ratio in ratios.items():
                    rates[index] = rates[index] * ratio
        _rescale_timm_warmup(scheduler)


def with_inner(schedulers: Sequence[Any]) -> Iterator[Any]:  # Any: as above
    """Yield schedulers with those inside them, each once."""
    seen: set[int] = set()
    waiting = list(schedulers)
    while waiting:
        scheduler = waiting.pop()
        if id(scheduler) in seen:
            continue
        seen.add(id(scheduler))
        waiting += getattr(scheduler, "_schedulers", ())
        for name in ("scheduler", "lr_scheduler"):  # Accelerate's, and of timm's plateau
            if (wrapped := getattr(scheduler, name, None)) is not None:
                waiting.append(wrapped)
        yield scheduler


def _rescale_timm_warmup(scheduler: Any) -> None:  # Any: timm has no types
    """Timm's warm-up adds a step of its own for each group, made from the base rate."""
    steps, start = getattr(scheduler, "warmup_steps", None), getattr(scheduler, "warmup_lr_init", 0)
    length = getattr(scheduler, "warmup_t", 0)
    if isinstance(steps, list) and length:
        scheduler.warmup_steps = [(rate - start) / length for rate in scheduler.base_values]


def _is_rate(value: object) -> bool:
    return value is not None and not isinstance(value, (list, tuple, str))
