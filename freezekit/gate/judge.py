"""Gates applied to results: which rows fail, which pass, and which this run leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.errors import GateError, suggest
from freezekit.gate.language import parse
from freezekit.gate.scene import Scene
from freezekit.gate.tree import Figure, Node, texts_beside, walk
from freezekit.gate.values import UNITS
from freezekit.results.records import VERDICTS
from freezekit.results.variant import BASELINE, Variant

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from freezekit.gate.evaluation import Outcome
    from freezekit.gate.tree import Unit
    from freezekit.results.records import Result, Row

OF_CACHED_ROWS = (
    "time.ratio_to_uncached",
    "time.fill_seconds_per_1000_samples",
    "time.pays_after_epochs",
)
"""Figures that only cached rows have."""
OF_COMPILED_ROWS = ("time.ratio_to_eager", "time.compile_seconds")
"""Figures that only compiled rows have."""


@dataclass(frozen=True)
class Gate:
    """A condition that fails a run, read from its text."""

    text: str
    condition: Node

    @classmethod
    def read(cls, text: str, units: Mapping[str, Unit] = UNITS) -> Gate:
        """Return the gate of a text.

        Args:
            text: The condition.
            units: What each figure counts, by its name: those of a bench, or of a sweep.

        Raises:
            GateError: The text cannot be read; the message shows where.

        Example:
            >>> Gate.read("time.ratio_ci.high > 1.05").text
            'time.ratio_ci.high > 1.05'
        """
        return cls(text, parse(text, units))

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure that it names, from left to right."""
        return tuple(part for part in walk(self.condition) if isinstance(part, Figure))

    @property
    def names_baseline(self) -> bool:
        """Whether it compares with an earlier result."""
        return any(figure.of == "baseline" for figure in self.figures)

    @property
    def names_stock(self) -> bool:
        """Whether it compares lean rows with stock ones; it then concerns lean rows only."""
        return any(
            figure.of == "stock" or figure.name.startswith("time.ratio_to_stock")
            for figure in self.figures
        )

    @property
    def names_cache(self) -> bool:
        """Whether it judges what a cache takes and saves; it then concerns cached rows only."""
        return any(figure.name.startswith(OF_CACHED_ROWS) for figure in self.figures)

    @property
    def names_compiler(self) -> bool:
        """Whether it judges what `torch.compile` does; it then concerns compiled rows only."""
        return any(figure.name.startswith(OF_COMPILED_ROWS) for figure in self.figures)

    @property
    def names_time(self) -> bool:
        """Whether it needs step times."""
        return any(figure.name.startswith("time.") for figure in self.figures)


@dataclass(frozen=True)
class Judgement:
    """What one gate says about one row; `reason` holds the figures.

    Attributes:
        result: That of the row; None for one of a sweep, whose label is enough.
    """

    gate: Gate
    result: Result | None
    label: str
    outcome: Outcome
    reason: str


def judge(
    gates: Sequence[Gate],
    result: Result,
    earlier: Mapping[str, tuple[Result, Row]] | None = None,
    variants: Collection[Variant] | None = None,
) -> tuple[Judgement, ...]:
    """Judge every row except stock `full`, because the other rows are compared with it.

    A gate that names `baseline` judges stock `full` too. A gate that names `stock` judges lean rows
    only, one that names what a cache takes cached rows only, and one that names what compilation
    takes compiled rows only. A row with an error is not judged: it has failed the run already.

    Args:
        gates: The conditions under which a row fails.
        result: The result whose rows are judged.
        earlier: Rows of an earlier run of the same workload, with their result, by label.
        variants: The rows to judge; None for all.

    Example:
        >>> from freezekit.results.records import Memory, Row, Workload, Result
        >>> rows = (Row("full", memory=Memory(100)), Row("head-only", memory=Memory(70)))
        >>> result = Result("0.1.0", Workload("timm:resnet18"), {}, rows)
        >>> (found,) = judge([Gate.read("peak_bytes > full * 0.6")], result)
        >>> found.label, found.outcome
        ('head-only', 'failed')
    """
    return tuple(
        _judge_row(gate, result, row, earlier or {})
        for gate in gates
        for row in result.rows
        if (variants is None or row.variant in variants)
        and row.status == "ok"
        and _concerns(gate, row.variant)
    )


