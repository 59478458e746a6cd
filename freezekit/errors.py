"""Every exception that freezekit raises on purpose, and the exit codes of its commands.

All derive from `FreezekitError`, so one `except` catches them. The command line shows them as one
line and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
from enum import IntEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class ExitCode(IntEnum):
    """The exit codes of all commands. Scripts and CI can rely on them.

    Attributes:
        meaning: What the code says, as docs/guides/ci.md and `freezekit --help` print it.

    Example:
        >>> ExitCode.USAGE == 2, ExitCode.USAGE.meaning
        (True, 'wrong usage, or a file cannot be read or written')
    """

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make the member of this code."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "all done, and all checks passed"
    CHECK_FAILED = (
        1,
        "a check failed: a --fail-if condition holds, `verify` found a fault, a real step of "
        "`fit --verify` did not fit, or `plugins --strict` found a failed plugin",
    )
    USAGE = 2, "wrong usage, or a file cannot be read or written"
    INCONCLUSIVE = (
        3,
        "a --fail-if condition cannot be judged: the run is too noisy, or a figure was not "
        "measured",
    )
    PART_FAILED = (
        4,
        "a strategy, a plugin or the process of a model failed, or the budget of a sweep ended "
        "before all was trained; the other rows are valid",
    )
    INTERRUPTED = (
        130,
        "interrupted; what was measured is kept, `bench --resume` continues, and no --fail-if "
        "condition was judged",
    )
    READER_GONE = 141, "the program that read the output has ended, as `head` does"


class FreezekitError(Exception):
    """Base of all errors raised on purpose.

    Example:
        >>> issubclass(SpecError, FreezekitError)
        True
    """

    exit_code = ExitCode.USAGE


class FreezekitWarning(UserWarning):
    """A plan probably does not do what its author meant; the message says why."""


class SpecError(FreezekitError):
    """A spec cannot be read, or gives an option or a value that the strategy does not accept."""


class UnknownStrategyError(SpecError):
    """No plugin provides a strategy of that name."""


class UnknownScheduleError(SpecError):
    """No plugin provides a schedule of that name."""


class ScheduleError(FreezekitError):
    """A schedule cannot be followed: a total is not known, or a state belongs to another one."""


class ModelError(FreezekitError):
    """A model is unknown, cannot be built, or does not accept its input."""


class StagingError(FreezekitError):
    """A strategy needs stages, and the model cannot be divided into stages."""


class PlanError(FreezekitError):
    """A plan does not fit the model: it names unknown parameters, or leaves nothing to train."""


class FreezeError(FreezekitError):
    """A model cannot be frozen or undone in its present state."""


class CacheError(FreezekitError):
    """The frozen prefix cannot be cached, or a cache does not fit."""


class CompilationError(FreezekitError):
    """`torch.compile` does not work on this machine, or not with this model."""


class DataError(FreezekitError):
    """A folder of images cannot be read, or has images that cannot."""


class TrainingError(FreezekitError):
    """A training cannot be begun or resumed: its settings, its metric or its checkpoint."""


class EngineError(FreezekitError):
    """An engine is not installed, cannot be reached, or refuses a task."""


class NewPluginError(FreezekitError):
    """A new plugin cannot be written: its name is not valid, or a file of that name exists."""


class PluginError(FreezekitError):
    """A plugin failed or breaks the interface; the message names its distribution."""

    exit_code = ExitCode.PART_FAILED


class OutputError(FreezekitError):
    """A file cannot be written, or does not hold what it should."""


class GateError(FreezekitError):
    """A gate cannot be read or judged; the message marks the place."""


class SizeError(FreezekitError):
    """A size of memory cannot be read."""


class InsufficientMemoryError(FreezekitError):
    """The request needs more memory than the device has."""


class CompareError(FreezekitError):
    """Two result files share no workload, or hold figures that cannot be compared."""


class WorkerError(FreezekitError):
    """A measuring process failed; the message says why."""

    exit_code = ExitCode.PART_FAILED


def suggest(given: str, choices: Iterable[str]) -> str:
    """Return ", did you mean 'x' or 'y'?" for the nearest choices, or "" where none is near.

    The question ends its sentence. Text after it begins a new one: `suggest(...) or "."`.

    Example:
        >>> suggest("batchnorm", ["batch-norm", "full"])
        ", did you mean 'batch-norm'?"
    """
    near = list(map(repr, difflib.get_close_matches(given, sorted(choices), n=3, cutoff=0.6)))
    listed = " or ".join([", ".join(near[:-1]), near[-1]] if len(near) > 1 else near)
    return f", did you mean {listed}?" if near else ""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "seed"), counted(2, "seed")
        ('1 seed', '2 seeds')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    """Return the first five names in quotes, and the number of the others.

    Example:
        >>> some(list("abcdefg"))
        "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
