"""What a sweep shows while it runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from freezekit.cli.progress import CLOCKS_WIDTH, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezekit.sweep.asking import SweepProgress


@contextmanager
def sweep_progress() -> Iterator[Callable[[SweepProgress], None]]:
    """Show progress on stderr: a line for each phase, and a bar of epochs below on a terminal."""
    console = Console(stderr=True, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        TimeElapsedColumn(),
        TextColumn("phase left:"),
        TimeRemainingColumn(compact=True),
    )
    phase = ""
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)

        def show(now: SweepProgress) -> None:
            nonlocal phase
            if now.phase != phase:
                phase = now.phase
                bar.reset(task)  # its clock starts with the phase
                console.print(phase, markup=False, soft_wrap=True)
            what = ", ".join(now.running) or phase
            what = shortened(what, console.width - CLOCKS_WIDTH)
            bar.update(task, description=what, completed=now.done, total=now.total)

        yield show


@contextmanager
def reading_images() -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how many images were checked."""
    console = Console(stderr=True, highlight=False, emoji=False)
    with Progress(
        TextColumn("checking images"),
        BarColumn(None),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
