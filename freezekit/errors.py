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
        meaning: What the code says, as docs/ci.md and `freezekit --help` print it.

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
        "a strategy, a plugin or the process of a model failed; the other rows are valid",
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
    """What a plan does is probably not what was meant; the message says why."""


class SpecError(FreezekitError):
    """A spec cannot be read, or names an option or a value that the strategy does not take."""


class UnknownStrategyError(SpecError):
    """No plugin offers a strategy of that name."""


class ModelError(FreezekitError):
    """A model is unknown, cannot be built, or does not take the input it is given."""


class StagingError(FreezekitError):
    """A model cannot be divided into stages, and a strategy needs them."""


class PlanError(FreezekitError):
    """A plan does not fit the model: unknown names, or nothing left to train."""


class FreezeError(FreezekitError):
    """A model cannot be frozen or undone in the state it is in."""


class NewPluginError(FreezekitError):
    """A new plugin cannot be written: a bad name, or files in its way."""


class PluginError(FreezekitError):
    """A plugin broke, or does not keep to the interface; the message names its distribution."""

    exit_code = ExitCode.PART_FAILED


class OutputError(FreezekitError):
    """A file cannot be written, or is not what it should be."""


class GateError(FreezekitError):
    """A gate cannot be read or judged; the message shows where."""


class SizeError(FreezekitError):
    """A size of memory cannot be read."""


class ShortageError(FreezekitError):
    """What was asked for would need more memory than there is."""


class CompareError(FreezekitError):
    """Two result files have nothing in common, or figures that are not to be compared."""


class WorkerError(FreezekitError):
    """A measuring process failed; the message says how."""

    exit_code = ExitCode.PART_FAILED


def suggest(given: str, choices: Iterable[str]) -> str:
    """Return ", did you mean 'x' or 'y'?" for the nearest choices, or "" where none is near.

    Example:
        >>> suggest("batchnorm", ["batch-norm", "full"])
        ", did you mean 'batch-norm'?"
    """
    near = difflib.get_close_matches(given, sorted(choices), n=3, cutoff=0.6)
    return f", did you mean {' or '.join(map(repr, near))}?" if near else ""


def some(names: Sequence[str]) -> str:
    """Return the first five of several names, quoted, and how many more there are.

    Example:
        >>> some(list("abcdefg"))
        "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
