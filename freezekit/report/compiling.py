"""What `torch.compile` costs and gains, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.formatting import number, ratio
from freezekit.results.derived import eager_of

if TYPE_CHECKING:
    from freezekit.results.records import Result, Row


def compiled_pairs(result: Result) -> list[tuple[Row, Row]]:
    """Return each compiled row with the eager row of the same strategy."""
    return [(row, eager) for row in result.rows if (eager := eager_of(result, row))]


def compiling_in_short(result: Result) -> str | None:
    """Return a sentence on all rows that were compiled, None where there are none.

    Example:
        >>> from freezekit.results.records import Compilation, Result, Row, Workload
        >>> rows = [Row(name, compiled=True, compilation=Compilation(seconds, ratio))
        ...         for name, seconds, ratio in (("full", 41.2, 0.9), ("head-only", 22.0, 0.8))]
        >>> print(compiling_in_short(Result("0.1.0", Workload("timm:resnet18"), {}, tuple(rows))))
        to compile took 22.0 to 41.2 s a row; compiled steps take 0.80 to 0.90 of the time of eager
        ones
    """
    known = [row.compilation for row in result.rows if row.compilation]
    if not known:
        return None
    took = _ends([number(seconds) for seconds in sorted(one.compile_seconds for one in known)])
    text = f"to compile took {took} s{' a row' if len(known) > 1 else ''}"
    ratios = sorted(one.ratio_to_eager for one in known if one.ratio_to_eager is not None)
    if not ratios:
        return text
    of_eager = _ends([ratio(one, None) for one in ratios])
    return f"{text}; compiled steps take {of_eager} of the time of eager ones"


def _ends(texts: list[str]) -> str:
    """Return the first and the last text, once where they are the same."""
    return " to ".join(dict.fromkeys((texts[0], texts[-1])))
