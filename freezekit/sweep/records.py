"""The result of a sweep, as records; fractions, bytes and seconds throughout; no torch."""

from __future__ import annotations

from typing import Any, Literal

from freezekit.results.lean_text import LeanChoice
from freezekit.results.records import Count, Natural, Plugin, Record, Seconds, Whole
from freezekit.results.variant import Variant
from freezekit.training.records import DataFacts, Finite, Trial

SWEEP_KIND = "freezekit sweep"
RowStatus = Literal["running", "ok", "stopped", "diverged", "oom", "error"]


class Estimate(Record, frozen=True):
    """A figure with its interval.

    Attributes:
        value: The mean.
        low, high: Ends of the 95 % interval; None where there is one seed, or all seeds have
            the same figure.
    """

    value: Finite
    low: Finite | None = None
    high: Finite | None = None


class Candidate(Record, frozen=True):
    """What is compared: all of a recipe that differs between the rows of a sweep.

    Attributes:
        lr: The learning rate; "grid" where pilots choose it, "auto" where a range test does.
    """

    model: str
    strategy: str
    schedule: str | None = None
    lean: LeanChoice = False
    lr: float | Literal["auto", "grid"] = "grid"
    image_size: Natural | None = None

    @property
    def label(self) -> str:
        """The strategy or schedule, as rows of a bench are called."""
        return Variant(self.schedule or self.strategy, self.lean).label


class SweepRow(Record, frozen=True):
    """A candidate with its trials.

    Attributes:
        candidate: What it is.
        label: Its name in this sweep: `candidate.label`, and what else tells it from other rows,
            such as the model.
        is_baseline: Whether it is stock `full` of its model, with which others are compared.
        status: "ok" where all its trials are done; else that of the first one that is not.
        error: Why, where it is not "ok".
        pilots: Short for "pilot trials": one for each learning rate of the grid, on a part of the
            training images; validation images are never seen by them.
        trials: One for each seed, in order.
        lr: The learning rate of its trials; None before it is known, and with "auto".
        metric: The figure that is compared, at the last epoch.
        metric_to_baseline: The difference to the baseline, paired by seed and by image.
        train_seconds, train_seconds_to_baseline: Of a whole training; the ratio to the baseline's.
        gflops, gflops_to_baseline: Likewise, counted: no interval.
        peak_bytes: As predicted.
        on_front: No other row has a better metric at no more GFLOP and memory; None before it is
            known.
        stopped_at: The epoch after which it was stopped as hopeless; None if it was not.
    """

    candidate: Candidate
    label: str
    is_baseline: bool = False
    plugin: Plugin | None = None
    status: RowStatus = "running"
    error: str | None = None
    pilots: tuple[Trial, ...] = ()
    trials: tuple[Trial, ...] = ()
    lr: float | None = None
    metric: Estimate | None = None
    metric_to_baseline: Estimate | None = None
    train_seconds: Estimate | None = None
    train_seconds_to_baseline: Estimate | None = None
    gflops: Finite | None = None
    gflops_to_baseline: Finite | None = None
    peak_bytes: Count | None = None
    peak_bytes_to_baseline: Finite | None = None
    on_front: bool | None = None
    stopped_at: Natural | None = None


class BudgetChoice(Record, frozen=True):
    """What a budget chose from: a resume tells an option that has changed from one that was cut.

    Attributes:
        seeds: How many were asked for.
        lr_grid: As asked for.
        fits: Whether one epoch of each training fitted into the budget.
    """

    seeds: Natural
    lr_grid: tuple[float, ...] = ()
    fits: bool = True


class Settings(Record, frozen=True):
    """What was asked for, the same for all rows.

    Attributes:
        epochs: Of a training; as chosen, where a budget was given.
        seeds: Those of the trials.
        metric: The figure of `Epoch.val` that is compared.
        higher_is_better: Of that figure.
        lr_grid: Learning rates that pilots try.
        rungs: Epochs after which hopeless candidates are stopped; () where none is.
        budget_seconds: Of the whole sweep; None without one.
        budget_choice: What the budget chose epochs, seeds and pilots from; None without one.
        engine: "local", "ray" or "slurm".
        at_once: Trials that ran at the same time; None where the engine decides.
        batch_size, optimizer, weight_decay, warmup, label_smoothing, ema, amp, augment, cache,
            pretrained, device, threads: As in `Recipe`.
    """

    epochs: Natural
    seeds: tuple[Whole, ...]
    metric: str = "accuracy"
    higher_is_better: bool = True
    lr_grid: tuple[float, ...] = ()
    rungs: tuple[Natural, ...] = ()
    budget_seconds: Seconds | None = None
    budget_choice: BudgetChoice | None = None
    engine: str = "local"
    at_once: Natural | None = None
    batch_size: Natural = 32
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    ema: float | None = None
    amp: str | None = None
    augment: str = "standard"
    cache: str = "auto"
    pretrained: bool = False
    device: str = "cpu"
    threads: Natural | None = None


class Sweep(Record, frozen=True):
    """All candidates of a sweep.

    Attributes:
        kind: Tells the file from others.
        data: The images.
        recommended: The label of the cheapest row that is about as good as the best; None before it
            is known.
        sentences: What the intervals carry, for the reader.
        notes: Further sentences: what was cut, what failed.
        seconds: Of the whole sweep, over all its sessions.
        complete: Whether nothing is left to train.
    """

    freezekit: str
    data: DataFacts
    settings: Settings
    env: dict[str, Any]  # Any: facts of many types
    rows: tuple[SweepRow, ...] = ()
    recommended: str | None = None
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Seconds | None = None
    complete: bool = False
    kind: Literal["freezekit sweep"] = "freezekit sweep"
    schema_version: Literal[1] = 1
