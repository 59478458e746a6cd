"""How long the trainings of a sweep take, from short ones on a few images."""

from __future__ import annotations

import dataclasses
import time
from contextlib import closing
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

import msgspec

from freezekit.engines.records import Task
from freezekit.sweep.budget import Extent, Speed, extent_note, fitting
from freezekit.sweep.halving import rungs_of
from freezekit.sweep.learning_rates import pilot_steps
from freezekit.sweep.recipes import prediction_job
from freezekit.sweep.records import BudgetChoice
from freezekit.training.records import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from freezekit.engines.records import Engine, Outcome
    from freezekit.sweep.records import Settings, Sweep, SweepRow

PROBE = "freezekit.sweep.probing:probe"
STEPS = 3  # of the optimizer, in a probe: the first one is slower than the others


def within_budget(
    sweep: Sweep,
    engine: Engine,
    argument: Mapping[str, Any],  # Any: JSON data
    *,
    at_once: int | None,
    at_most: int | None,
    deadline: float,
) -> tuple[Sweep, dict[str, float]]:
    """Return a sweep with as many epochs, seeds and pilots as fit until a deadline.

    A candidate whose probe fails does not count; its trainings will say why. After the deadline no
    probe goes on.

    Args:
        sweep: Its epochs are the most that are taken.
        engine: Runs the probes.
        argument: What tasks need beside a recipe.
        at_once: Trainings at the same time; None: as many as there were probes. The latter tells
            what devices and hosts allow, and too little where there are fewer candidates.
        at_most: Trainings at the same time, at most; None: any number.
        deadline: As of `time.time()`.

    Returns:
        The sweep, and the seconds of an epoch of each row that was probed, by label.

    Raises:
        EngineError: The engine cannot be reached.
    """
    settings, data = sweep.settings, sweep.data
    tasks = {row.label: _task(row, settings, argument) for row in sweep.rows}
    by_name = {task.name: label for label, task in tasks.items()}
    scheduled = {row.label: row.candidate.schedule is not None for row in sweep.rows}
    steps = pilot_steps(data.train_samples, settings.batch_size)
    speeds, epochs, times = [], {}, []
    with closing(cast("Generator[Outcome]", engine.run(list(tasks.values())))) as outcomes:
        for outcome in outcomes:
            if outcome.status == "ok":
                found, label = outcome.answer, by_name[outcome.task]
                epochs[label] = (
                    found["per_train"] * data.train_samples + found["per_val"] * data.val_samples
                )
                speeds.append(Speed(found["start"], epochs[label], scheduled[label], steps))
                times.append((found["began"], found["ended"]))
            if time.time() > deadline:
                break
    at_once = at_once or most_at_once(times)
    at_once = min(at_once, at_most or at_once)
    grid = settings.lr_grid
    asked = Extent(settings.epochs, len(settings.seeds), len(grid) if len(grid) > 1 else 0)
    extent = fitting(deadline - time.time(), asked, speeds, at_once)
    usual = (grid[len(grid) // 2],) if grid else ()
    choice = BudgetChoice(asked.seeds, grid, extent.fits)
    settings = msgspec.structs.replace(
        settings,
        budget_choice=choice,
        epochs=extent.epochs,
        seeds=settings.seeds[: extent.seeds],
        lr_grid=grid if extent.pilots else usual,
        rungs=rungs_of(extent.epochs) if settings.rungs else (),
    )
    note = extent_note(extent, asked, settings.budget_seconds or 0.0)
    sweep = msgspec.structs.replace(sweep, settings=settings, notes=(*sweep.notes, note))
    return sweep, epochs


def most_at_once(times: Iterable[tuple[float, float]]) -> int:
    """Return how many of some spans of time were there at one moment, at most; at least 1.

    Example:
        >>> most_at_once([(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)])
        2
    """
    # At the same moment, ends come before beginnings.
    changes = sorted(change for begin, end in times for change in ((begin, 1), (end, -1)))
    return max((1, *accumulate(change for _, change in changes)))


def _task(row: SweepRow, settings: Settings, argument: Mapping[str, Any]) -> Task:  # Any: JSON
    recipe = prediction_job(row, settings).recipe
    recipe = msgspec.structs.replace(recipe, lr=1e-4, epochs=1, schedule=None, cache="off")
    data = {**argument, "recipe": msgspec.to_builtins(recipe)}
    gpus = 0 if settings.device == "cpu" else 1
    return Task(f"{row.label}, probe", PROBE, data, gpus=gpus)


def probe(argument: Any, report: Callable[[Any], object]) -> Any:  # noqa: ARG001  # Any: JSON
    """Train on a few images, and return the seconds of the start, and of an image: a task.

    A schedule is probed in its first phase, and nothing is cached: both are told by no short
    training. What is probed without a cache takes longer than it will.
    """
    began, begin = time.time(), time.monotonic()
    from freezekit.data.loading import load_training_data
    from freezekit.data.samples import ChosenSamples
    from freezekit.plugins.registering import load_registry
    from freezekit.training.loop import train

    recipe = msgspec.convert(argument["recipe"], Recipe)
    options = argument["data"]
    data = load_training_data(
        options["text"], val_fraction=options["val_fraction"], skipped=options["skipped"]
    )
    few = range(min(len(data.train), STEPS * recipe.batch_size))
    held = range(min(len(data.val), STEPS * recipe.batch_size))
    data = dataclasses.replace(
        data, train=ChosenSamples(data.train, few), val=ChosenSamples(data.val, held)
    )
    registry = load_registry(tuple(argument["block"]))
    trial = train(recipe, data, workers=argument["workers"], registry=registry).trial
    took = time.monotonic() - begin
    (epoch,) = trial.epochs
    return {
        "start": max(0.0, took - epoch.train_seconds - epoch.val_seconds),
        "per_train": epoch.train_seconds / len(few),
        "per_val": epoch.val_seconds / len(held),
        "began": began,
        "ended": time.time(),
    }
