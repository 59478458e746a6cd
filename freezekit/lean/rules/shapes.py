"""Rules for functions whose gradient needs only the shape of their input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from freezekit.lean.mode import Call, LeanMode, arguments, is_eligible, needs_grad, run_as_is
from freezekit.lean.norm import FixedBatchNorm
from freezekit.lean.placeholders import run_on_placeholder
from freezekit.lean.pooling import SavedIndices, Window
from freezekit.lean.rules.recomputing import rearranged

if TYPE_CHECKING:
    from freezekit.lean.saved_tensors import SavedTensor

_CONVOLUTION = "input", "weight", "bias", "stride", "padding"
_LAYOUTS = torch.contiguous_format, torch.channels_last, torch.channels_last_3d


def convolution(
    mode: LeanMode, call: Call
) -> Any:  # Any: what the function returns, here and below
    """Save the input's shape where the weight is frozen.

    The gradient of the input needs the weight and the input's shape.
    """
    return _convolution(mode, call, arguments(call, *_CONVOLUTION, "dilation", "groups"))


def transposed_convolution(mode: LeanMode, call: Call) -> Any:
    """Save the input's shape where the weight is frozen, as `convolution` does."""
    names = *_CONVOLUTION, "output_padding", "groups", "dilation"
    return _convolution(mode, call, arguments(call, *names))


def _convolution(mode: LeanMode, call: Call, given: dict[str, Any]) -> Any:
    image, weight, bias = given["input"], given["weight"], given.get("bias")
    if needs_grad(weight):
        return mode.run(call) if mode.recomputation_of(image) else run_as_is(call)
    if not (needs_grad(image) or needs_grad(bias)) or not is_eligible(image):
        return run_as_is(call)
    needs_memory = _probably_reads_input(image, weight, bias, given)
    return run_on_placeholder(mode, call, [image, bias], needs_memory=needs_memory)


def _probably_reads_input(image: Tensor, weight: Tensor, bias: Any, given: dict[str, Any]) -> bool:
    """Tell whether the backward of a convolution reads or copies its input, as far as is known.

    A guess: it saves the time of an attempt without memory, and fake tensors show the memory that
    real ones will need. Where it is wrong, `run_on_placeholder` notices.
    """
    undilated = 1, (1,) * (weight.ndim - 2), [1] * (weight.ndim - 2)
    return (
        # oneDNN computes the gradient of the bias together with the weight's, from the input.
        (needs_grad(bias) and image.device.type != "cuda")
        # Kernels for dilated convolutions slice the input, to take one image at a time.
        or given.get("dilation", 1) not in undilated
        # Kernels run in one layout and first copy an input that has another one.
        or not _in_layout_of_kernel(image, weight)
        # A 1d convolution runs as a 2d one on a copy of its input.
        or weight.ndim == 3
        # Without a kernel for all groups at once, each group runs on a copied slice of the input.
        or (given.get("groups", 1) > 1 and not _runs_groups_at_once(weight))
    )


def _in_layout_of_kernel(image: Tensor, weight: Tensor) -> bool:
    """Tell whether torch runs a convolution in the layout that the input has.

    It does so in channels-last where input or weight suggest it. `suggest_memory_format` goes by
    the order of the strides. `is_contiguous` would not do: a weight of one position or one channel
    is contiguous in both layouts.
    """
    if _has_default_strides(image) and _has_default_strides(weight):  # the usual case, and quick
        return True
    layouts = {suggest_memory_format(image), suggest_memory_format(weight)}
    return image.is_contiguous(memory_format=max(layouts, key=_LAYOUTS.index))


def _has_default_strides(tensor: Tensor) -> bool:
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride()), strict=True):
        if stride != expected:
            return False
        expected *= size
    return True


def _runs_groups_at_once(weight: Tensor) -> bool:
    """Tell whether one kernel takes all groups; other kernels get copied slices of the input."""
    if weight.device.type == "cuda":
        return bool(torch.backends.cudnn.enabled) and torch.backends.cudnn.is_available()
    in_one_dnn = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    larger_than_one = any(size > 1 for size in weight.shape[2:])
    in_single = weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return in_one_dnn and in_single and larger_than_one


def shape_only(mode: LeanMode, call: Call) -> Any:
    """Save the input's shape: average pooling and padding depend on nothing else."""
    image = call[1][0] if call[1] else call[2].get("input")
    if not needs_grad(image) or not is_eligible(image):
        return run_as_is(call)
    return run_on_placeholder(mode, call, [image])


def pad(mode: LeanMode, call: Call) -> Any:
    """Save the input's shape where the padding repeats the image's edges.

    Padding with a constant saves nothing, and only moves elements.
    """
    given = arguments(call, "input", "pad", "mode")
    if given.get("mode", "constant") in ("reflect", "replicate"):
        return shape_only(mode, call)
    return rearranged(mode, call)


def max_pool(dimensions: int, mode: LeanMode, call: Call) -> Any:
    """Save the input's shape, and for each window the position of its largest value, in a byte."""
    names = "input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"
    given = arguments(call, *names)
    image = given["input"]
    if not needs_grad(image) or not is_eligible(image):
        return run_as_is(call)
    kernel = _per_dimension(given["kernel_size"], dimensions)
    window = Window(
        size=tuple(image.shape[-dimensions:]),
        kernel=kernel,
        stride=_per_dimension(given.get("stride"), dimensions) or kernel,
        padding=_per_dimension(given.get("padding", 0), dimensions),
        dilation=_per_dimension(given.get("dilation", 1), dimensions),
    )
    # Indices that the model gets are alive anyway; positions would be held besides.
    returned = given.get("return_indices") or call[0].__name__.endswith("_with_indices")
    in_bytes = window.fits_byte and not returned

    def save_indices(tensor: Tensor) -> SavedTensor:
        return SavedIndices.of(tensor, window) if in_bytes else mode.save(tensor)

    return run_on_placeholder(mode, call, [image], save_other=save_indices)


def batch_norm(mode: LeanMode, call: Call) -> Any:
    """Save nothing of the input where the statistics are fixed and the weight is frozen."""
    names = "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"
    given = arguments(call, *names)
    image, mean, weight, bias = (given.get(n) for n in ("input", "running_mean", "weight", "bias"))
    fixed = mean is not None and not given.get("training", False)
    if not fixed or needs_grad(weight) or not is_eligible(image):
        return mode.run(call) if mode.recomputation_of(given["input"]) else run_as_is(call)
    if not (needs_grad(image) or needs_grad(bias)):
        return run_as_is(call)
    variance, eps = given["running_var"], given.get("eps", 1e-5)
    return FixedBatchNorm.apply(image, mean, variance, weight, bias, eps)


def _per_dimension(given: Any, dimensions: int) -> tuple[int, ...]:
    if given is None or given == ():
        return ()
    sizes = (given,) if isinstance(given, int) else tuple(given)
    return sizes * dimensions if len(sizes) == 1 else sizes
