"""Strategies one after the other: the schedule that a text such as "a then b at 1ep" makes.

    timeline  spec [ then spec at time ]...
    time      a number with "ep", "step" or "%", from the beginning of the training

`then` and `at` need a space on each side. Inside quotes they have no meaning. Example:
`head-only then first-n-stages:n=2 at 1ep then full at 50%`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from freezekit.errors import ScheduleError, SpecError
from freezekit.spec.schedule import Decision, Schedule
from freezekit.spec.training_time import TrainingTime

if TYPE_CHECKING:
    from freezekit.backbone.view import Backbone
    from freezekit.spec.progress import Progress

_WORDS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\s(then)(?=\s|$)|\s(at)(?=\s|$)""")
START = TrainingTime(0, "ep")


@dataclass(frozen=True)
class Timeline(Schedule):
    """Strategies one after the other, each from its time on.

    Attributes:
        phases: The time from which a spec is in force, and the spec. The first begins at 0.

    Raises:
        SpecError: There is no phase, the first begins late, or times run backwards.

    Example:
        >>> str(Timeline.parse("head-only then full at 50%"))
        'head-only then full at 50%'
    """

    name: ClassVar[str] = "timeline"
    summary: ClassVar[str] = "strategies one after the other"

    phases: tuple[tuple[TrainingTime, str], ...]

    def __post_init__(self) -> None:
        if not self.phases or self.phases[0][0].amount:
            raise SpecError("a timeline begins with a phase at 0")
        for (one, _), (other, spec) in pairwise(self.phases):
            if not other.amount or (one.unit == other.unit and other.amount <= one.amount):
                raise SpecError(_backwards(str(self), spec, other, one))

    def __str__(self) -> str:
        first, *others = self.phases
        return " then ".join([first[1], *(f"{spec} at {time}" for time, spec in others)])

    @staticmethod
    def parse(text: str) -> Timeline:
        """Read a text. The specs in it are not read.

        Raises:
            SpecError: A phase has no time or no spec, a time cannot be read, or times run
                backwards.
        """
        pieces = _split(text)
        phases = []
        for i, (spec, time) in enumerate(pieces):
            if not spec:
                raise SpecError(
                    f"cannot read the schedule {text!r}: phase {i + 1} is empty, expected a spec "
                    "as in 'head-only then full at 1ep'"
                )
            if (time is None) != (i == 0):
                expected = (
                    "begins with the training, so that it has no 'at'"
                    if i == 0
                    else f"has no time, expected one as in '{spec} at 1ep', '500step' or '50%'"
                )
                raise SpecError(f"cannot read the schedule {text!r}: phase {spec!r} {expected}")
            try:
                phases.append((START if time is None else TrainingTime.parse(time), spec))
            except ValueError as error:
                raise SpecError(f"cannot read the schedule {text!r}: {error}") from None
        return Timeline(tuple(phases))

    def plans(self) -> tuple[str, ...]:
        """Return the specs of all phases."""
        return tuple(spec for _, spec in self.phases)

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:  # noqa: ARG002  # the interface
        """Return the spec of the last phase that has begun.

        Raises:
            ScheduleError: A time needs a total that is not known, times run backwards in this
                training, or a phase begins after its end.
        """
        if progress.step == 0 and progress.epoch == 0:
            self._check(progress)
        spec = next(spec for time, spec in reversed(self.phases) if progress.has_reached(time))
        return _decision(spec)

    def _check(self, progress: Progress) -> None:
        """Check the times against the totals of the training, as far as these are known."""
        if progress.steps_per_epoch is None and all(
            time.unit == "step" for time, _ in self.phases[1:]
        ):
            return  # all in one unit: their order was checked
        begins = [(progress.in_epochs(time), time, spec) for time, spec in self.phases]
        for (before, one, _), (after, other, spec) in pairwise(begins):
            if after <= before:
                raise ScheduleError(_backwards(str(self), spec, other, one))
        last, time, spec = begins[-1]
        if progress.epochs is not None and last >= progress.epochs:
            steps = progress.steps_per_epoch
            raise ScheduleError(
                f"phase {spec!r} begins at {time}, but the training ends after "
                f"{progress.epochs:.4g} epoch(s){f' of {steps} step(s)' if steps else ''}; give it "
                "an earlier time, or leave it out"
            )


def _backwards(text: str, spec: str, time: TrainingTime, before: TrainingTime) -> str:
    return (
        f"in the schedule {text!r}, phase {spec!r} begins at {time}, which is not after {before}, "
        "when the phase before it begins; put the phases in the order of time"
    )


def _split(text: str) -> list[tuple[str, str | None]]:
    """Split at the words `then` and `at` that are not in quotes, into specs and times."""
    pieces: list[tuple[str, str | None]] = []
    start, place = 0, None
    for word in [*_WORDS.finditer(text), None]:
        if word is not None and word.group(2):
            place = word if place is None else place
        elif word is None or word.group(1):
            end = len(text) if word is None else word.start()
            stop = end if place is None else place.start()
            time = None if place is None else text[place.end() : end]
            pieces.append((text[start:stop].strip(), time))
            start, place = (end if word is None else word.end()), None
    return pieces


@cache
def _decision(spec: str) -> Decision:
    """Return one decision for each spec: a live training does nothing where it is the same."""
    return Decision(spec)
