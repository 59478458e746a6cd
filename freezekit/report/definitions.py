"""What the columns and words of a result mean; docs/figures.md says the same at length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.results.figures import flops, mixed_peaks, trainable_fraction

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.results.records import Result, Row


@dataclass(frozen=True)
class Definition:
    """One word.

    Attributes:
        term: As a column's heading or a sentence has it.
        meaning: In a sentence or two.
        concerns: Whether a row makes use of it.
    """

    term: str
    meaning: str
    concerns: Callable[[Row], bool]


def definitions(result: Result) -> tuple[str, ...]:
    """Return what is meant by the words that this result's table and notes use.

    Example:
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> row = Row("full", parameters=Parameters(100, 100, "a"))
        >>> print(*definitions(Result("0.1.0", Workload("timm:resnet18"), {}, (row,))))
        trainable: the share of all parameters that train; it does not predict memory
    """
    return tuple(
        f"{one.term}: {one.meaning}{_method(result) if one is PEAK else ''}"
        for one in DEFINITIONS
        if any(one.concerns(row) for row in result.rows)
    )


def _method(result: Result) -> str:
    """Say how the peaks of this result were obtained."""
    methods = {row.memory.peak_method for row in result.rows}
    if mixed_peaks(result):
        predicted = [row.label for row in result.rows if row.memory.peak_method == "predicted"]
        return (
            f"; measured in a real step, workspace included; predicted (~), without workspace, for "
            f"{', '.join(predicted)}; the two are not compared"
        )
    if "predicted" in methods:
        return "; predicted under fake tensors, workspace not included"
    return "; measured in a real step, workspace included" if "measured" in methods else ""


def _has_peak(row: Row) -> bool:
    return row.memory.peak_bytes is not None


def _is_timed(row: Row) -> bool:
    return row.time is not None


PEAK = Definition("peak", "the most memory that one training step takes", _has_peak)
DEFINITIONS = (
    Definition(
        "trainable",
        "the share of all parameters that train; it does not predict memory",
        lambda row: trainable_fraction(row) is not None,
    ),
    PEAK,
    Definition("vs full, against full", "the change of the peak from that of `full`", _has_peak),
    Definition(
        "saved",
        "saved activations, which autograd keeps from forward to backward; parameters, buffers and "
        "inputs are not among them; counted as the peak is",
        lambda row: row.memory.saved_activations_bytes is not None,
    ),
    Definition(
        "GFLOP",
        "10^9 floating-point operations of forward and backward; counted, not timed",
        lambda row: flops(row) is not None,
    ),
    Definition("step", "the median time of one training step", _is_timed),
    Definition(
        "ratio to full",
        "the step time divided by that of `full`; both take turns, so that what slows the machine "
        "slows both; in brackets the 95 % interval",
        _is_timed,
    ),
    Definition(
        "noise floor",
        "a second copy of `full`, the control, is timed like a row; the noise floor is how far its "
        "interval reaches from 1",
        _is_timed,
    ),
    Definition(
        "verdict",
        "faster or slower where the interval excludes 1 and the ratio is beyond the noise floor; "
        "no difference shown everywhere else",
        _is_timed,
    ),
    Definition(
        "[lean]",
        "frozen with lean=True: autograd keeps only what gradients need, and the gradients are the "
        "same to the last bit",
        lambda row: row.lean,
    ),
)
