"""A sweep in the terminal and as Markdown: the table, and what its intervals carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from freezekit.report.markdown import markdown_table
from freezekit.report.sweep_cells import sweep_cells, sweep_title
from freezekit.report.sweep_notes import sweep_notes
from freezekit.report.table import heading, note_lines, table_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from freezekit.sweep.records import Sweep


def print_sweep(sweep: Sweep, console: Console, *, explain: bool = False) -> None:
    """Print the table and its notes, as wide as the console.

    Args:
        sweep: What was trained.
        console: Where to print.
        explain: All notes and what the columns mean, instead of at most ten lines.
    """
    console.print(render_sweep(sweep, console.width, console.encoding, explain=explain))


def render_sweep(
    sweep: Sweep, width: int, encoding: str = "utf-8", *, explain: bool = False
) -> RenderableType:
    """Return the table and its notes for a terminal of that many columns.

    Example:
        >>> from rich.console import Console
        >>> from freezekit.sweep.records import Candidate, Estimate, Settings, Sweep, SweepRow
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0")
        >>> row = SweepRow(Candidate("m", "full"), "full", True, status="ok", lr=3e-4,
        ...                metric=Estimate(0.931, 0.91, 0.95))
        >>> sweep = Sweep("0.1.0", data, Settings(5, (0, 1)), {}, (row,), complete=True)
        >>> Console(width=80, no_color=True).print(render_sweep(sweep, 80))
        m on photos: 80 + 20 images in 2 classes, 5 epochs, 2 seeds, batch 32, adamw,
        cpu
        <BLANKLINE>
              learn.  accuracy           verdict
                rate  %
        -----------------------------------------
        full  0.0003  93.1 [91.0, 95.0]  baseline
        <BLANKLINE>
        definitions: --explain
    """
    found = sweep_cells(sweep)
    return Group(
        heading(sweep_title(sweep), width, encoding),
        Text(),
        *table_lines(found, [row.label for row in sweep.rows], width, encoding),
        *note_lines(sweep_notes(sweep), width, encoding, explain=explain),
    )


def sweep_markdown(sweep: Sweep) -> str:
    """Return the same as Markdown, all notes included."""
    labels = [row.label for row in sweep.rows]
    said = sweep_notes(sweep)
    return markdown_table(sweep_title(sweep), sweep_cells(sweep), labels, said, first="candidate")
