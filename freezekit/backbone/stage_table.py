"""The stages of a model as a table of plain text."""

from __future__ import annotations

import io
import re
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from freezekit.backbone.stage_rows import StageRow, contents, stage_rows
from freezekit.staging.extent import layout_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from freezekit.backbone.view import Backbone

_HEADINGS = ("stage", "kind", "modules", "parameters", "share", "output", "norms", "cache")
_STAGE, _MODULES, _NORMS = 0, 2, 6  # columns that may be broken over lines
_NARROWEST = 12  # columns of the terminal for the names of stages
_SHOWN = 6  # names in one cell
CACHE = (
    "cache: what `frozen.cache` keeps of each sample if all stages up to here are frozen; -: no "
    "cache is possible"
)
NO_ROOM = "no room for the column `cache`: --json has what `frozen.cache` keeps of each sample"


def stage_table(
    backbone: Backbone, width: int = 80, observed: str = "", cache: Sequence[str] = ()
) -> str:
    """Return the stages as plain text, at most `width` columns wide.

    Args:
        backbone: The model.
        width: Columns; fewer than some 70 cannot hold the figures.
        observed: What input the model was observed with, to be told above the table.
        cache: A last cell for each stage: what a cache keeps of a sample there.

    Raises:
        StagingError: The model cannot be staged.

    Example:
        >>> from freezekit import Backbone, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> print(stage_table(view))
        ResNet: 11,689,512 parameters in 6 stages
        stage   kind  modules     parameters    share  output  norms
        ───────────────────────────────────────────────────────────────
        stem    stem  conv1, bn1       9,536    0.1 %   56x56  1 batch
        layer1  body  layer1         147,968    1.3 %   56x56  4 batch
        layer2  body  layer2         525,568    4.5 %   28x28  5 batch
        layer3  body  layer3       2,099,712   18.0 %   14x14  5 batch
        layer4  body  layer4       8,393,728   71.8 %     7x7  5 batch
        head    head  fc             513,000    4.4 %  vector  -
        <BLANKLINE>
        total                     11,689,512  100.0 %          20 batch
    """
    text, is_whole = _stage_table(backbone, width, observed, cache)
    if is_whole or not cache:
        return f"{text}\n\n{_filled(CACHE, width)}" if cache else text
    text, _ = _stage_table(backbone, width, observed, ())
    return f"{text}\n\n{_filled(NO_ROOM, width)}"


def _stage_table(
    backbone: Backbone, width: int, observed: str, cache: Sequence[str]
) -> tuple[str, bool]:
    """Return the table, and whether all its cells are whole."""
    rows = stage_rows(backbone)
    last = [[text] for text in cache] or [[] for _ in rows]
    headings = _HEADINGS if cache else _HEADINGS[:-1]
    cells = [[*_cells(row), *more] for row, more in zip(rows, last, strict=True)]
    norms = Counter[str](norm.kind for norm in backbone.norms)
    total = f"{sum(row.elements for row in rows):,}"
    cells.append(["total", "", "", total, _share(sum(r.share for r in rows)), "", _counts(norms)])
    cells[-1] += [""] if cache else []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        right = heading in ("parameters", "share", "output", "cache")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    fitted = _fitted(headings, cells, width)
    for at, row_cells in enumerate(fitted):
        table.add_row(*row_cells, end_section=at == len(rows) - 1)
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False)
    seen = f", observed with {observed}" if observed else ""
    name = type(backbone.model).__name__
    console.print(f"{name}: {total} parameters in {len(rows)} stages{seen}")
    console.print(table)
    columns = zip(headings, *fitted, strict=True)
    needs = sum(
        max(len(line) for cell in column for line in cell.split("\n")) for column in columns
    )
    is_whole = needs + 2 * (len(headings) - 1) <= width
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()), is_whole


def _filled(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)


def _cells(row: StageRow) -> list[str]:
    modules = ", ".join(_short(contents(row))) or "-"
    figures = [f"{row.elements:,}", _share(row.share), layout_text(row.resolution)]
    return [row.name, row.kind, modules, *figures, _counts(row.norms)]


def _short(names: list[str]) -> list[str]:
    if len(names) <= _SHOWN:
        return names
    return [*names[: _SHOWN - 1], f"{len(names) - _SHOWN + 1} more"]


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _counts(norms: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in norms.items()) or "-"


def _fitted(headings: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Break the cells of stage, modules and norms over lines, so that a row fits the width."""
    columns = list(zip(headings, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    breakable = (_STAGE, _MODULES, _NORMS)
    free = (
        width
        - 2 * (len(columns) - 1)
        - sum(w for at, w in enumerate(widths) if at not in breakable)
    )
    if sum(widths[at] for at in breakable) > free:
        one_each = (len(part) + 1 for text in columns[_NORMS] for part in text.split(", "))
        widths[_NORMS] = min(widths[_NORMS], max(one_each))
    free -= widths[_NORMS]
    widths[_STAGE] = min(widths[_STAGE], max(free - widths[_MODULES], free // 2, _NARROWEST))
    widths[_MODULES] = max(free - widths[_STAGE], 1)
    return [
        [broken(text, widths[at]) if at in breakable else text for at, text in enumerate(row)]
        for row in cells
    ]


def broken(text: str, width: int) -> str:
    """Break a list of dotted names into lines: between names, else after dots, else anywhere.

    Example:
        >>> print(broken("conv1, backbone.features.denseblock1, bn1", 15))
        conv1,
        backbone.
        features.
        denseblock1,
        bn1
    """
    lines = [""]
    for piece in _pieces(text, width, (", ", "[.-]", "_", "")):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _pieces(text: str, width: int, ends: Sequence[str]) -> Iterator[str]:
    """Split after the first of `ends`, and what is still too wide after the next one."""
    for piece in re.split(f"(?<={ends[0]})", text):
        if len(piece.rstrip()) <= width or len(ends) == 1:
            yield piece
        else:
            yield from _pieces(piece, width, ends[1:])
