"""Times in a training: a number of epochs, of optimizer steps, or a share of the run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TEXT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ep|step|%)")


Unit = Literal["ep", "step", "%"]


@dataclass(frozen=True)
class TrainingTime:
    """A time in a training, or a length of time.

    Attributes:
        amount: Epochs, steps or percent; not negative.
        unit: "ep" (epochs), "step" (optimizer steps) or "%" (of the whole run).

    Raises:
        ValueError: The amount is negative or not finite, above 100 %, or a fraction of a step.

    Example:
        >>> str(TrainingTime(1.5, "ep")), str(TrainingTime(50, "%"))
        ('1.5ep', '50%')
        >>> TrainingTime.parse("500step")
        TrainingTime(amount=500.0, unit='step')
    """

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", float(self.amount))
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise ValueError(f"a time is {self.amount}{self.unit}, expected 0 or more")
        if self.unit == "step" and self.amount % 1:
            raise ValueError(f"a time is {self}, expected a whole number of steps")
        if self.unit == "%" and self.amount > 100:
            raise ValueError(f"a time is {self}, expected at most 100%")

    def __str__(self) -> str:
        amount = format(Decimal(repr(self.amount)), "f")  # without exponent, which is no time
        return f"{amount.removesuffix('.0')}{self.unit}"

    @staticmethod
    def parse(text: str) -> TrainingTime:
        """Read "1ep", "500step" or "50%".

        Raises:
            ValueError: The text is no time.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                f"{text.strip()!r} is no time, expected one as '1ep', '500step', '50%'"
            )
        return TrainingTime(float(found.group(1)), cast("Unit", found.group(2)))  # as it matched


def times_in(values: Iterable[object]) -> Iterator[TrainingTime]:
    """Yield the times among options, also those in tuples.

    Example:
        >>> [str(time) for time in times_in((3, TrainingTime(1, "ep"), (TrainingTime(5, "%"),)))]
        ['1ep', '5%']
    """
    for value in values:
        if isinstance(value, TrainingTime):
            yield value
        elif isinstance(value, tuple):
            yield from times_in(value)
