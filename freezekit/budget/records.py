"""What is known of a step, and what is chosen, as records; bytes and FLOPs throughout."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A module that can be computed again in the backward pass.

    Attributes:
        name: Dotted.
        inside: Candidates within it, in the order of the forward pass.
        held_before_bytes: What autograd holds when its forward begins, if nothing is computed again.
        held_after_bytes: The same when its forward has ended.
        freed_bytes: How much less autograd holds if the module is computed again: what is saved in
            it, without its outputs, and minus inputs that are held for it alone.
        again_bytes: What is held on top of `held_before_bytes` while its backward runs, if it is
            computed again.
        later_gradients_bytes: Gradients of weights that are there when its backward begins.
        flops: To compute it again.
        cost: As `flops`, with what it takes to write its tensors.
    """

    name: str
    inside: tuple[Candidate, ...]
    held_before_bytes: int
    held_after_bytes: int
    freed_bytes: int
    again_bytes: int
    later_gradients_bytes: int
    flops: int
    cost: int


@dataclass(frozen=True)
class Observation:
    """A step in which nothing is computed again.

    Attributes:
        candidates: The outermost ones, in the order of the forward pass.
        fixed_bytes: The peak of the step without what autograd holds.
        held_bytes: What autograd holds at the end of the forward pass.
    """

    candidates: tuple[Candidate, ...]
    fixed_bytes: int
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
