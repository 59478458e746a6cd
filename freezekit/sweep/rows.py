"""A row of a sweep as its trials come in; pure, and without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit.sweep.recipes import Job
    from freezekit.sweep.records import RowStatus, Settings, SweepRow
    from freezekit.training.records import Trial

FAILED = ("diverged", "oom", "error")


def with_trial(row: SweepRow, job: Job, trial: Trial, settings: Settings) -> SweepRow:
    """Return a row with what became of one of its trainings.

    Example:
        >>> from freezekit.sweep.recipes import trial_jobs
        >>> from freezekit.sweep.records import Candidate, Settings, SweepRow
        >>> from freezekit.training.records import Trial
        >>> settings = Settings(4, (0, 1))
        >>> row = SweepRow(Candidate("timm:test_vit", "full"), "full", lr=1e-3)
        >>> first, second = trial_jobs(row, settings, 4)
        >>> failed = Trial(second.recipe, "diverged", "the loss is nan in step 3")
        >>> row = with_trial(row, second, failed, settings)
        >>> row = with_trial(row, first, Trial(first.recipe), settings)
        >>> [trial.recipe.seed for trial in row.trials], row.status, row.error
        ([0, 1], 'diverged', 'seed 1: the loss is nan in step 3')
    """
    if job.is_prediction:
        if trial.status in FAILED:
            return replace(row, status=trial.status, error=trial.error)
        return replace(row, peak_bytes=trial.peak_bytes)
    if job.hold_out:
        return replace(row, pilots=_placed(row.pilots, trial))
    return with_status(replace(row, trials=_placed(row.trials, trial)), settings)


def with_status(row: SweepRow, settings: Settings) -> SweepRow:
    """Return a row with the status that its trials make."""
    failed = next((trial for trial in row.trials if trial.status in FAILED), None)
    if failed is not None:
        return replace(
            row, status=failed.status, error=f"seed {failed.recipe.seed}: {failed.error}"
        )
    if row.stopped_at is not None:
        return replace(row, status="stopped", error=stopped_text(row.stopped_at))
    cut = next((trial for trial in row.trials if trial.status == "stopped"), None)
    if cut is not None:
        why = f"seed {cut.recipe.seed} after epoch {len(cut.epochs)}: {cut.error}"
        return replace(row, status="stopped", error=why)
    ended = [trial for trial in row.trials if trial.status == "ok"]
    status: RowStatus = "ok" if len(ended) == len(settings.seeds) else "running"
    return replace(row, status=status, error=None)


def with_pilots_failed(row: SweepRow, metric: str) -> SweepRow:
    """Return a row none of whose pilots ended with a metric, so that it has no learning rate."""
    first = row.pilots[0]
    if first.status == "ok":
        said = next((note for note in first.notes if repr(metric) in note), "it is not finite")
        return replace(row, status="error", error=f"no pilot has a value of {metric!r}: {said}")
    status: RowStatus = first.status if first.status in FAILED else "stopped"
    is_same = len({pilot.error for pilot in row.pilots}) == 1  # no learning rate made it fail
    why = first.error if is_same else f"no pilot ended; lr {first.recipe.lr}: {first.error}"
    return replace(row, status=status, error=why)


def stopped(row: SweepRow, epoch: int) -> SweepRow:
    """Return a row that is stopped as hopeless."""
    said = stopped_text(epoch)
    trials = tuple(replace(trial, status="stopped", error=said) for trial in row.trials)
    return replace(row, trials=trials, stopped_at=epoch, status="stopped", error=said)


def stopped_text(epoch: int) -> str:
    """Return why a row was stopped."""
    return f"hopeless after epoch {epoch}"


def _placed(trials: Sequence[Trial], trial: Trial) -> tuple[Trial, ...]:
    """Return trials in the order of rates and seeds, one of them new or further."""
    others = [each for each in trials if each.recipe != trial.recipe]
    return tuple(sorted([*others, trial], key=_order))


def _order(trial: Trial) -> tuple[int, float]:
    lr = trial.recipe.lr
    return trial.recipe.seed, 0.0 if lr == "auto" else lr


def is_cut(row: SweepRow) -> bool:
    """Return whether a row is not trained to its end for want of time."""
    return row.status == "running" or (row.status == "stopped" and row.stopped_at is None)


def ended_trials(row: SweepRow) -> int:
    """Return how many trials of a row will not go on: one that a deadline has cut will."""
    return sum(
        trial.status in ("ok", *FAILED)
        or (trial.status == "stopped" and row.stopped_at is not None)
        for trial in row.trials
    )


def without_metric(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """Return the rows that are trained, and have no value of the metric that is compared."""
    return [row for row in rows if row.status == "ok" and row.metric is None]


def failed_rows(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """Return the rows that failed, which a sweep's exit code tells."""
    return [row for row in rows if row.status in FAILED]
