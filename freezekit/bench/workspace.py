"""What operators on the CPU take for a moment besides what they return.

Lean's backward on bits unpacks them a chunk at a time. Convolutions: oneDNN computes in a
layout of its own, channels in blocks: before a convolution it copies input and weight into it,
after it the output out of it. These copies come from torch's allocator and are gone when the
operator returns, so that no tensor shows them, yet the peak of a step often lies there. How much it
is follows from the shapes. `benchmarks/fit.py` holds it against real steps; other workspace, as of
attention and of oneDNN's own scratch pads, is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freezekit.lean.bits import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable

FEW_CHANNELS = 4  # an input of an image's channels is read as it is
FEW_IMAGES = 16
SMALL_INPUT = 20_480  # elements: below, torch does a single image without oneDNN

_FORWARD = torch.ops.aten.convolution.default
_BACKWARD = torch.ops.aten.convolution_backward.default
_ON_BITS = torch.ops.freezekit.bits_backward.default
INDEX_BYTES = 4  # of a byte of bits, to look it up


def cpu_workspace(
    func: Callable[..., Any],  # Any: the dispatcher's own protocol, here and below
    args: tuple[Any, ...],
) -> int:
    """Return the bytes that an operator holds at its own peak beyond what is alive after it.

    0 where nothing is known of it, and on other devices. It depends on `torch.get_num_threads()`:
    with one thread torch does small batches of single places without oneDNN.

    Example:
        >>> image, weight = torch.zeros(8, 64, 16, 16), torch.zeros(64, 64, 3, 3)
        >>> plain = None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1
        >>> found = cpu_workspace(_FORWARD, (image, weight, *plain))
        >>> found == image.nbytes + weight.nbytes
        True
        >>> cpu_workspace(_FORWARD, (torch.zeros(1, 8, 4, 4), torch.zeros(8, 8, 1, 1), *plain))
        0
    """
    if func is _FORWARD:
        image, weight = args[:2]
        if not _is_known(image, args[6]) or _is_multiplied(image, weight, args[3], args[8]):
            return 0
        output = _output_bytes(image, weight, *args[3:6])
        if _is_unfolded(image, weight):
            return int(output // weight.shape[0] * weight[0].numel())
        copies = _Copies(image, weight, output, args[8])
        return max(copies.image + copies.weight + copies.output, copies.output + output) - output
    if func is _BACKWARD:
        grad, image, weight = args[:3]
        if not _is_known(image, args[7]) or _is_multiplied(image, weight, args[4], args[9]):
            return 0
        if _is_unfolded(image, weight):
            return int(_bytes(grad) // weight.shape[0] * weight[0].numel())
        return _of_backward(_Copies(image, weight, _bytes(grad), args[9]), image, weight, args[10])
    if func is _ON_BITS and args[0].device.type == "cpu":
        return _of_bits(args[0])
    return 0


def _of_bits(grad: Tensor) -> int:
    """Return what stands for the activation; of a chunk, what stood for the one before is there."""
    chunk = min(grad.numel(), CHUNK)
    before = 0
    if grad.numel() > CHUNK:
        before, chunk = chunk, min(grad.numel() - CHUNK, CHUNK)
    return (before + chunk) * grad.element_size() + -(-chunk // 8) * INDEX_BYTES


class _Copies:
    """Bytes of the copies in oneDNN's layout."""

    def __init__(self, image: Tensor, weight: Tensor, output_bytes: int, groups: int) -> None:
        given, made = image.shape[1], weight.shape[0]
        self.weight = _bytes(weight)
        self.image, self.output = _bytes(image), output_bytes
        if image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous():
            self.image = self.output = 0  # read and written as they are
            return
        if groups == 1 or groups == given == made:  # other groups are not filled up to a block
            wide_in, wide_out = _whole_blocks(given), _whole_blocks(made)
            self.image = self.image // given * wide_in
            self.output = output_bytes // made * wide_out
            self.weight = self.weight // made * wide_out
            if groups == 1 and given > FEW_CHANNELS:
                self.weight = self.weight // given * wide_in
        if groups == 1 and given <= FEW_CHANNELS:
            self.image = 0


def _of_backward(copies: _Copies, image: Tensor, weight: Tensor, wanted: list[bool]) -> int:
    """Return what backward holds beyond its results: first the weight's gradient, then the input's.

    Of each the copies of what goes in and of what comes out are there together, then the latter
    with the result.
    """
    of_image = _bytes(image) if wanted[0] else 0
    of_weight = _bytes(weight) if wanted[1] else 0
    all_copies = copies.image + copies.weight + copies.output
    peaks = [0]
    if wanted[1]:
        peaks.append(max(all_copies, copies.weight + of_weight))
    if wanted[0]:
        peaks.append(of_weight + max(all_copies, copies.image + of_image))
    return max(0, max(peaks) - of_image - of_weight)


def _is_known(image: Tensor, transposed: bool) -> bool:
    on_cpu = image.device.type == "cpu" and image.ndim == 4
    return on_cpu and not transposed and image.dtype != torch.float64


def _is_multiplied(image: Tensor, weight: Tensor, stride: list[int], groups: int) -> bool:
    """Tell whether torch takes a convolution of single places for a product of matrices."""
    single = weight[0, 0].numel() == 1 and groups == 1 and max(stride) == 1
    few = len(image) < FEW_IMAGES and torch.get_num_threads() == 1
    return single and (few or _is_unfolded(image, weight))


def _is_unfolded(image: Tensor, weight: Tensor) -> bool:
    """Tell whether torch lays out each place's window as a column, as for a small single image."""
    small = len(image) == 1 and image.numel() <= SMALL_INPUT and max(weight.shape[2:]) <= 3
    return small and image.shape[1] == weight.shape[1]


def _output_bytes(
    image: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]
) -> int:
    count = len(image) * weight.shape[0]
    for i, size in enumerate(image.shape[2:]):
        step, edge, gap = (
            values[min(i, len(values) - 1)] for values in (stride, padding, dilation)
        )
        count *= (size + 2 * edge - gap * (weight.shape[2 + i] - 1) - 1) // step + 1
    return count * image.element_size()


def _whole_blocks(channels: int) -> int:
    block = 8 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 16
    return -(-channels // block) * block


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
