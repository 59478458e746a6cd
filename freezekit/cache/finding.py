"""Find what can be skipped in a model, and prove that the rest is the same without it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from freezekit.cache.calls import outputs_of
from freezekit.cache.candidates import SAMPLES, find_candidates
from freezekit.cache.layout import same
from freezekit.cache.prefix import Prefix
from freezekit.errors import CacheError
from freezekit.model.nested import tensors
from freezekit.model.random_state import RandomState, cuda_devices

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.cache.candidates import Candidates, Run

# Any in this file: a model may take and return anything.


OTHER_IMAGES = 0.0, 1e4
"""Of what images are made to see whether the rest compares them with something: nothing that is
compared with NaN shows."""
IMAGES_TAKEN = "what is trained takes the images themselves, beside what is frozen"


def find_prefix(model: nn.Module, run: Run, batch: Any, few: Any) -> Prefix:
    """Find what can be skipped, and prove on a batch that the rest is the same without it.

    Args:
        model: A model with a frozen part, in the mode of training. Its buffers and random states
            may change.
        run: Calls it with a batch, as training does.
        batch: `SAMPLES[0]` samples.
        few: The first `SAMPLES[1]` of them.

    Raises:
        CacheError: Nothing comes before all that is trained, or it depends on more than the sample.
    """
    calls: list[None] = []
    hooks = (
        model.register_forward_pre_hook(lambda *_: calls.append(None)),
        model.register_forward_pre_hook(_check_input, with_kwargs=True),
    )
    try:
        found = find_candidates(model, run, batch, few)
    except CacheError as error:
        if not calls:
            raise CacheError("call= did not call the model with the batch it was given") from error
        raise
    finally:
        for hook in hooks:
            hook.remove()
    return _least(model, run, batch, found)


def _check_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse a model that takes its images as anything but a tensor of all samples.

    Raises:
        CacheError: It does.
    """
    values = [*args, *kwargs.values()]
    if not any(isinstance(v, Tensor) and v.dim() and len(v) in SAMPLES for v in values):
        names = ", ".join(type(value).__name__ for value in values) or "nothing"
        raise CacheError(
            f"the model was given {names}: features take the place of one tensor with all images "
            "of a batch, which must be an argument of its own, and not within a list or a dict; "
            "models of detection, which take a list of images, cannot be cached"
        )


def _least(model: nn.Module, run: Run, batch: Any, whole: Candidates) -> Prefix:
    """Return the prefix with the smallest cut whose outputs are all that the rest needs.

    Raises:
        CacheError: No cut leaves loss and gradients as they are.
    """
    with torch.no_grad():
        found = outputs_of(model, partial(run, batch), whole.outputs)
    wanted = _result(model, partial(run, batch))
    if wanted[0] is None or wanted[0].isnan():
        raise CacheError(
            "the model gives NaN for the first samples, so that nothing can be proved; check the "
            "images and the weights"
        )
    modules = dict(model.named_modules())

    def enough(prefix: Prefix, given: Any) -> Prefix | None:
        """Return the prefix if loss and gradients are the same with it."""
        if not prefix.leaves:
            return None
        rows = prefix.rows(found, SAMPLES[0])
        before = rows._version
        try:
            got = _result(model, lambda: prefix.run(model, partial(run, given), rows))
        except Exception:  # noqa: BLE001  # a stub may break any code of the model
            return None
        is_same = all(
            a is b if a is None or b is None else same(a, b)
            for a, b in zip(got, wanted, strict=True)
        )
        return replace(prefix, is_written=rows._version != before) if is_same else None

    stub = _poisoned(batch)
    calls = tuple(whole.outputs)
    every = Prefix(calls, calls, whole.outputs, whole.times)
    suffixes = (replace(every, cut=calls[-n:]) for n in range(1, len(calls) + 1))
    # Mostly the last call is all that the rest needs.
    prefix = next((each for cut in suffixes if (each := enough(cut, stub))), None)
    if prefix is None:
        raise CacheError(
            f"{IMAGES_TAKEN}; freeze all that takes them"
            if enough(every, batch)
            else "what is trained uses values of the frozen part that no module returns"
            + (f"; {whole.reason}" if whole.reason else "")
            + ": the prefix of this model cannot be cached at this boundary"
        )
    for call in prefix.cut if len(prefix.cut) > 1 else ():
        fewer = [replace(prefix, cut=tuple(kept for kept in prefix.cut if kept != call))]
        if not any(True for _ in modules[call.module].parameters()):
            fewer.append(prefix.without(call))  # a pooling or an identity costs less than its row
        prefix = next((each for less in fewer if (each := enough(less, stub))), prefix)
    for value in OTHER_IMAGES:
        if not enough(prefix, _poisoned(batch, value)):
            raise CacheError(f"{IMAGES_TAKEN}, such as a mask of what is empty in them")
    return prefix


def _result(model: nn.Module, run: Callable[[], Any]) -> list[Tensor | None]:
    """Return a loss and the gradients of what is trained, from one random state and buffers."""
    devices = cuda_devices(model)
    state = RandomState.now(devices)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.enable_grad():
            out = run()
        loss = sum(
            (t.float().square().mean() for t in tensors(out) if t.is_floating_point()),
            torch.zeros(()),
        )
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    finally:
        state.restore()
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return [loss.detach(), *gradients]


def _poisoned(batch: Any, value: float = float("nan")) -> Any:
    """Return a batch whose images are one number, mostly NaN: what reads them shows."""

    def poison(given: Any) -> Any:
        is_image = isinstance(given, Tensor) and given.is_floating_point() and given.dim() >= 3
        return torch.full((), value, device=given.device).expand_as(given) if is_image else given

    return pytree.tree_map(poison, batch)