def _concerns(gate: Gate, variant: Variant) -> bool:
    if gate.names_stock and not variant.lean:
        return False
    if gate.names_cache and not variant.cached:
        return False
    if gate.names_compiler and not variant.compiled:
        return False
    return variant != BASELINE or gate.names_baseline


def _judge_row(
    gate: Gate, result: Result, row: Row, earlier: Mapping[str, tuple[Result, Row]]
) -> Judgement:
    scene = Scene(result, row, earlier)
    open_yet = "the interval and the noise floor of this run allow both"
    outcome, reason = scene.outcome(gate.condition, open_yet)
    return Judgement(gate, result, row.label, outcome, reason)


def check_gates(
    gates: Sequence[Gate],
    variants: Collection[Variant],
    *,
    schedules: Collection[Variant] = (),
    has_baseline: bool = True,
    static_only: bool = False,
    resumes: bool = False,
) -> None:
    """Raise if a gate cannot be judged, whatever is measured.

    Args:
        gates: The gates.
        variants: All rows of the run, judged or only compared with, but for those of phases.
        schedules: Which rows their phases have is not known yet: "TEXT @ TIME" may be one.
        has_baseline: Whether there is an earlier result to compare with.
        static_only: Whether step times are left out.
        resumes: Whether the result may hold more rows, from an earlier run.

    Raises:
        GateError: A gate names a strategy that no row has, an unknown verdict, a baseline that is
            not given, or step times that are not measured; or it concerns no row, such as `stock`
            if no row is lean.

    Example:
        >>> check_gates([Gate.read("time.ratio > 1")], [BASELINE], static_only=True)
        Traceback (most recent call last):
        ...
        freezekit.errors.GateError: the gate 'time.ratio > 1' needs step times, ...
    """
    variants = (*variants, *(Variant(f"{one.spec} @ 0ep", one.lean) for one in schedules))
    strategies = tuple(dict.fromkeys(variant.spec for variant in variants))
    begins = tuple(f"{schedule.spec} @ " for schedule in schedules)
    for gate in gates:
        if gate.names_baseline and not has_baseline:
            raise GateError(
                f"the gate {gate.text!r} names a baseline; give the earlier result: "
                "--baseline FILE.json"
            )
        if gate.names_time and static_only:
            raise GateError(f"the gate {gate.text!r} needs step times, which --static leaves out")
        for name in texts_beside(gate.condition, "strategy"):
            if name not in strategies and not name.startswith(begins):
                raise GateError(
                    f"the gate {gate.text!r} names the strategy {name!r}, and no row has that "
                    f"name; there are {', '.join(map(repr, strategies))}"
                    f"{suggest(name, strategies)}"
                )
        for name in texts_beside(gate.condition, "verdict"):
            if name not in VERDICTS:
                raise GateError(
                    f"the gate {gate.text!r} names the verdict {name!r}; expected one of "
                    f"{', '.join(map(repr, VERDICTS))}{suggest(name, VERDICTS)}"
                )
        if reason := _unconcerned(gate, variants, resumes):
            raise GateError(f"the gate {gate.text!r} concerns no row: {reason}")


def _unconcerned(gate: Gate, variants: Collection[Variant], resumes: bool) -> str | None:
    """Return why a gate has nothing to judge, None if it has something."""
    judged = [variant for variant in variants if _concerns(gate, variant)]
    if not judged and gate.names_cache and not any(variant.cached for variant in variants):
        return "it judges caches, and no row has one; --cache both measures both"
    if not judged and gate.names_compiler and not any(variant.compiled for variant in variants):
        return "it judges compiled rows, and there are none; --compile both measures both"
    if not judged:
        return (
            "it compares lean rows with stock ones, and no row is lean; --lean both measures both"
            if gate.names_stock
            else "the other rows are compared with stock full, and there is no other; "
            "name another strategy"
        )
    if (
        gate.names_stock
        and not resumes
        and not any(variant.stock in variants for variant in judged)
    ):
        return (
            "it compares lean rows with stock ones of the same strategy, and there are none; "
            "--lean both measures both"
        )
    return None
