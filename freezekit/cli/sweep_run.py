"""What `freezekit sweep` does with a sweep that is ready: it trains it, and shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console

from freezekit.bench.environment import cores
from freezekit.cli.gates import report_gates
from freezekit.cli.sweep_progress import sweep_progress
from freezekit.engines.choose import make_engine
from freezekit.errors import ExitCode, counted
from freezekit.gate.judge_sweep import judge_sweep
from freezekit.report.formats import SWEEP_FORMATS
from freezekit.report.output import format_of, write
from freezekit.report.sweep_table import print_sweep
from freezekit.sweep.asking import Work
from freezekit.sweep.comparing import BY_IMAGE
from freezekit.sweep.learning_rates import pilot_epochs, pilot_steps
from freezekit.sweep.probing import within_budget
from freezekit.sweep.rows import failed_rows, without_metric
from freezekit.sweep.run import SweepRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.cli.sweep_begun import Begun
    from freezekit.gate.judge import Gate
    from freezekit.sweep.folder import SweepFolder
    from freezekit.sweep.records import Sweep


def run_and_show(
    begun: Begun, kept: SweepFolder, outputs: Sequence[str], gates: Sequence[Gate]
) -> ExitCode:
    """Train, write the files as it goes, print the result, and return the exit code.

    Raises:
        EngineError: The engine cannot be reached.
        OutputError: A file cannot be written.
    """
    options, sweep = begun.options, begun.sweep
    deadline, epoch_seconds = begun.deadline, begun.epoch_seconds
    is_here = options["engine"] == "local" and options["device"] == "cpu"
    at_once = max(1, cores() // (sweep.settings.threads or 1)) if is_here else None
    quick = [path for path in outputs if not format_of(path, SWEEP_FORMATS).is_slow]

    def on_change(now: Sweep) -> None:
        kept.keep(now)
        write(now, SWEEP_FORMATS, *quick)

    engine = make_engine(
        options["engine"],
        address=options["address"],
        folder=kept.logs,
        at_once=options["jobs"],
        threads=sweep.settings.threads,
        block=begun.block,
    )
    code = ExitCode.OK
    try:
        with sweep_progress() as show:
            if deadline is not None and begun.is_probed:
                click.echo("probing each candidate for the budget", err=True)
                sweep, epoch_seconds = within_budget(
                    sweep,
                    engine,
                    begun.argument,
                    at_once=at_once,
                    at_most=options["jobs"],
                    deadline=deadline,
                )
            for line in plan_lines(sweep):
                click.echo(line, err=True)
            work = Work(
                engine,
                kept.answers,
                kept.storage,
                begun.facts,
                argument=begun.argument,
                predicting={
                    "classes": len(sweep.data.classes),
                    "train_samples": sweep.data.train_samples,
                    "block": list(begun.block),
                },
                deadline=deadline,
                epoch_seconds=epoch_seconds,
            )
            run = SweepRun(sweep, work, on_change, show, begun.began)
            try:
                run.run()
            except KeyboardInterrupt:
                code = ExitCode.INTERRUPTED
                run.keep()
    finally:
        engine.close()
    write(run.sweep, SWEEP_FORMATS, *outputs)
    print_sweep(run.sweep, Console(highlight=False, emoji=False), explain=options["explain"])
    if code == ExitCode.INTERRUPTED:
        click.echo("interrupted; what was trained is kept, and --resume goes on", err=True)
        return code
    judged = report_gates(gates, judge_sweep(gates, run.sweep))
    rows = run.sweep.rows
    is_part = not run.sweep.complete or failed_rows(rows) or without_metric(rows)
    return ExitCode.PART_FAILED if is_part else judged


def plan_lines(sweep: Sweep) -> list[str]:
    """Return what will be trained, in a few lines."""
    settings, data = sweep.settings, sweep.data
    scheduled = sum(len(row.candidate.schedule or "") > 0 for row in sweep.rows)
    trials = len(sweep.rows) * len(settings.seeds)
    lines = [
        f"{data.source}: {len(data.classes)} classes, {data.train_samples} images to train on, "
        f"{data.val_samples} to validate on (split {data.split})",
        f"{counted(len(sweep.rows), 'candidate')} x {counted(len(settings.seeds), 'seed')} = "
        f"{counted(trials, 'training')} of {counted(settings.epochs, 'epoch')}, on "
        f"{_weights(sweep)} weights",
    ]
    if settings.metric not in BY_IMAGE:
        better = "higher" if settings.higher_is_better else "lower"
        lines.append(f"candidates are compared by {settings.metric}: {better} is better")
    if len(settings.lr_grid) > 1 and any(row.candidate.lr == "grid" for row in sweep.rows):
        rates = ", ".join(f"{rate:g}" for rate in settings.lr_grid)
        steps = pilot_steps(data.train_samples, settings.batch_size)
        few = pilot_epochs(settings.epochs, steps)
        lines.append(
            f"{len(sweep.rows) * len(settings.lr_grid)} pilots choose learning rates of {rates}, "
            f"in {counted(few, 'epoch')} on a part of the training images"
            + (f" (schedules: {settings.epochs})" if scheduled and few < settings.epochs else "")
        )
    if settings.rungs:
        after = " and ".join(map(str, settings.rungs))
        lines.append(f"hopeless candidates are stopped after epoch {after}")
    return lines


def _weights(sweep: Sweep) -> str:
    """Return which weights trainings begin with."""
    if sweep.settings.pretrained:
        return "pretrained"
    libraries = {row.candidate.model.partition(":")[0] for row in sweep.rows}
    return "random" if libraries <= {"timm", "torchvision"} else "the model's own"
