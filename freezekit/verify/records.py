"""The result of a verification, as data and as text."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass

SHOWN = 5
"""Offenders that the text lists for each check; `Check.offenders` has all of them."""

_WIDTH = 80
_MARGIN = 30  # column at which the sentences start: after the longest name of a check


@dataclass(frozen=True)
class Check:
    """One claim, and whether it held.

    Attributes:
        name: A stable name, such as "frozen-weights".
        passed: Whether the claim held.
        detail: What was found, in words.
        offenders: Dotted names of the parameters, buffers or modules for which it did not hold.

    Example:
        >>> Check("frozen-weights", True, "2 frozen parameters kept every bit").passed
        True
    """

    name: str
    passed: bool
    detail: str
    offenders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """All checks of one verification; `str()` gives a report of 80 columns.

    Attributes:
        checks: One record for each claim.
        conditions: How the copy was trained, in words: steps, optimizer, shape of the input.
        notes: What else to know, in words: where the model has departed from its plan.

    Example:
        >>> weights = Check("frozen-weights", False, "1 of 2 changed", ("conv1.weight",))
        >>> print(Verification((weights,), "3 steps of SGD"))
        FAIL  frozen-weights          1 of 2 changed
                conv1.weight
        <BLANKLINE>
        1 of 1 check failed on 3 steps of SGD
    """

    checks: tuple[Check, ...]
    conditions: str
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """One line: "proved on ...", or how many checks failed."""
        if self.passed:
            return f"proved on {self.conditions}"
        failed, count = sum(not check.passed for check in self.checks), len(self.checks)
        return f"{failed} of {count} check{'s' * (count > 1)} failed on {self.conditions}"

    def __str__(self) -> str:
        lines = [line for check in self.checks for line in _check_lines(check)]
        said = [
            line for text in (*self.notes, self.summary) for line in textwrap.wrap(text, _WIDTH)
        ]
        return "\n".join([*lines, "", *said])

    def to_json(self) -> str:
        """Return the checks as one JSON object.

        Example:
            >>> Verification((), "3 steps of SGD").to_json()
            '{"passed": true, "conditions": "3 steps of SGD", "checks": [], "notes": []}'
        """
        checks = [asdict(check) for check in self.checks]
        result = {"passed": self.passed, "conditions": self.conditions, "checks": checks}
        return json.dumps(result | {"notes": self.notes})


@dataclass(frozen=True)
class VerifiedPhase:
    """A phase of a schedule that was trained through.

    Attributes:
        spec: The text of its plan; if there is none, why the schedule began the phase.
        begins_step: Optimizer steps done before it.
        begins_epoch: The same in epochs.
        steps: Optimizer steps of the phase.
        trained_parameters: How many parameters it trains.
        frozen_parameters: How many it keeps frozen.
        checks: What was checked in this phase.
    """

    spec: str
    begins_step: int
    begins_epoch: float
    steps: int
    trained_parameters: int
    frozen_parameters: int
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class ScheduleVerification(Verification):
    """All checks of a verified schedule. Each of `checks` is about all phases.

    Attributes:
        phases: The phases that were trained through, in their order.
        not_reached: The specs of phases that the training was too short for.
    """

    phases: tuple[VerifiedPhase, ...] = ()
    not_reached: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = ["phase  begins  steps    trained  plan"]
        for i, phase in enumerate(self.phases, start=1):
            share = f"{phase.trained_parameters} of "
            share += f"{phase.trained_parameters + phase.frozen_parameters}"
            begins = f"{phase.begins_epoch:.4g}ep"
            start = f"{i:>5}  {begins:>6}  {phase.steps:>5}  {share:>9}  "
            lines += _wrapped(phase.spec or "a plan", start, breaks=True)
        lines += ["", *(line for check in self.checks for line in _check_lines(check)), ""]
        if self.not_reached:
            said = ", ".join(self.not_reached)
            lines += textwrap.wrap(f"not reached: {said}; more epochs reach more phases", _WIDTH)
        for note in self.notes:
            lines += textwrap.wrap(note, _WIDTH)
        return "\n".join([*lines, *textwrap.wrap(self.summary, _WIDTH)])

    def to_json(self) -> str:
        """Return the checks and phases as one JSON object."""
        phases = [asdict(phase) for phase in self.phases]
        result = json.loads(super().to_json())
        result |= {"phases": phases, "not_reached": self.not_reached}
        return json.dumps(result)


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    Example:
        >>> count(1, "step"), count(2, "step")
        ('1 step', '2 steps')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_lines(check: Check) -> list[str]:
    start = f"{'ok' if check.passed else 'FAIL':<6}{check.name:<{_MARGIN - 6}}"
    lines = _wrapped(check.detail, start)
    lines += [f"        {name}" for name in check.offenders[:SHOWN]]
    if len(check.offenders) > SHOWN:
        lines.append(f"        and {len(check.offenders) - SHOWN} more")
    return lines


def _wrapped(text: str, start: str, *, breaks: bool = False) -> list[str]:
    """Return lines of 80 columns that go on below the end of the start."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=breaks,
        break_on_hyphens=False,
    )
