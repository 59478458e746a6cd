"""What `freezekit sweep` does once its options are read: it prepares, trains, and shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace
from rich.console import Console

from freezekit import __version__
from freezekit.bench.environment import cores, environment
from freezekit.cli.gates import report_gates
from freezekit.cli.sweep_options import EPOCHS
from freezekit.cli.sweep_progress import reading_images, sweep_progress
from freezekit.data.loading import load_training_data
from freezekit.engines.choose import make_engine
from freezekit.errors import ExitCode
from freezekit.gate.judge_sweep import judge_sweep
from freezekit.model.sources import find_builder, split_text
from freezekit.report.formats import SWEEP_FORMATS
from freezekit.report.output import format_of, write
from freezekit.report.sweep_table import print_sweep
from freezekit.sweep.asking import Work
from freezekit.sweep.budget import MOST_EPOCHS
from freezekit.sweep.halving import rungs_of
from freezekit.sweep.identity import facts_of, versions
from freezekit.sweep.probing import within_budget
from freezekit.sweep.records import Settings, Sweep, SweepRow
from freezekit.sweep.rows import failed_rows
from freezekit.sweep.run import SweepRun
from freezekit.training.facts import facts
from freezekit.training.metrics import find_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.data.training_data import TrainingData
    from freezekit.gate.judge import Gate
    from freezekit.plugins.registry import Registry
    from freezekit.sweep.folder import SweepFolder

LIBRARIES = ("timm:", "torchvision:")


@dataclass(frozen=True)
class Begun:
    """A sweep that is ready to be trained.

    Attributes:
        sweep: Without trials.
        argument: What trainings need beside a recipe: JSON data.
        facts: What all trainings depend on.
        options: Those of the command.
        block: Plugins that are not loaded.
        seconds: What is left of the budget; None without one.
    """

    sweep: Sweep
    argument: dict[str, Any]  # Any: JSON data
    facts: dict[str, str]
    options: dict[str, Any]  # Any: click's
    block: tuple[str, ...]
    seconds: float | None


def begin(
    models: Sequence[str],
    data: str | None,
    rows: tuple[SweepRow, ...],
    grid: tuple[float, ...],
    registry: Registry,
    kept: SweepFolder,
    block: tuple[str, ...],
    options: dict[str, Any],  # Any: click's
) -> Begun:
    """Check all that can be checked before a training, and return the sweep without trials.

    Raises:
        FreezekitError: The images cannot be read, or a model or the metric is unknown.
    """
    for model in models:
        find_builder(model, *split_text(model), pretrained=False)
    pretrained = _pretrained(models, options["pretrained"])
    own = () if options["metric"] in ("accuracy", "balanced_accuracy") else (options["metric"],)
    metric = _metric(options["metric"], registry)
    with reading_images() as show:
        images = load_training_data(
            data,
            val_fraction=options["val_fraction"],
            bad_images=options["bad_images"],
            on_progress=show,
        )
    settings = _settings(options, grid, metric, pretrained=pretrained)
    earlier = kept.earlier()
    budget, seconds = options["budget"], None if earlier is None else earlier.seconds
    if budget is not None and earlier is not None and earlier.settings.budget_seconds:
        chosen = earlier.settings
        settings = replace(
            settings,
            epochs=chosen.epochs,
            seeds=chosen.seeds,
            lr_grid=chosen.lr_grid,
            rungs=chosen.rungs,
        )
    env = {**environment(), **versions(), "device": options["device"]}
    sweep = Sweep(__version__, facts(images), settings, env, rows, notes=images.notes)
    return Begun(
        replace(sweep, seconds=seconds),
        _argument(images, options, own, block),
        facts_of(sweep.data, own),
        options,
        block,
        None if budget is None else budget - (seconds or 0.0),
    )


def run_and_show(
    begun: Begun, kept: SweepFolder, outputs: Sequence[str], gates: Sequence[Gate]
) -> ExitCode:
    """Train, write the files as it goes, print the result, and return the exit code.

    Raises:
        EngineError: The engine cannot be reached.
        OutputError: A file cannot be written.
    """
    options, sweep = begun.options, begun.sweep
    deadline = None if begun.seconds is None else time.time() + begun.seconds
    at_once = options["jobs"] or max(1, cores() // (sweep.settings.threads or 1))
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
            if deadline is not None and kept.earlier() is None:
                click.echo("probing each candidate for the budget", err=True)
                sweep = within_budget(
                    sweep, engine, begun.argument, at_once=at_once, deadline=deadline
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
            )
            run = SweepRun(sweep, work, on_change, show)
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
    return ExitCode.PART_FAILED if failed_rows(run.sweep.rows) else judged


def plan_lines(sweep: Sweep) -> list[str]:
    """Return what will be trained, in a few lines."""
    settings, data = sweep.settings, sweep.data
    scheduled = sum(len(row.candidate.schedule or "") > 0 for row in sweep.rows)
    trials = len(sweep.rows) * len(settings.seeds)
    lines = [
        f"{data.source}: {len(data.classes)} classes, {data.train_samples} images to train on, "
        f"{data.val_samples} to validate on (split {data.split})",
        f"{len(sweep.rows)} candidates x {len(settings.seeds)} seeds = {trials} trainings of "
        f"{settings.epochs} epochs, on {_weights(sweep)} weights",
    ]
    if len(settings.lr_grid) > 1 and any(row.candidate.lr == "grid" for row in sweep.rows):
        rates = ", ".join(f"{rate:g}" for rate in settings.lr_grid)
        half = (settings.epochs + 1) // 2
        lines.append(
            f"{len(sweep.rows) * len(settings.lr_grid)} pilots choose learning rates of {rates}, "
            f"in {half} epochs on a part of the training images"
            + (f" (schedules: {settings.epochs})" if scheduled and half < settings.epochs else "")
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


def _settings(
    options: dict[str, Any],  # Any: click's
    grid: tuple[float, ...],
    metric: tuple[str, bool],
    *,
    pretrained: bool,
) -> Settings:
    epochs = options["epochs"] or (EPOCHS if options["budget"] is None else MOST_EPOCHS)
    same = (
        *("batch_size", "optimizer", "weight_decay", "warmup", "label_smoothing", "ema"),
        *("amp", "augment", "cache", "device", "engine"),
    )
    return Settings(
        epochs=epochs,
        seeds=tuple(range(options["seeds"])),
        metric=metric[0],
        higher_is_better=metric[1],
        lr_grid=grid,
        rungs=rungs_of(epochs) if options["early_stopping"] else (),
        budget_seconds=options["budget"],
        at_once=options["jobs"],
        pretrained=pretrained,
        threads=options["threads"] or (1 if options["device"] == "cpu" else None),
        **{name: options[name] for name in same},
    )


def _argument(
    images: TrainingData, options: dict[str, Any], metrics: Sequence[str], block: Sequence[str]
) -> dict[str, Any]:  # Any: click's, and JSON data
    return {
        "data": {
            "text": images.source,
            "val_fraction": options["val_fraction"],
            "skipped": list(images.skipped),
        },
        "metrics": list(metrics),
        "workers": options["workers"],
        "block": list(block),
    }


def _metric(text: str, registry: Registry) -> tuple[str, bool]:
    """Return the name of a metric, and whether higher is better.

    Raises:
        TrainingError: There is no such metric.
    """
    known = {metric.name: metric for metric in find_metrics([text], registry)}
    found = known.get(text) or [*known.values()][-1]  # the user's own is last
    return found.name, found.higher_is_better


def _pretrained(models: Sequence[str], given: bool | None) -> bool:
    """Return whether weights are loaded.

    Raises:
        click.UsageError: Nothing is said, and there are models of libraries and others.
    """
    of_libraries = {model.startswith(LIBRARIES) for model in models}
    if given is None and len(of_libraries) > 1:
        raise click.UsageError(
            "some models are of libraries and some are factories: say --pretrained or "
            "--no-pretrained"
        )
    return of_libraries == {True} if given is None else given
