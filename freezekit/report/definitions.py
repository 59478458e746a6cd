"""What the columns and words of a result mean; docs/reference/figures.md says it at length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.results.derived import mixed_peaks
from freezekit.results.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.results.figures import Figure
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
    concerns: Callable[[Result, Row], bool]


def definitions(result: Result) -> tuple[str, ...]:
    """Return what is meant by the words that this result's table and notes use.

    Example:
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> row = Row("full", parameters=Parameters(100, 100, "a"))
        >>> print(*definitions(Result("0.1.0", Workload("timm:resnet18"), {}, (row,))))
        trainable: The share of the parameters that train. It does not predict memory.
    """
    return tuple(
        f"{one.term}: {one.meaning}{_method(result) if one is PEAK else ''}"
        for one in DEFINITIONS
        if any(one.concerns(result, row) for row in result.rows)
    )


def _method(result: Result) -> str:
    """Say how the peaks of this result were obtained."""
    methods = {row.memory.peak_method for row in result.rows}
    if mixed_peaks(result):
        predicted = [row.label for row in result.rows if row.memory.peak_method == "predicted"]
        return (
            " Measured in a real step, workspace included; predicted (~), without workspace, for "
            f"{', '.join(predicted)}. The two are not compared."
        )
    if "predicted" in methods:
        return " Predicted under fake tensors, workspace not included."
    return " Measured in a real step, workspace included." if "measured" in methods else ""


def _of_figure(figure: Figure) -> Definition:
    assert figure.heading is not None
    short = figure.heading.short.replace("-\n", "").replace("\n", " ")
    title = figure.heading.title
    term = short if short == title else f"{short} ({title})"
    return Definition(
        term, figure.explanation, lambda result, row: figure.read(result, row) is not None
    )


PEAK = next(_of_figure(figure) for figure in FIGURES if figure.name == "peak_bytes")
DEFINITIONS = (
    *(PEAK if f.name == "peak_bytes" else _of_figure(f) for f in FIGURES if f.heading),
    Definition(
        "noise floor",
        "A second copy of `full`, the control, is timed like a row. The noise floor is how far its "
        "interval reaches from 1.",
        lambda _, row: row.time is not None,
    ),
    Definition(
        "whole run",
        "All steps of a schedule's training. Its peak is the highest of the phases; the optimizer "
        "keeps the state of what earlier phases trained. Its ratio weighs those of the phases by "
        "their shares of the steps, block by block.",
        lambda result, _: bool(result.schedules),
    ),
    Definition(
        "[lean]",
        "Frozen with lean=True: autograd keeps only what gradients need, and the gradients are the "
        "same to the last bit.",
        lambda _, row: row.lean is True,
    ),
    Definition(
        "[budget:SIZE]",
        "Lean, and backward computes again what does not fit into that memory.",
        lambda _, row: isinstance(row.lean, str),
    ),
    Definition(
        "[cache]",
        "Steps took features of a cache in place of images: the frozen prefix was computed before.",
        lambda _, row: row.cached,
    ),
    Definition(
        "[compiled]",
        "torch.compile compiled the model. Peak and saved activations are measured in real steps "
        "of it, FLOPs are those of the eager model, and no step time has the time to compile in "
        "it.",
        lambda _, row: row.compiled,
    ),
)
