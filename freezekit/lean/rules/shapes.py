"""Functions whose gradient needs no more of their input than its shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from freezekit.lean.mode import Call, LeanMode, arguments, is_worth_it, needs_grad, plain
from freezekit.lean.norm import FixedBatchNorm
from freezekit.lean.pooling import Pooled, Window
from freezekit.lean.rules.recomputing import rearranged
from freezekit.lean.saved_tensors import Form, Hollow, Kept

if TYPE_CHECKING:
    from collections.abc import Callable


def convolution(mode: LeanMode, call: Call) -> Any:  # Any: the function's own, here and below
    """With a frozen weight: the gradient of the input needs the weight and the input's shape."""
    return _convolution(mode, call, arguments(call, *_CONVOLUTION, "dilation", "groups"))


def transposed_convolution(mode: LeanMode, call: Call) -> Any:
    """As `convolution`."""
    return _convolution(
        mode, call, arguments(call, *_CONVOLUTION, "output_padding", "groups", "dilation")
    )


_CONVOLUTION = "input", "weight", "bias", "stride", "padding"


def _convolution(mode: LeanMode, call: Call, given: dict[str, Any]) -> Any:
    image, weight, bias = given["input"], given["weight"], given.get("bias")
    if needs_grad(weight):
        return mode.run(call) if mode.derivation(image) else plain(call)
    if not (needs_grad(image) or needs_grad(bias)) or not is_worth_it(image):
        return plain(call)
    return mode.run(call, hollow_first(mode, readable=_reads_image(image, weight, bias, given)))


def _reads_image(image: Tensor, weight: Tensor, bias: Any, given: dict[str, Any]) -> bool:
    """Tell whether the backward kernel reads the input though the gradient does not need it."""
    # oneDNN makes the gradient of the bias along with the weight's, and reads the input for that
    if needs_grad(bias) and image.device.type != "cuda":
        return True
    # kernels for dilated convolutions take the input image by image
    if given.get("dilation", 1) not in (1, (1,) * (weight.ndim - 2), [1] * (weight.ndim - 2)):
        return True
    # kernels run in one layout, and an input in another is copied into that
    if not image.is_contiguous(memory_format=_layout(image, weight)):
        return True
    # a row is seen as an image, and copied
    if weight.ndim == 3:
        return True
    return given.get("groups", 1) > 1 and not _runs_groups_at_once(weight)


def _layout(image: Tensor, weight: Tensor) -> torch.memory_format:
    """Return the layout in which torch runs a convolution: channels-last where either says so.

    The order of strides says it: weights of one place or one channel are contiguous in both.
    """
    layouts = {suggest_memory_format(image), suggest_memory_format(weight)}
    return max(layouts, key=_LAYOUTS.index)


_LAYOUTS = torch.contiguous_format, torch.channels_last, torch.channels_last_3d


def _runs_groups_at_once(weight: Tensor) -> bool:
    """Tell whether a kernel takes all groups; others are given slices of the input, copied."""
    if weight.device.type == "cuda":
        return bool(torch.backends.cudnn.enabled) and torch.backends.cudnn.is_available()
    in_one_dnn = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    larger_than_one = any(size > 1 for size in weight.shape[2:])
    in_single = weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return in_one_dnn and in_single and larger_than_one


def shape_only(mode: LeanMode, call: Call) -> Any:
    """Average pooling, padding: the input tells where the gradient goes, not what it is."""
    image = call[1][0] if call[1] else call[2].get("input")
    if not needs_grad(image) or not is_worth_it(image):
        return plain(call)
    return mode.run(call, hollow_first(mode))


def pad(mode: LeanMode, call: Call) -> Any:
    """Padding with the image's own edges; with a constant it keeps nothing, and is a copy."""
    given = arguments(call, "input", "pad", "mode")
    if given.get("mode", "constant") in ("reflect", "replicate"):
        return shape_only(mode, call)
    return rearranged(mode, call)


def max_pool(dimensions: int, mode: LeanMode, call: Call) -> Any:
    """The shape of the input, and for each window the place of its largest value, in a byte."""
    names = "input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"
    given = arguments(call, *names)
    image = given["input"]
    if not needs_grad(image) or not is_worth_it(image):
        return plain(call)
    kernel = _per_dimension(given["kernel_size"], dimensions)
    window = Window(
        size=tuple(image.shape[-dimensions:]),
        kernel=kernel,
        stride=_per_dimension(given.get("stride"), dimensions) or kernel,
        padding=_per_dimension(given.get("padding", 0), dimensions),
        dilation=_per_dimension(given.get("dilation", 1), dimensions),
    )
    hollow = hollow_first(mode)
    returned = given.get("return_indices") or call[0].__name__.endswith("_with_indices")
    in_bytes = window.fits and not returned

    def keep(tensor: Tensor) -> Kept:
        if tensor.dtype != torch.int64:
            return hollow(tensor)
        return Pooled.of(tensor, window) if in_bytes else mode.keep(tensor)

    return mode.run(call, keep)


def batch_norm(mode: LeanMode, call: Call) -> Any:
    """With fixed statistics and a frozen weight: a factor per channel."""
    names = "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"
    given = arguments(call, *names)
    image, mean, weight, bias = (given.get(n) for n in ("input", "running_mean", "weight", "bias"))
    fixed = mean is not None and not given.get("training", False)
    if not fixed or needs_grad(weight) or not is_worth_it(image):
        return mode.run(call) if mode.derivation(given["input"]) else plain(call)
    if not (needs_grad(image) or needs_grad(bias)):
        return plain(call)
    variance, eps = given["running_var"], given.get("eps", 1e-5)
    return FixedBatchNorm.apply(image, mean, variance, weight, bias, eps)


def hollow_first(mode: LeanMode, *, readable: bool = False) -> Callable[[Tensor], Kept]:
    """Keep the form alone of the first tensor that is saved, the input, as it went to the kernel.

    Kernels first ask for the layout that they like. Only an input that has it is not copied, and so
    can do without memory.
    """
    seen = False

    def keep(tensor: Tensor) -> Kept:
        nonlocal seen
        if seen:
            return mode.keep(tensor)
        seen = True
        return Hollow(Form.of(tensor), readable or not _in_usual_layout(tensor))

    return keep


def _in_usual_layout(tensor: Tensor) -> bool:
    if tensor.is_contiguous():
        return True
    # kernels for volumes and for double precision know the plain layout only
    if tensor.ndim != 4 or tensor.dtype == torch.float64:
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def _per_dimension(given: Any, dimensions: int) -> tuple[int, ...]:
    if given is None or given == ():
        return ()
    sizes = (given,) if isinstance(given, int) else tuple(given)
    return sizes * dimensions if len(sizes) == 1 else sizes
