"""Whether the learning rates of an optimizer are in the ratios of a plan's multipliers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isclose
from numbers import Real
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

_RELATIVE_TOLERANCE = 1e-3
"""A learning rate typed by hand is rounded."""


@dataclass(frozen=True)
class IgnoredMultipliers:
    """The parameters whose learning rate is not the plan's multiplier times the base rate.

    Attributes:
        names: Their names.
        uniform: The one learning rate of all parameters, where the optimizer has only one.
    """

    names: tuple[str, ...]
    uniform: float | None

    def __str__(self) -> str:
        if self.uniform is not None:
            what = f"ignored, as all parameters have the learning rate {self.uniform:g}"
        else:
            what = "not what their learning rates follow"
        return (
            f"the plan's learning-rate multipliers of {len(self.names)} are {what}: make the "
            "optimizer of param_groups(lr=...), and give a scheduler one rate for each group"
        )


def ignored_multipliers(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    scales: Mapping[str, float],
) -> IgnoredMultipliers | None:
    """Return the trained parameters whose multiplier is ignored, None if all are followed.

    Only ratios are compared, because the base rate is the user's choice. A scheduler may end all
    rates at one minimum, or start them at zero. It keeps what each group began with as
    "initial_lr"; it is enough that these follow the multipliers.

    Args:
        optimizer: Holds the parameters.
        parameters: The trained parameters, by name. Those that the optimizer does not hold are
            left out, and so are those whose rate is no number.
        scales: The multipliers by name; 1 where a name is missing.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> import torch
        >>> one_rate = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> ignored_multipliers(one_rate, dict(net.named_parameters()), {"0.weight": 0.5}).names
        ('0.weight',)
    """
    found = None
    for key in ("lr", "initial_lr"):
        rates = _rates(optimizer, parameters, key)
        if rates is None:
            continue
        off = _off(rates, {name: scales.get(name, 1.0) for name in rates})
        if off is None:
            return None
        found = found or off
    return found


def _rates(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], key: str
) -> dict[str, float] | None:
    """Return the rates by name; None if a group that holds one of the parameters has none."""
    by_parameter = {id(p): g.get(key) for g in optimizer.param_groups for p in g["params"]}
    rates = {}
    for name, parameter in parameters.items():
        if id(parameter) in by_parameter:
            rate = by_parameter[id(parameter)]
            if isinstance(rate, bool) or not isinstance(rate, Real | Tensor):
                return None
            rates[name] = float(rate)
    return rates


def _off(rates: Mapping[str, float], scales: Mapping[str, float]) -> IgnoredMultipliers | None:
    if not any(rates.values()):
        return None  # a warm-up starts at zero, which tells nothing
    if len(set(scales.values())) < 2:
        return None  # one multiplier for all: no ratio to follow
    if len(set(rates.values())) == 1:
        top = max(scales.values())
        names = tuple(name for name, scale in scales.items() if scale != top)
        return IgnoredMultipliers(names, next(iter(rates.values())))
    bases = {name: rate / scales[name] for name, rate in rates.items()}
    # Rounded, so that 0.1 * 0.3 / 0.3 counts as 0.1.
    most, _ = Counter(float(f"{base:.4g}") for base in bases.values()).most_common(1)[0]
    names = tuple(
        name for name, base in bases.items() if not isclose(base, most, rel_tol=_RELATIVE_TOLERANCE)
    )
    return IgnoredMultipliers(names, None) if names else None
