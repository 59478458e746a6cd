"""Bytes, seconds and fractions as a reader wants them: the only place of MiB, ms and %.

A figure that was not obtained reads "-".
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.results.figures import Unit, Value
    from freezekit.results.records import Verdict

MISSING = "-"
_TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def mib(count: int | None) -> str:
    """Return bytes in MiB, without the unit.

    Example:
        >>> mib(56_623_104), mib(1_050), mib(0), mib(None)
        ('54.0', '<0.01', '0', '-')
    """
    return MISSING if count is None else number(count / 2**20)


def gflop(count: int | None) -> str:
    """Return floating-point operations in GFLOP, without the unit.

    Example:
        >>> gflop(34_090_000_000)
        '34.1'
    """
    return MISSING if count is None else number(count / 1e9)


def milliseconds(seconds: float | None) -> str:
    """Return seconds in ms, without the unit.

    Example:
        >>> milliseconds(0.2123), milliseconds(1.5)
        ('212.3', '1500')
    """
    return MISSING if seconds is None else number(seconds * 1e3)


def number(value: float) -> str:
    """Return a figure of three to four digits.

    Example:
        >>> number(12345.6), number(123.45), number(1.234), number(0.05)
        ('12346', '123.5', '1.23', '0.05')
    """
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    if abs(value) < 0.01:
        return "<0.01"
    if abs(value) >= 999.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def share(fraction: float | None) -> str:
    """Return a fraction in %; what is not all or nothing never reads 100% or 0%.

    Example:
        >>> share(0.941), share(0.9996), share(1.0), share(0.0004), share(1e-9)
        ('94.1%', '99.96%', '100%', '0.04%', '<0.001%')
    """
    if fraction is None or not math.isfinite(fraction):
        return MISSING
    if fraction in (0.0, 1.0):
        return f"{fraction:.0%}"
    for digits in (1, 2, 3):
        text = f"{fraction:.{digits}%}"
        if float(text[:-1]) not in (0.0, 100.0):
            return text
    return "<0.001%" if fraction < 0.5 else ">99.999%"


def band(floor: float) -> str:
    """Return the ratios between which a noise floor, a ratio less 1, lets no difference be claimed.

    Example:
        >>> band(0.026), band(0.684)
        ('0.975 and 1.026', '0.594 and 1.684')
    """
    return f"{1 / (1 + floor):.3f} and {1 + floor:.3f}"


def change(fraction: float | None) -> str:
    """Return a change in %, with its sign.

    Example:
        >>> change(-0.652), change(0.034), change(-0.0001), change(0.0)
        ('-65%', '+3.4%', '0.0%', '0%')
    """
    if fraction is None or not math.isfinite(fraction):
        return MISSING
    if fraction == 0:
        return "0%"
    if abs(fraction) < 0.0005:
        return "0.0%"
    return f"{fraction:+.0%}" if abs(fraction) >= 0.0995 else f"{fraction:+.1%}"


def ratio(
    value: float | None, ci: tuple[float, float] | None, verdict: Verdict | None = None
) -> str:
    """Return a ratio of step times with its 95 % interval.

    A third digit appears where two would let the interval of a verdict touch 1.

    Example:
        >>> ratio(0.713, (0.691, 0.729)), ratio(1.0, (1.0, 1.0), "baseline")
        ('0.71 [0.69, 0.73]', '1')
        >>> ratio(0.99, (0.984, 0.997), "faster"), ratio(0.5, None)
        ('0.990 [0.984, 0.997]', '0.50')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if verdict == "baseline":
        return "1"
    if ci is None:
        return f"{value:.2f}"
    touches = any(f"{figure:.2f}" == "1.00" for figure in (value, *ci))
    digits = 3 if touches and verdict in ("faster", "slower") else 2
    return f"{value:.{digits}f} [{ci[0]:.{digits}f}, {ci[1]:.{digits}f}]"


def plain(text: str) -> str:
    r"""Return text from elsewhere without colour codes and control characters, newlines kept.

    Example:
        >>> plain("\x1b[31mRuntimeError\x1b[0m:\tno\r\nmemory\x07")
        'RuntimeError: no\nmemory'
    """
    text = _TERMINAL_CODES.sub("", text).replace("\t", " ")
    return _CONTROL.sub("", text)


LABELS: dict[Unit, str] = {"bytes": "MiB", "operations": "GFLOP", "seconds": "ms"}
"""What stands in the heading of a column whose cells are without their unit."""

_TEXTS: dict[Unit, Callable[[Any], str]] = {  # Any: a value of that unit
    "bytes": mib,
    "operations": gflop,
    "seconds": milliseconds,
    "share": share,
    "change": change,
    "ratio": "{:.3f}".format,
    "count": number,
    "text": str,
    "truth": lambda value: str(value).lower(),
}


def figure(value: Value | None, unit: Unit) -> str:
    """Return a figure as a reader wants it, without the unit's label.

    Example:
        >>> figure(2**20, "bytes"), figure(0.25, "share"), figure(None, "seconds")
        ('1.00', '25.0%', '-')
    """
    return MISSING if value is None else _TEXTS[unit](value)
