"""From the options of `freezekit sweep` to a sweep that is ready to be trained."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from freezekit import __version__
from freezekit.bench.environment import environment
from freezekit.cli.device import check_device
from freezekit.cli.sweep_options import EPOCHS
from freezekit.cli.sweep_progress import reading_images
from freezekit.data.loading import load_training_data
from freezekit.model.sources import find_builder, split_text
from freezekit.sweep.budget import MOST_EPOCHS, going_on, has_chosen
from freezekit.sweep.halving import rungs_of
from freezekit.sweep.identity import code_digest, facts_of, versions
from freezekit.sweep.records import BudgetChoice, Settings, Sweep, SweepRow
from freezekit.training.facts import facts
from freezekit.training.metrics import BUILT_IN, find_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit.data.training_data import TrainingData
    from freezekit.plugins.metric import Metric
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
        began: When it began, as of `time.monotonic()`.
        deadline: When the budget ends, as of `time.time()`; None without one.
        is_probed: Whether probes have yet to tell what fits into the budget.
        epoch_seconds: What an epoch takes, by label of a row, where it was trained before.
    """

    sweep: Sweep
    argument: dict[str, Any]  # Any: JSON data
    facts: dict[str, str]
    options: dict[str, Any]  # Any: click's
    block: tuple[str, ...]
    began: float
    deadline: float | None
    is_probed: bool
    epoch_seconds: dict[str, float]


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
        FreezekitError: The images cannot be read, a model or the metric is unknown, or the device
            is not there.
    """
    began, now = time.monotonic(), time.time()
    if options["engine"] == "local":
        check_device(options["device"])
    for model in models:
        find_builder(model, *split_text(model), pretrained=False)
    pretrained = _pretrained(models, options["pretrained"])
    metric, own = _metric(options["metric"], registry)
    with reading_images() as show:
        images = load_training_data(
            data,
            val_fraction=options["val_fraction"],
            bad_images=options["bad_images"],
            on_progress=show,
        )
    settings = _settings(options, grid, metric, pretrained=pretrained)
    earlier, budget, notes = kept.earlier(), options["budget"], images.notes
    chosen = earlier if budget is not None and earlier and has_chosen(earlier) else None
    if chosen is not None:
        settings, extent = going_on(settings, chosen)
        notes += extent
    seconds = None if earlier is None else earlier.seconds
    env = {**environment(), **versions(), "device": options["device"]}
    sweep = Sweep(__version__, facts(images), settings, env, rows, notes=notes)
    return Begun(
        replace(sweep, seconds=seconds),
        _argument(images, options, own, block),
        facts_of(sweep.data, own),
        options,
        block,
        began,
        None if budget is None else now + budget - (seconds or 0.0),
        chosen is None,
        {} if earlier is None else _epoch_seconds(earlier),
    )


def _epoch_seconds(sweep: Sweep) -> dict[str, float]:
    """Return the longest epoch of each row that was trained."""
    epochs = {
        row.label: [epoch for trial in (*row.pilots, *row.trials) for epoch in trial.epochs]
        for row in sweep.rows
    }
    return {
        label: max(epoch.train_seconds + epoch.val_seconds for epoch in some)
        for label, some in epochs.items()
        if some
    }


def _settings(
    options: dict[str, Any],  # Any: click's
    grid: tuple[float, ...],
    metric: Metric,
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
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        lr_grid=grid,
        rungs=rungs_of(epochs) if options["early_stopping"] else (),
        budget_seconds=options["budget"],
        budget_choice=None if options["budget"] is None else BudgetChoice(options["seeds"], grid),
        at_once=options["jobs"],
        pretrained=pretrained,
        threads=options["threads"] or (1 if options["device"] == "cpu" else None),
        **{name: options[name] for name in same},
    )


def _argument(
    images: TrainingData, options: dict[str, Any], metrics: Iterable[str], block: Sequence[str]
) -> dict[str, Any]:  # Any: click's, and JSON data
    return {
        "data": {
            "text": images.source,
            "val_fraction": options["val_fraction"],
            "skipped": list(images.skipped),
            "digest": images.digest,
        },
        "metrics": list(metrics),
        "workers": options["workers"],
        "block": list(block),
    }


def _metric(text: str, registry: Registry) -> tuple[Metric, dict[str, str]]:
    """Return a metric, and what its code comes from, by its text; nothing of a built-in one.

    Raises:
        TrainingError: There is no such metric.
    """
    known = {metric.name: metric for metric in find_metrics([text], registry)}
    found = known.get(text) or [*known.values()][-1]  # the user's own is last
    is_built_in = found.name in {metric.name for metric in BUILT_IN}
    return found, {} if is_built_in else {text: found.origin or code_digest(text)}


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
