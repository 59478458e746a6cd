"""Functions whose result is cheap to compute again from what their own gradient keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.lean.mode import Call, LeanMode, arguments, is_worth_it, needs_grad, plain
from freezekit.lean.saved_tensors import Kept, Recomputed, Whole

if TYPE_CHECKING:
    from collections.abc import Callable


class _Recording:
    """What was kept of a call, and of which tensors."""

    def __init__(self, mode: LeanMode) -> None:
        self._mode = mode
        self._kept: list[tuple[Tensor, Kept]] = []

    def keep(self, tensor: Tensor) -> Kept:
        """Keep as the mode does."""
        kept = self._mode.keep(tensor)
        self._kept.append((tensor, kept))
        return kept

    def of(self, tensor: Any) -> Kept | None:  # Any: an argument of the call
        """Return what was kept of an argument."""
        return next((kept for saved, kept in self._kept if saved is tensor), None)

    def of_parameter(self, parameter: Tensor, image: Tensor) -> Kept | None:
        """Return what was kept of a parameter, which is there in any case unless it was cast."""
        as_given = any(saved is image for saved, _ in self._kept)
        types = {saved.dtype for saved, _ in self._kept if saved.shape == image.shape}
        is_there = isinstance(parameter, nn.Parameter) and (as_given or types == {parameter.dtype})
        return self.of(parameter) or (Whole(parameter) if is_there else None)

    def of_shape(self, shape: torch.Size) -> Kept | None:
        """Return what was kept of the one tensor of this shape, which may be a copy or a cast."""
        found = [kept for saved, kept in self._kept if saved.shape == shape]
        return found[0] if len(found) == 1 else None


def activation(function: Callable[..., Tensor], mode: LeanMode, call: Call) -> Any:
    """Keeps its input in any case: its output can be computed again from that.

    Any: the function's own, here and below.
    """
    given = arguments(call, "input", "inplace")
    image = given.pop("input")
    given.pop("inplace", None)
    if not needs_grad(image) or not is_worth_it(image):
        return plain(call)
    recording = _Recording(mode)
    out = mode.run(call, recording.keep)
    kept = recording.of_shape(image.shape)
    if kept:
        mode.derive(out, function, kept, **given)
    return out


def layer_norm(mode: LeanMode, call: Call) -> Any:
    """Keeps its input in any case."""
    given = arguments(call, "input", "normalized_shape", "weight", "bias", "eps")
    image, weight, bias = given["input"], given.get("weight"), given.get("bias")
    if not is_worth_it(image):
        return plain(call)
    recording = _Recording(mode)
    out = mode.run(call, recording.keep)
    kept = recording.of_shape(image.shape)
    affine = {"weight": weight, "bias": bias}
    affine = {name: recording.of_parameter(p, image) for name, p in affine.items() if p is not None}
    if kept and None not in affine.values():
        shape, eps = given["normalized_shape"], given.get("eps", 1e-5)
        mode.derive(out, nn.functional.layer_norm, kept, shape, eps=eps, **affine)
    return out


def product(mode: LeanMode, call: Call) -> Any:
    """Of two activations, such as squeeze-and-excitation makes: kept where both factors are."""
    _, args, kwargs = call
    if kwargs or len(args) != 2 or not all(isinstance(a, Tensor) for a in args):
        return plain(call)
    if not any(is_worth_it(a) for a in args):
        return plain(call)
    recording = _Recording(mode)
    out = mode.run(call, recording.keep)
    factors = [recording.of(a) for a in args]
    if None not in factors:
        mode.derive(out, torch.mul, *factors)
    return out


def rearranged(mode: LeanMode, call: Call) -> Any:
    """Copies elements about: where its input can be computed again, so can its result."""
    func, args, kwargs = call
    derived = mode.derivation(args[0]) if args else None
    if derived is None:
        return plain(call)
    out = mode.run(call)
    if out is not args[0]:
        mode.derive(out, func, Recomputed(derived), *args[1:], **kwargs)
    return out
