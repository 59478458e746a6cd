"""How a model carries a budget: attributes of its modules' instances, as those of lean."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from freezekit.budget.decide import decide
from freezekit.budget.describe import described
from freezekit.budget.segments import SegmentForward, has_hooks_on_saved_tensors
from freezekit.lean import Lean
from freezekit.lean.attachment import ForwardReplacement, must_not_act

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.budget.records import Choice

_choosing = threading.local()


class BudgetedLean(Lean):
    """Makes a model lean, and computes again what does not fit into a budget.

    What is computed again is chosen in the first forward that needs gradients, as the size of a
    batch is not known before. It is chosen anew for a larger batch, and for other parameters,
    modes or autocast than before; a choice is kept for each of these.

    Attributes:
        budget_bytes: What a training step may take.
        choice: The one in force; None before the first forward.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8))
        >>> lean = BudgetedLean(model, 2**20)
        >>> lean.attach()
        >>> _ = model(torch.ones(4, 8))
        >>> lean.choice.fits, lean.choice.step.names
        (True, ())
        >>> lean.detach()
        >>> "forward" in vars(model)
        False
    """

    def __init__(self, model: nn.Module, budget_bytes: int) -> None:
        super().__init__(model)
        self.budget_bytes = budget_bytes
        self.choice: Choice | None = None
        self._model = model
        self._segments: list[SegmentForward] = []
        self._known: dict[tuple[Any, ...], tuple[tuple[int, ...], Choice | None]] = {}
        self._in_force: tuple[Any, ...] = ()
        self._root = _BudgetForward(model, self)

    @property
    def description(self) -> str:
        """What it does to the model, for a report."""
        return f"{super().description}; {described(self.choice, self.budget_bytes)}"

    @property
    def recomputed(self) -> tuple[str, ...]:
        """Names of the modules that are computed again as a whole."""
        return self.choice.step.names if self.choice else ()

    @property
    def more_flops(self) -> float:
        """The FLOPs of these modules, as a fraction of those of a step."""
        return self.choice.more_flops if self.choice else 0.0

    def attach(self) -> None:
        """Replace the forwards."""
        super().attach()
        self._root.previous = vars(self._model).get("forward")
        self._root.attach()

    def detach(self) -> None:
        """Restore the forwards."""
        self._take(None)
        self._root.detach()
        super().detach()

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put a choice in force that holds for a forward with these arguments."""
        sizes = tuple(t.numel() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        situation = _situation(self._model, len(sizes))
        known = self._known.get(situation)
        if known is not None and all(a <= b for a, b in zip(sizes, known[0], strict=True)):
            if situation != self._in_force:
                self._in_force = situation
                self._take(known[1])
            return
        self._take(None)
        with choosing_nothing(), self._root.alone():  # no copy chooses while its original does
            choice = decide(self._model, args, kwargs, self.budget_bytes)
        self._known[situation], self._in_force = (sizes, choice), situation
        self._take(choice)

    def _take(self, choice: Choice | None) -> None:
        while self._segments:
            self._segments.pop().detach()
        self.choice = choice
        for name in choice.step.names if choice else ():
            segment = SegmentForward(self._model.get_submodule(name))
            segment.attach()
            self._segments.append(segment)


class _BudgetForward(ForwardReplacement):
    """Chooses before the forward of the model, where that is needed."""

    def __init__(self, module: nn.Module, lean: BudgetedLean) -> None:
        super().__init__(module)
        self._lean = lean

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the model's forward does."""
        if self.is_active and self._may_choose():
            self._lean.prepare(args, kwargs)
        return self._forward(*args, **kwargs)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the outermost forward of the model: others have dealt with the arguments already."""
        attributes = self.module.__dict__
        outermost, attributes["forward"] = attributes.get("forward"), self
        try:
            yield
        finally:
            attributes.pop("forward")
            if outermost is not None:
                attributes["forward"] = outermost

    def _may_choose(self) -> bool:
        if must_not_act() or has_hooks_on_saved_tensors() or getattr(_choosing, "is_off", False):
            return False
        return not any(
            p.is_meta for p in self.module.parameters()
        )  # what is on "meta" takes nothing

    def replicate(self) -> nn.Module:
        """Copy the module as `DataParallel` does; a replica is lean, without a budget."""
        assert isinstance(self.previous, ForwardReplacement)
        return self.previous.replicate()


@contextmanager
def choosing_nothing() -> Iterator[None]:
    """Let no model choose, for forwards of this thread that are no steps of a training.

    Example:
        >>> lean = BudgetedLean(nn.Sequential(nn.Linear(8, 8)), 2**20)
        >>> lean.attach()
        >>> with choosing_nothing():
        ...     _ = lean._model(torch.ones(4, 8))
        >>> lean.choice is None
        True
    """
    before = getattr(_choosing, "is_off", False)
    _choosing.is_off = True
    try:
        yield
    finally:
        _choosing.is_off = before


def _situation(model: nn.Module, count: int) -> tuple[Any, ...]:
    """Return what a choice depends on, beside the sizes of so many arguments."""
    device = next((p.device.type for p in model.parameters()), "cpu")
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    return (
        count,
        device,
        autocast,
        tuple(p.requires_grad for p in model.parameters()),
        tuple(module.training for module in model.modules()),
    )
