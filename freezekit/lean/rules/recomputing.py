"""Rules for functions whose result can be computed again from what their own gradient needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.lean.mode import Call, LeanMode, arguments, is_eligible, needs_grad, run_as_is
from freezekit.lean.saved_tensors import Recomputed, SavedAsIs, SavedTensor

if TYPE_CHECKING:
    from collections.abc import Callable


class _Recorder:
    """Records what was saved of a call, and for which tensors."""

    def __init__(self, mode: LeanMode) -> None:
        self._mode = mode
        self._saved: list[tuple[Tensor, SavedTensor]] = []

    def save(self, tensor: Tensor) -> SavedTensor:
        """Save as the mode does."""
        saved = self._mode.save(tensor)
        self._saved.append((tensor, saved))
        return saved

    def of(self, tensor: Any) -> SavedTensor | None:  # Any: an argument of the call
        """Return what was saved for an argument, None where it was not saved."""
        return next((saved for original, saved in self._saved if original is tensor), None)

    def of_parameter(self, parameter: Tensor, image: Tensor) -> SavedTensor | None:
        """Return what was saved for a parameter, None where autocast gave the kernel a copy.

        A parameter that was not saved is alive anyway, so that it can be used as it is.
        """
        image_as_is = any(original is image for original, _ in self._saved)
        types = {original.dtype for original, _ in self._saved if original.shape == image.shape}
        uncast = image_as_is or types == {parameter.dtype}
        is_alive = isinstance(parameter, nn.Parameter) and uncast
        return self.of(parameter) or (SavedAsIs(parameter) if is_alive else None)

    def of_shape(self, shape: torch.Size) -> SavedTensor | None:
        """Return what was saved for the one tensor of this shape, which autocast may have cast."""
        found = [saved for original, saved in self._saved if original.shape == shape]
        return found[0] if len(found) == 1 else None


def activation(function: Callable[..., Tensor], mode: LeanMode, call: Call) -> Any:
    """Compute the output again from the input, which the function's gradient needs anyway.

    Args:
        function: The function that computes it; not in place, whatever `call` does.
        mode: The mode.
        call: The function and its arguments. Any: what it returns, here and below.
    """
    given = arguments(call, "input", "inplace")
    image = given.pop("input")
    given.pop("inplace", None)
    if not needs_grad(image) or not is_eligible(image):
        return run_as_is(call)
    recorder = _Recorder(mode)
    out = mode.run(call, recorder.save)
    saved = recorder.of_shape(image.shape)
    if saved:
        mode.add_recomputation(out, function, saved, **given)
    return out


def layer_norm(mode: LeanMode, call: Call) -> Any:
    """Compute the output again from the input, which the gradient needs anyway."""
    given = arguments(call, "input", "normalized_shape", "weight", "bias", "eps")
    image, weight, bias = given["input"], given.get("weight"), given.get("bias")
    if not is_eligible(image):
        return run_as_is(call)
    recorder = _Recorder(mode)
    out = mode.run(call, recorder.save)
    saved = recorder.of_shape(image.shape)
    affine = {"weight": weight, "bias": bias}
    affine = {name: recorder.of_parameter(p, image) for name, p in affine.items() if p is not None}
    if saved and None not in affine.values():
        shape, eps = given["normalized_shape"], given.get("eps", 1e-5)
        mode.add_recomputation(out, nn.functional.layer_norm, saved, shape, eps=eps, **affine)
    return out


def product(mode: LeanMode, call: Call) -> Any:
    """Compute a product of two activations again, where both factors are saved.

    Squeeze-and-excitation and gates compute such products.
    """
    _, args, kwargs = call
    if kwargs or len(args) != 2 or not all(isinstance(a, Tensor) for a in args):
        return run_as_is(call)
    if not any(is_eligible(a) for a in args):
        return run_as_is(call)
    recorder = _Recorder(mode)
    out = mode.run(call, recorder.save)
    factors = [recorder.of(a) for a in args]
    if None not in factors:
        mode.add_recomputation(out, torch.mul, *factors)
    return out


def rearranged(mode: LeanMode, call: Call) -> Any:
    """Move elements again, where the input can be computed again."""
    func, args, kwargs = call
    recomputation = mode.recomputation_of(args[0]) if args else None
    if recomputation is None:
        return run_as_is(call)
    out = mode.run(call)
    if out is not args[0]:
        mode.add_recomputation(out, func, Recomputed(recomputation), *args[1:], **kwargs)
    return out
