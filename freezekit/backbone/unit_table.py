"""The units of a model as a table of plain text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from freezekit.backbone.stage_table import broken
from freezekit.staging.extent import layout_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit.backbone.explanation import UnitRow

_KINDS = {
    "parameter": "one of a module that spans several units",
    "op": "no parameters",
    "norm": "parameters, but no weight matrix",
    "layer": "one weight matrix",
    "block": "several weight matrices",
    "stage": "holds blocks",
}
_HEADINGS = ("unit", "kind", "parameters", "output", "stage")
_UNIT, _STAGE = 0, 4  # columns that may be broken over lines
_NARROWEST = 12  # columns of the terminal for the names of stages


def unit_table(units: Sequence[UnitRow], width: int = 80) -> list[str]:
    """Return the lines of a table of units; neighbours that are alike share a row.

    Example:
        >>> from freezekit.backbone.explanation import UnitRow
        >>> blocks = [UnitRow(f"blocks.{at}", "block", 9, (49,), f"blocks.{at}") for at in range(3)]
        >>> for line in unit_table([UnitRow("conv", "layer", 4, (7, 7), "stem"), *blocks]):
        ...     print(line)
        unit        kind   parameters     output  stage
        ──────────────────────────────────────────────────
        conv        layer           4        7x7  stem
        blocks.0-2  block       3 x 9  49 tokens  one each
    """
    rows = [_cells(run) for run in _runs(units)]
    columns = list(zip(_HEADINGS, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    free = width - 2 * (len(columns) - 1) - sum(widths[_UNIT + 1 : _STAGE])
    widths[_STAGE] = min(widths[_STAGE], max(free - widths[_UNIT], free // 3, _NARROWEST))
    widths[_UNIT] = max(free - widths[_STAGE], 1)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in _HEADINGS:
        right = heading in ("parameters", "output")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        breakable = (_UNIT, _STAGE)
        table.add_row(*(broken(t, widths[i]) if i in breakable else t for i, t in enumerate(row)))
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False)
    console.print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def kinds_text(units: Sequence[UnitRow]) -> str:
    """Say what the kinds of some units are.

    Example:
        >>> from freezekit.backbone.explanation import UnitRow
        >>> kinds_text([UnitRow("conv", "layer", 4, (7, 7), "stem")])
        'layer: one weight matrix'
    """
    kinds = [kind for kind in _KINDS if any(unit.kind == kind for unit in units)]
    return "; ".join(f"{kind}: {_KINDS[kind]}" for kind in kinds)


def _cells(run: Sequence[UnitRow]) -> list[str]:
    """Return the cells of neighbours that differ in their number alone."""
    unit, last = run[0], run[-1]
    several = len(run) > 1
    return [
        f"{unit.name}-{last.name.rpartition('.')[2]}" if several else unit.name,
        unit.kind,
        f"{len(run)} x {unit.elements:,}" if several else f"{unit.elements:,}",
        layout_text(unit.output),
        "one each" if unit.stage != last.stage else unit.stage,
    ]


def _runs(units: Iterable[UnitRow]) -> list[list[UnitRow]]:
    """Gather neighbours that are numbered one after the other and are alike."""
    runs: list[list[UnitRow]] = []
    for unit in units:
        if runs and _follows(runs[-1], unit):
            runs[-1].append(unit)
        else:
            runs.append([unit])
    return runs


def _follows(run: Sequence[UnitRow], unit: UnitRow) -> bool:
    last = run[-1]
    parent, dot, number = last.name.rpartition(".")
    if not number.isdecimal() or unit.name != f"{parent}{dot}{int(number) + 1}":
        return False
    if (last.kind, last.elements, last.output) != (unit.kind, unit.elements, unit.output):
        return False
    shared = {row.stage for row in (*run, unit)}
    return len(shared) == 1 or shared == {row.name for row in (*run, unit)}
