"""Gates against results: which rows fail, which pass, and of which this run cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from freezekit.errors import GateError, suggest
from freezekit.gate.dimensions import unit_of
from freezekit.gate.language import parse
from freezekit.gate.spans import LackingError, Span, Value, combine, compare
from freezekit.gate.tree import (
    Arithmetic,
    Comparison,
    Constant,
    Figure,
    Logic,
    Negation,
    Node,
    figures,
    texts_beside,
)
from freezekit.gate.values import UNITS, shown, value_of
from freezekit.results.derived import baseline, stock_of
from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from freezekit.gate.tree import Unit
    from freezekit.results.records import Result, Row
    from freezekit.results.variant import Variant

Outcome = Literal["passed", "failed", "unclear"]


@dataclass(frozen=True)
class Gate:
    """A condition that fails a run, read from its text."""

    text: str
    condition: Node

    @classmethod
    def read(cls, text: str) -> Gate:
        """Return the gate of a text.

        Raises:
            GateError: The text cannot be read; the message shows where.

        Example:
            >>> Gate.read("time.ratio_ci.high > 1.05").text
            'time.ratio_ci.high > 1.05'
        """
        return cls(text, parse(text, UNITS))

    @property
    def names_baseline(self) -> bool:
        """Whether it compares with an earlier result."""
        return any(found.of == "baseline" for found in figures(self.condition))

    @property
    def names_stock(self) -> bool:
        """Whether it compares lean rows with stock ones: stock rows have nothing to say then."""
        named = figures(self.condition)
        return any(f.of == "stock" or f.name.startswith("time.ratio_to_stock") for f in named)

    @property
    def names_time(self) -> bool:
        """Whether it needs step times."""
        return any(found.name.startswith("time.") for found in figures(self.condition))


@dataclass(frozen=True)
class Judgement:
    """What one gate says of one row of a result; `reason` holds the figures."""

    gate: Gate
    result: Result
    label: str
    outcome: Outcome
    reason: str


def judge(
    gates: Sequence[Gate],
    result: Result,
    earlier: Mapping[str, tuple[Result, Row]] | None = None,
    variants: Collection[Variant] | None = None,
) -> tuple[Judgement, ...]:
    """Judge every row, but for stock `full`, with which the others are compared.

    `full` is judged too by a gate that names `baseline`, and lean rows alone by one that names
    `stock`. A row that failed is not judged: it has failed the run already.

    Args:
        gates: Conditions under which a row fails.
        result: To be judged.
        earlier: By label, rows of an earlier run of the same workload, with their result.
        variants: Which rows to judge; None for all.

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
    if gate.names_stock:
        return variant.lean
    return variant != BASELINE or gate.names_baseline


def _judge_row(
    gate: Gate, result: Result, row: Row, earlier: Mapping[str, tuple[Result, Row]]
) -> Judgement:
    scene = _Scene(result, row, earlier)
    try:
        answer = scene.truth(gate.condition)
    except LackingError as lacking:
        return Judgement(gate, result, row.label, "unclear", str(lacking))
    outcome: Outcome = "unclear" if answer is None else ("failed" if answer else "passed")
    reason = "; ".join(scene.sides(gate.condition))
    if answer is None:
        reason += ": the interval and the noise floor of this run allow either"
    return Judgement(gate, result, row.label, outcome, reason)


