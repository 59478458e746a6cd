"""What a run shows on the terminal while it goes on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezekit.bench.base_run import ProgressUpdate

CLOCKS_WIDTH = 42  # columns: a bar that can still be read, and the times beside it


def shortened(text: str, width: int) -> str:
    """Return the text, cut to at most `width` columns, or to 10 where `width` is less.

    Example:
        >>> shortened("first-n-stages:n=2", 20), shortened("first-n-stages:n=2", 10)
        ('first-n-stages:n=2', 'first-n...')
    """
    width = max(10, width)
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 3).rstrip()}..."


@contextmanager
def progress(model: str) -> Iterator[Callable[[ProgressUpdate], None]]:
    """Show progress on stderr: a line for each phase, and a bar below them on a terminal.

    Both clocks of the bar are those of the phase. How long later phases take is not known.
    """
    console = Console(stderr=True, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        TimeElapsedColumn(),
        TextColumn("phase left:"),
        TimeRemainingColumn(compact=True),
    )
    phases: list[str] = []
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)

        def show(now: ProgressUpdate) -> None:
            if now.phase not in phases:
                phases.append(now.phase)
                bar.reset(task)  # its clock starts with the phase
                console.print(f"{model}: {now.phase}", markup=False, soft_wrap=True)
            what = shortened(now.what, console.width - CLOCKS_WIDTH)
            bar.update(task, description=what, completed=now.done, total=now.total)

        yield show
