"""What a sweep shows while it runs."""

from __future__ import annotations

import time
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


LOG_SECONDS = 60
"""Between two lines of a log: a sweep of hours is seen to go on, in a file that can be read."""


@contextmanager
def sweep_progress() -> Iterator[Callable[[SweepProgress], None]]:
    """Show progress on stderr: a line for each phase, and what is done of it.

    That is a bar of epochs on a terminal, and a line a minute elsewhere, such as in the log of a
    job.
    """
    console = Console(stderr=True, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        TimeElapsedColumn(),
        TextColumn("phase left:"),
        TimeRemainingColumn(compact=True),
    )
    phase, last_line = "", time.monotonic()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)

        def show(now: SweepProgress) -> None:
            nonlocal phase, last_line
            if now.phase != phase:
                phase, last_line = now.phase, time.monotonic()
                bar.reset(task)  # its clock starts with the phase
                console.print(phase, markup=False, soft_wrap=True)
            what = ", ".join(now.running) or phase
            what = shortened(what, console.width - CLOCKS_WIDTH)
            bar.update(task, description=what, completed=now.done, total=now.total)
            if not console.is_terminal and time.monotonic() - last_line >= LOG_SECONDS:
                last_line = time.monotonic()
                console.print(f"  {now.done} of {now.total} epochs", soft_wrap=True)

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
