"""A training step of a copy of a model, on fake tensors: its peak and FLOPs without running it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from freezekit.budget.records import Predicted
from freezekit.budget.segments import FOR_ONE_RUN, SegmentForward
from freezekit.memory.fake import make_fake
from freezekit.memory.tracker import StorageTracker
from freezekit.memory.workspace import cpu_workspace
from freezekit.model.copies import eagerly, meta_copy
from freezekit.model.flops import flop_counter
from freezekit.model.outside import caches_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.utils.flop_counter import FlopCounterMode

MOMENTS = 2
"""Numbers that the optimizer is taken to keep for each trained one, as Adam and AdamW do. A forward
does not know its optimizer; one that keeps fewer leaves a part of the budget free."""


class FakeStep:
    """A step that can be repeated. The model that it was made of is not changed.

    The peak is that of forward and backward, with parameters, buffers, inputs, gradients, the state
    of an optimizer (`MOMENTS`), and on the CPU the workspace of operators as far as it is known.
    Gradients are there from the backward pass on, as after `zero_grad()`. The step of the optimizer
    itself and the loss are not counted.

    Attributes:
        model: The copy, in the modes of the original.
        state_bytes: Of the optimizer.
    """

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Copy the model.

        Args:
            model: Real, or on fake tensors of another mode.
            args: What its forward takes.
            kwargs: Likewise.
        """
        self._original = model
        self._device = next(model.parameters()).device
        with self._apart():
            self.model = meta_copy(model)
            for module, its_copy in zip(model.modules(), self.model.modules(), strict=True):
                its_copy.training = module.training
            kept = map(_kept_of_one_run, self.model.modules())
            self._kept = [each for each in kept if each is not None]
            self._mode = make_fake(self.model, str(self._device))
            with self._mode:
                self._args, self._kwargs = tree_map_only(Tensor, _without_values, (args, kwargs))
        weights = {p: p.nbytes for p in self.model.parameters() if p.requires_grad}
        self.state_bytes = MOMENTS * sum(weights.values())

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Run nothing under the modes of the caller, and leave nothing behind."""
        devices = [self._device] if self._device.type == "cuda" else []
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=devices))
            stack.enter_context(_disable_current_modes())
            stack.enter_context(caches_kept(self._original))
            stack.enter_context(eagerly(self._original))
            yield

    @contextmanager
    def tracked(self) -> Iterator[tuple[StorageTracker, FlopCounterMode]]:
        """Give what counts, with the model and its inputs counted already, to run within."""
        on_cpu = self._device.type == "cpu"
        tracker = StorageTracker(self._device.type, cpu_workspace if on_cpu else None)
        given = [t for t in tree_leaves((self._args, self._kwargs)) if isinstance(t, Tensor)]
        tracker.add([*self.model.parameters(), *self.model.buffers(), *given])
        counter = flop_counter(self.model)
        with self._apart(), self._mode, tracker, counter:
            yield tracker, counter

    def forward(self) -> list[Tensor]:
        """Return the outputs that need a gradient; called within `tracked`."""
        for each in self._kept:
            each.clear()
        outputs = tree_leaves(self.model(*self._args, **self._kwargs))
        torch.clear_autocast_cache()  # as at the end of the user's `autocast`
        return [each for each in outputs if isinstance(each, Tensor) and each.requires_grad]

    def backward(self, outputs: list[Tensor]) -> None:
        """Run the backward pass as outside of `autocast`; the list of outputs is emptied.

        Gradients stay until the next one.
        """
        gradients = [torch.empty_like(each) for each in outputs]
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            roots = tuple(outputs)
            outputs.clear()
            torch.autograd.backward(roots, gradients)

    def predict(self, names: Sequence[str] = ()) -> Predicted:
        """Return the prediction for a step in which these modules are computed again."""
        segments = [SegmentForward(self.model.get_submodule(name)) for name in names]
        for segment in segments:
            segment.attach()
        try:
            with self.tracked() as (tracker, counter):
                outputs = self.forward()
                if outputs:
                    self.backward(outputs)
            return Predicted(tuple(names), self.peak_bytes(tracker), counter.get_total_flops())
        finally:
            for segment in reversed(segments):
                segment.detach()
            self.clear()

    def peak_bytes(self, tracker: StorageTracker) -> int:
        """Return the peak of what was tracked, with the state of the optimizer."""
        return tracker.peak_with_workspace_bytes + self.state_bytes

    def clear(self) -> None:
        """Drop the gradients."""
        for parameter in self.model.parameters():
            parameter.grad = None


def _kept_of_one_run(module: nn.Module) -> Any:  # Any: as in `FOR_ONE_RUN`
    return getattr(module.__dict__.get("forward"), "__dict__", {}).get(FOR_ONE_RUN)


def _without_values(tensor: Tensor) -> Tensor:
    """Return a tensor without values on the same device; called within the mode of fake tensors."""
    fake = torch.empty_strided(
        tuple(tensor.shape), tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return fake.requires_grad_(tensor.requires_grad)