@dataclass(frozen=True)
class _Scene:
    """A row and those around it, in which a gate's names have values."""

    result: Result
    row: Row
    earlier: Mapping[str, tuple[Result, Row]]

    def truth(self, node: Node) -> bool | None:
        """Return whether a condition holds, None where intervals leave it open."""
        match node:
            case Logic(word, left, right):
                decisive = word == "or"  # one side that decides is enough
                first = self.truth(left)
                if first is decisive:
                    return decisive
                second = self.truth(right)
                if second is decisive:
                    return decisive
                return None if None in (first, second) else not decisive
            case Negation(condition):
                answer = self.truth(condition)
                return None if answer is None else not answer
            case Comparison(sign, left, right):
                return compare(sign, self.value(left), self.value(right))
            case Figure():
                return bool(self.value(node))
        raise AssertionError(node)

    def value(self, node: Node) -> Value:
        """Return what a side of a comparison comes to."""
        match node:
            case Constant(value):
                return value if isinstance(value, str) else Span(value, value)
            case Figure():
                return self._figure(node)
            case Arithmetic(sign, left, right):
                return combine(sign, self.value(left), self.value(right))
        raise AssertionError(node)

    def sides(self, node: Node) -> Iterator[str]:
        """Yield each comparison with its figures."""
        match node:
            case Comparison(sign, left, right):
                named = (UNITS[found.name] for found in figures(node))
                said = unit_of(left, UNITS) or unit_of(right, UNITS)
                unit: Unit = said or next(named, None) or "count"
                yield f"{shown(self.value(left), unit)} {sign} {shown(self.value(right), unit)}"
            case Logic(_, left, right):
                yield from self.sides(left)
                yield from self.sides(right)
            case Negation(condition):
                yield from self.sides(condition)
            case Figure(name):
                yield f"{name} is {shown(self.value(node), UNITS[name])}"

    def _figure(self, node: Figure) -> Value:
        result, row = self._place(node)
        found = value_of(node.name, result, row)
        if found is None:
            raise LackingError(f"{node.of or 'the row'} has no {node.name}")
        if isinstance(found, Span) and not found.is_number:
            raise LackingError(f"the {node.name} of {node.of or 'the row'} is no number")
        if node.name == "peak_bytes" and row.memory.peak_method != self.row.memory.peak_method:
            raise LackingError(
                f"the peak is {self.row.memory.peak_method}, that of {node.of} "
                f"{row.memory.peak_method}: the two are not compared"
            )
        return found

    def _place(self, node: Figure) -> tuple[Result, Row]:
        if node.of == "baseline":
            if self.row.label not in self.earlier:
                raise LackingError("the baseline file has no such row")
            return self.earlier[self.row.label]
        rows = {None: self.row, "full": baseline(self.result)}
        row = rows[node.of] if node.of in rows else stock_of(self.result, self.row)
        if row is None:
            raise LackingError(f"there is no {node.of} row beside it")
        return self.result, row


def check_gates(
    gates: Sequence[Gate],
    variants: Collection[Variant],
    *,
    has_baseline: bool = True,
    static_only: bool = False,
    resumes: bool = False,
) -> None:
    """Raise where a gate cannot be judged whatever is measured.

    Args:
        gates: The gates.
        variants: Of the rows that they are to judge, and of those beside them.
        has_baseline: Whether there is an earlier result to compare with.
        static_only: Whether step times are left out.
        resumes: Whether other rows, of an earlier run, may stand beside these.

    Raises:
        GateError: It names a strategy that no row has, a baseline and none is given, or step times
            and none are taken; or it concerns no row, such as `stock` where none is lean.

    Example:
        >>> check_gates([Gate.read("time.ratio > 1")], [BASELINE], static_only=True)
        Traceback (most recent call last):
        ...
        freezekit.errors.GateError: the gate 'time.ratio > 1' needs step times, ...
    """
    strategies = tuple(dict.fromkeys(variant.spec for variant in variants))
    for gate in gates:
        if gate.names_baseline and not has_baseline:
            raise GateError(
                f"the gate {gate.text!r} names a baseline; give the earlier result: "
                "--baseline FILE.json"
            )
        if gate.names_time and static_only:
            raise GateError(f"the gate {gate.text!r} needs step times, which --static leaves out")
        for name in texts_beside(gate.condition, "strategy"):
            if name not in strategies:
                raise GateError(
                    f"the gate {gate.text!r} names the strategy {name!r}, and no row is of that "
                    f"name; there are {', '.join(map(repr, strategies))}"
                    f"{suggest(name, strategies)}"
                )
        if reason := _unconcerned(gate, variants, resumes):
            raise GateError(f"the gate {gate.text!r} concerns no row: {reason}")


def _unconcerned(gate: Gate, variants: Collection[Variant], resumes: bool) -> str | None:
    """Return why a gate has nothing to judge, None where it has."""
    judged = [variant for variant in variants if _concerns(gate, variant)]
    if not judged:
        return (
            "it compares lean rows with stock ones, and no row is lean; --lean both measures them"
            if gate.names_stock
            else "stock full is what the others are compared with, and there is no other; "
            "name another strategy"
        )
    if (
        gate.names_stock
        and not resumes
        and not any(variant.stock in variants for variant in judged)
    ):
        return (
            "it compares lean rows with stock ones of the same strategy, and there are none; "
            "--lean both measures them"
        )
    return None
