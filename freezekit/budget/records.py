"""What is known of a step, and what is chosen, as records; bytes and FLOPs throughout."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A module that can be computed again in the backward pass.

    Peaks are totals of the step. A moment of the backward pass belongs to the latest module of
    which something is still held.

    Attributes:
        name: Dotted.
        inside: Candidates within it, in the order of the forward pass.
        freed_bytes: How much less autograd holds if the module is computed again: what is saved in
            it, without its outputs, and minus inputs that are held for it alone.
        peak_bytes: While it runs and before the first candidate within it, if nothing is computed
            again.
        after_peak_bytes: After it and before the next candidate, likewise.
        again_peak_bytes: While its backward runs, if it alone is computed again; at most.
        cost: FLOPs to compute it again, with what it takes to write its tensors.
    """

    name: str
    inside: tuple[Candidate, ...]
    freed_bytes: int
    peak_bytes: int
    after_peak_bytes: int
    again_peak_bytes: int
    cost: int


@dataclass(frozen=True)
class Observation:
    """A step in which nothing is computed again.

    Attributes:
        candidates: The outermost ones, in the order of the forward pass.
        peak_bytes: Before the first candidate.
        held_bytes: What autograd holds at the end of the forward pass.
    """

    candidates: tuple[Candidate, ...]
    peak_bytes: int
    held_bytes: int


@dataclass(frozen=True)
class Predicted:
    """The prediction for a step in which some modules are computed again.

    Attributes:
        names: Of these modules.
        peak_bytes: The highest total of the step.
        flops: Of the step.
    """

    names: tuple[str, ...]
    peak_bytes: int
    flops: int


@dataclass(frozen=True)
class Choice:
    """What is computed again, and what that gives.

    Attributes:
        step: As predicted.
        plain: The prediction for the same step with nothing computed again.
        budget_bytes: What the step may take.
    """

    step: Predicted
    plain: Predicted
    budget_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the step is within the budget by prediction."""
        return self.step.peak_bytes <= self.budget_bytes

    @property
    def more_flops(self) -> float:
        """The FLOPs that are computed again, as a fraction of the step's."""
        return self.step.flops / self.plain.flops - 1 if self.plain.flops else 0.0
