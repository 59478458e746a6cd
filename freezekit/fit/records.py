"""The result of `freezekit fit`, as records; bytes and fractions throughout."""

from __future__ import annotations

import math
from typing import Any, Literal

from freezekit.results.records import Memory, OfVariant, Record, Status, Workload
from freezekit.results.variant import Variant


class WithinBudget(Record, frozen=True):
    """A batch that does not fit, and fits where a part of the model is computed again.

    Attributes:
        lean: The text to give, such as "budget:2GiB".
        peak_bytes: As predicted with it.
        more_flops: What is computed again, as a fraction of the FLOPs of a step.
    """

    lean: str
    peak_bytes: int
    more_flops: float


class FitRow(OfVariant, frozen=True):
    """One strategy.

    Attributes:
        strategy, lean: As in a bench row.
        status, error: Likewise.
        batch_size: The largest that fits, 0 where none does; or the one that was asked for.
        memory: Predicted at that batch; where none fits, at the smallest that the model takes.
        next_peak_bytes: Predicted for a batch larger by one; None where it was not predicted.
        tried: Batches whose peak was predicted.
        measured_peak_bytes, measured_next_peak_bytes: Of real steps, where they were asked for.
        cached: Whether its steps take features of a cache in place of images.
        cache_bytes_per_sample: Of the cache; None where it is not cached.
        compiled: Whether `torch.compile` compiles the model. Nothing is predicted then: `memory`,
            `next_peak_bytes` and `tried` are of real steps.
        search_seconds: What these steps took, with the time to compile each; None where none ran.
        within_budget: How the batch would fit, where it does not; None where it does, where another
            row tells, and where nothing helps.
    """

    status: Status = "ok"
    error: str | None = None
    batch_size: int | None = None
    memory: Memory = Memory()
    next_peak_bytes: int | None = None
    tried: int = 0
    measured_peak_bytes: int | None = None
    measured_next_peak_bytes: int | None = None
    cached: bool = False
    cache_bytes_per_sample: int | None = None
    compiled: bool = False
    search_seconds: float | None = None
    within_budget: WithinBudget | None = None

    @property
    def variant(self) -> Variant:
        """What the row is about."""
        return Variant(self.strategy, self.lean, self.cached, self.compiled)


class WorkspaceCheck(Record, frozen=True):
    """Real convolutions, run where `fit` ran, compared with the rules of `memory.workspace`.

    Attributes:
        cpu_capability: The vector instructions that torch uses, such as "AVX512".
        operators: How many were run.
        differing: Those that held clearly more or less than the rules say, in words.
        largest_error: The largest difference, as a fraction of what the operator holds at its
            peak. Positive: it held more.
    """

    cpu_capability: str
    operators: int
    differing: tuple[str, ...]
    largest_error: float

    @property
    def holds(self) -> bool:
        """Whether the rules are true here."""
        return not self.differing


class Fit(Record, frozen=True):
    """What fits into a memory, strategy by strategy.

    Attributes:
        kind: Tells the file from that of a bench run.
        memory_bytes: The memory that a step has to fit into.
        margin: The fraction of the predicted peak that is left free.
        asked_batch_size: None where the largest was searched.
        workspace_check: None where no workspace is counted, as on CUDA, or in older files.
        samples: Of the data set, for the size of its caches; None where they were not given.
    """

    freezekit: str
    workload: Workload
    env: dict[str, Any]  # Any: facts of many types
    memory_bytes: int
    margin: float
    asked_batch_size: int | None = None
    rows: tuple[FitRow, ...] = ()
    complete: bool = False
    kind: Literal["freezekit fit"] = "freezekit fit"
    schema_version: int = 1
    workspace_check: WorkspaceCheck | None = None
    samples: int | None = None

    @property
    def limit_bytes(self) -> int:
        """The largest predicted peak that leaves the margin free."""
        return limit_bytes(self.memory_bytes, self.margin)

    def fits(self, row: FitRow) -> bool | None:
        """Return whether the row's batch fits by prediction; None where that is not known.

        Of a compiled row, by a real step; no margin is left then.
        """
        if row.status != "ok" or row.memory.peak_bytes is None:
            return None
        limit = self.memory_bytes if row.compiled else self.limit_bytes
        return row.batch_size != 0 and row.memory.peak_bytes <= limit

    def held(self, row: FitRow) -> bool | None:
        """Return whether a real step of the row's batch fitted; None where none was run."""
        if row.measured_peak_bytes is None:
            return None
        return row.measured_peak_bytes <= self.memory_bytes


def limit_bytes(memory_bytes: int, margin: float) -> int:
    """Return the largest predicted peak that leaves a margin free.

    Example:
        >>> limit_bytes(1000, 0.25)
        800
    """
    return math.floor(memory_bytes / (1 + margin))
