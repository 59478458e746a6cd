"""What `freezekit train` does and prints, once its options are read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from freezekit.cli.extracted_model import running
from freezekit.data.loading import load_training_data
from freezekit.errors import ExitCode, counted
from freezekit.model.loading import check_name
from freezekit.model.own_folder import look_in_current_folder
from freezekit.results.sizes import size_text
from freezekit.training.loop import train
from freezekit.training.metrics import find_metrics
from freezekit.training.peak import predicted_peak
from freezekit.training.session import steps_of_epoch
from freezekit.training.storage import check_place
from freezekit.training.weights_file import check_weights_target, write_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from freezekit.data.training_data import TrainingData
    from freezekit.plugins.registry import Registry
    from freezekit.training.records import Recipe, Trial


def run(
    recipe: Recipe,
    data: str | None,
    registry: Registry,
    *,
    images: Mapping[str, Any],  # Any: options of `load_training_data`
    metrics: Sequence[str],
    workers: int,
    output: str,
    checkpoint: str | None,
    resume: bool,
) -> ExitCode:
    """Train, write the weights, print the epochs, and return the exit code."""
    console = Console(stderr=True, highlight=False, emoji=False)
    shown = _Shown(console, recipe.epochs)
    look_in_current_folder()
    # Before the images, of which there may be many.
    check_name(recipe.model)
    check_weights_target(output)
    find_metrics(metrics, registry)
    if checkpoint is not None:
        check_place(checkpoint)
    try:
        with running(recipe.model):
            loaded = _loaded(data, images, workers, console)
            with console.status("predicting memory"):
                steps = steps_of_epoch(loaded, recipe)
                peak, problem = predicted_peak(recipe, len(loaded.classes), steps, registry)
            told = problem if peak is None else f"a step takes {size_text(peak)}, as predicted"
            length = f"{counted(recipe.epochs, 'epoch')} of {counted(steps, 'step')}"
            click.echo(f"{recipe.label}: {length}; {told}", err=True)
            with shown.bar():
                done = train(
                    recipe,
                    loaded,
                    metrics=metrics,
                    checkpoint=checkpoint,
                    resume=resume,
                    peak_bytes=peak,
                    workers=workers,
                    registry=registry,
                    on_epoch=shown.epoch,
                    on_step=shown.step,
                )
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted; {_kept(checkpoint, shown.done)}", err=True)
        return ExitCode.INTERRUPTED
    for note in done.trial.notes:
        click.echo(f"note: {note}", err=True)
    print_epochs(done.trial)
    if done.trial.status != "ok":
        click.echo(f"Error: {done.trial.status}: {done.trial.error}; no weights written", err=True)
        return ExitCode.PART_FAILED
    write_weights(done, output)
    click.echo(f"{output}: the weights of {recipe.model}, {', '.join(loaded.classes):.60}")
    return ExitCode.OK


def _loaded(
    data: str | None, options: Mapping[str, Any], workers: int, console: Console
) -> TrainingData:  # Any: as above
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading images", total=None)
        loaded = load_training_data(
            data,
            workers=workers,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            **options,
        )
    split = "as given" if loaded.split == "given" else "by a split of freezekit's"
    click.echo(
        f"{loaded.source}: {len(loaded.classes)} classes, {len(loaded.train):,} images to train "
        f"and {len(loaded.val):,} to validate, {split}",
        err=True,
    )
    if loaded.skipped:
        names = ", ".join(map(repr, loaded.skipped[:3]))
        more = f" and {len(loaded.skipped) - 3} more" if len(loaded.skipped) > 3 else ""
        click.echo(
            f"Warning: skipped {len(loaded.skipped)} image(s) that cannot be read: {names}{more}",
            err=True,
        )
    for note in loaded.notes:
        click.echo(f"note: {note}", err=True)
    return loaded


def _kept(checkpoint: str | None, done: int) -> str:
    if checkpoint is None:
        return "nothing is kept; --checkpoint FOLDER keeps the training after each epoch"
    if not done:
        return "the first epoch was not done yet, so that nothing new is kept"
    return (
        f"{done} epoch(s) are kept in {checkpoint!r}; the same command with --resume goes on "
        "from there"
    )


class _Shown:
    """Shows how a training goes: a bar on a terminal, and a line for each epoch elsewhere."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._console, self._epochs = console, epochs
        columns = (
            TextColumn("{task.description}"),
            BarColumn(None),
            TimeRemainingColumn(compact=True),
        )
        self._bar = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._bar.add_task(f"epoch 1/{epochs}", total=None)
        self.done = 0

    @contextmanager
    def bar(self) -> Iterator[None]:
        """Show the bar within a context."""
        with self._bar:
            yield

    def step(self, step: int, steps: int) -> None:
        """Move the bar."""
        completed = self.done * steps + step
        self._bar.update(self._task, completed=completed, total=steps * self._epochs)

    def epoch(self, trial: Trial) -> None:
        """Tell of an epoch."""
        if len(trial.epochs) == self.done:  # it diverged
            return
        self.done, last = len(trial.epochs), trial.epochs[-1]
        line = (
            f"epoch {self.done}/{self._epochs}: loss {_number(last.train_loss)}, validation loss "
            f"{_number(last.val['loss'])}, accuracy {_number(last.val['accuracy'])}"
        )
        if self._console.is_terminal:
            shown = f"epoch {min(self.done + 1, self._epochs)}/{self._epochs}"
            self._bar.update(self._task, description=f"{shown}, accuracy {last.val['accuracy']}")
        else:
            click.echo(line, err=True)


def print_epochs(trial: Trial) -> None:
    """Print a table of all epochs."""
    if not trial.epochs:
        return
    names = [name for name in trial.epochs[-1].val if name != "loss"]
    titles = [
        t.replace("_", " ") for t in ("epoch", "lr", "loss", "val loss", *names, "s", "GFLOP")
    ]
    rows = [
        (
            f"{epoch.number}",
            f"{epoch.lr:.1e}",
            _number(epoch.train_loss),
            *(_number(epoch.val.get(name)) for name in ("loss", *names)),
            f"{epoch.train_seconds + epoch.val_seconds:.1f}",
            "-" if epoch.flops is None else f"{epoch.flops / 1e9:.1f}",
        )
        for epoch in trial.epochs
    ]
    console = Console(highlight=False, emoji=False)
    widths = _widths(titles, rows, whole=True)
    if sum(widths) + len(widths) > console.width:
        widths = _widths(titles, rows, whole=False)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="")
    for title, width in zip(titles, widths, strict=True):
        table.add_column(title, justify="right", overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    console.width = max(console.width, sum(widths) + len(widths))
    console.print(table)


def _widths(titles: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool) -> list[int]:
    """Return widths of columns in which no number breaks.

    A title is whole, or breaks at blanks and after eight letters.
    """
    return [
        max(len(title) if whole else min(max(map(len, title.split())), 8), *map(len, cells))
        for title, *cells in zip(titles, *rows, strict=True)
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
