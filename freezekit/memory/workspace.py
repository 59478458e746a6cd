"""The memory that operators on the CPU hold while they run, besides their results.

Lean's backward on bits unpacks them in chunks. The backward of batch norm fills a tensor of the
input's size where input and gradient have the same strides. For convolutions, oneDNN uses layouts
of its own with channels in blocks: it copies input and weight into them, and the result out of
them. These copies come from torch's allocator and are freed when the operator returns. No tensor
shows them, but the peak of a step is often there.

How large they are follows from the shapes. The rules were read off the allocator of torch 2.14 on
machines with AVX-512 and with AVX2. `fit.workspace_check` compares them with real operators on each
machine where `fit` runs, and `benchmarks/fit.py` with real steps. Other workspace, such as that of
attention, and scratch memory of some kilobytes are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from freezekit.lean.bits import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable

INDEX_BYTES = 4  # of the index by which a byte of bits is looked up
FEW_CHANNELS = 4  # an input of so few channels, such as an image, is not copied
FEW_IMAGES = 16  # with one thread, a 1x1 convolution of fewer is a product of matrices
SMALL_INPUT = 20_480  # elements: torch does not use oneDNN for a single image up to this size
# oneDNN has special code for the gradient of the weight, except for
WIDEST = 14  # wider kernels,
WIDEST_DEPTHWISE = 3  # wider depthwise kernels,
NARROWEST_GROUP = 8  # and groups whose channels are no multiple of this

FORWARD = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default
BATCH_NORM_BACKWARD = torch.ops.aten.native_batch_norm_backward.default
_ON_BITS = torch.ops.freezekit.bits_backward.default


def cpu_workspace(
    func: Callable[..., Any],  # Any: the dispatcher's own protocol, here and below
    args: tuple[Any, ...],
) -> int:
    """Return the bytes that an operator holds at its own peak beyond what is alive after it.

    0 where there is no rule for it, and on other devices. The number depends on
    `torch.get_num_threads()`: with one thread torch computes 1x1 convolutions of small batches
    without oneDNN.

    Example:
        >>> image, weight = torch.zeros(8, 64, 16, 16), torch.zeros(64, 64, 3, 3)
        >>> plain = None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1
        >>> found = cpu_workspace(FORWARD, (image, weight, *plain))
        >>> found == image.nbytes + weight.nbytes
        True
        >>> cpu_workspace(FORWARD, (torch.zeros(1, 8, 4, 4), torch.zeros(8, 8, 1, 1), *plain))
        0
    """
    if func is _ON_BITS and args[0].device.type == "cpu":
        return _of_bits(args[0])
    if func is BATCH_NORM_BACKWARD and args[0].device.type == "cpu":
        grad, image = args[:2]
        return _bytes(image) if grad.stride() == image.stride() else 0
    if func is FORWARD and _is_known(args[0], transposed=args[6]):
        image, weight, _, stride, padding, dilation, _, _, groups = args
        shapes = _Shapes(image, weight, stride, padding, dilation, groups)
        return _copied_first(shapes, image) + _of_convolution(shapes, None)
    if func is BACKWARD and _is_known(args[1], transposed=args[7]):
        grad, image, weight, _, stride, padding, dilation, _, _, groups, wanted = args
        shapes = _Shapes(image, weight, stride, padding, dilation, groups)
        return _copied_first(shapes, image, grad) + _of_convolution(shapes, wanted)
    return 0


def _copied_first(shapes: _Shapes, *tensors: Tensor) -> int:
    """Return the bytes of tensors that are copied first: those with gaps or in another layout."""
    layout = torch.channels_last if shapes.channels_last else torch.contiguous_format
    return sum(_bytes(t) for t in tensors if not t.is_contiguous(memory_format=layout))


def _of_bits(grad: Tensor) -> int:
    """Return the bytes of a chunk of unpacked bits; the chunk before it is still alive."""
    chunk = min(grad.numel(), CHUNK)
    before = 0
    if grad.numel() > CHUNK:
        before, chunk = chunk, min(grad.numel() - CHUNK, CHUNK)
    return (before + chunk) * grad.element_size() + -(-chunk // 8) * INDEX_BYTES


def _is_known(image: Tensor, *, transposed: bool) -> bool:
    on_cpu = image.device.type == "cpu" and image.ndim == 4
    return on_cpu and not transposed and image.dtype != torch.float64


@dataclass(frozen=True)
class _Shapes:
    """Arguments of a convolution of images, and the bytes of its tensors."""

    image: Tensor
    weight: Tensor
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @property
    def input(self) -> int:
        return _bytes(self.image)

    @property
    def output(self) -> int:
        height, width = self.places
        count = len(self.image) * self.weight.shape[0] * height * width
        return count * self.image.element_size()

    @property
    def places(self) -> tuple[int, int]:
        """Height and width of the output."""
        first, second = (
            (size + 2 * edge - gap * (kernel - 1) - 1) // step + 1
            for size, kernel, step, edge, gap in self._by_dimension
        )
        return first, second

    @property
    def hidden_edges(self) -> list[int]:
        """How many places of padding the windows reach on both sides, for each dimension."""
        return [
            edge + max(0, (count - 1) * step + gap * (kernel - 1) + 1 - size - edge)
            for (size, kernel, step, edge, gap), count in zip(
                self._by_dimension, self.places, strict=True
            )
        ]

    @property
    def _by_dimension(self) -> list[tuple[int, ...]]:
        given = [
            values * 2 if len(values) == 1 else values
            for values in map(list, (self.stride, self.padding, self.dilation))
        ]
        return list(zip(self.image.shape[2:], self.weight.shape[2:], *given, strict=True))

    @property
    def depthwise(self) -> bool:
        return self.groups == self.image.shape[1] == self.weight.shape[0]

    @property
    def single_places(self) -> bool:
        return self.weight[0, 0].numel() == 1

    @property
    def multiplied(self) -> bool:
        """Whether torch computes a 1x1 convolution as a product of matrices."""
        few = len(self.image) < FEW_IMAGES and torch.get_num_threads() == 1
        plain = self.single_places and self.groups == 1 and max(self.stride) == 1
        return plain and (few or self.unfolded)

    @property
    def unfolded(self) -> bool:
        """Whether torch copies each window to a column, as it does for a small single image."""
        small = self.image.numel() <= SMALL_INPUT and max(self.weight.shape[2:]) <= 3
        return small and len(self.image) == self.groups == 1

    @property
    def channels_last(self) -> bool:
        """Whether the strides are in that order, as torch decides it, also where there are gaps."""
        return suggest_memory_format(self.image) is torch.channels_last


def _of_convolution(shapes: _Shapes, wanted: list[bool] | None) -> int:
    """Return the bytes of forward (`wanted` is None), or of backward with the wanted gradients.

    Backward computes the gradient of the input first.
    """
    if shapes.multiplied:
        return 0
    if shapes.unfolded:
        return int(shapes.output // shapes.weight.shape[0] * shapes.weight[0].numel())
    copies = _in_channels_last(shapes) if shapes.channels_last else _in_plain_layout(shapes)
    if _is_avx2() and shapes.weight.shape[2] > shapes.image.shape[2]:  # AVX-512 has code for it
        copies = replace(copies, for_weight=_windows_for_weight(shapes))
    if wanted is None:
        return copies.forward
    for_input, for_weight, for_bias = wanted
    kept = _bytes(shapes.weight) if for_weight else 0
    peaks = [0]
    if for_input:
        peaks.append(copies.for_input - kept)
    if for_weight or for_bias:  # the gradient of a bias is computed with the weight's
        peaks.append(copies.for_weight + _bytes(shapes.weight) - kept)
    return max(peaks)


@dataclass(frozen=True)
class _Copies:
    """Bytes beyond the results: in forward, for the input's and for the weight's gradient."""

    forward: int
    for_input: int
    for_weight: int


def _in_plain_layout(shapes: _Shapes) -> _Copies:
    """Input, weight and output are copied, with their channels padded to whole blocks."""
    given, made = shapes.image.shape[1], shapes.weight.shape[0]
    weight, image, output = _bytes(shapes.weight), shapes.input, shapes.output
    if shapes.groups == 1 or shapes.depthwise:  # other groups are not padded
        image = image // given * _whole_blocks(given)
        output = output // made * _whole_blocks(made)
        weight = weight // made * _whole_blocks(made)
        if shapes.groups == 1 and given > FEW_CHANNELS:
            weight = weight // given * _whole_blocks(given)
    if shapes.groups == 1 and given <= FEW_CHANNELS:
        image = 0
    for_input = max(image + weight + output, image + shapes.input) - shapes.input
    if max(shapes.stride) > 1 and not shapes.depthwise:
        for_input = max(for_input, 2 * shapes.input)
    for_weight = max(image + output + weight - _bytes(shapes.weight), weight)
    if not _has_code_for_weight(shapes):
        for_weight = _windows_for_weight(shapes)
    return _Copies(
        forward=max(image + weight + output, output + shapes.output) - shapes.output,
        for_input=for_input,
        for_weight=for_weight,
    )


def _in_channels_last(shapes: _Shapes) -> _Copies:
    """Input and output are not copied; the weight is, once or twice."""
    made, given = shapes.weight.shape[:2]
    made = made if shapes.depthwise else made // shapes.groups
    weight = _bytes(shapes.weight)
    wide = weight // made * _whole_blocks(made)
    if shapes.depthwise:
        filled = wide if _has_code_for_weight(shapes) else weight * _whole_blocks(1) ** 2
        return _Copies(wide, wide, weight + filled)
    wider = wide // given * _whole_blocks(given) if given > FEW_CHANNELS else wide
    plain = not shapes.weight.is_contiguous(memory_format=torch.channels_last)
    first = weight if plain and not shapes.single_places else 0
    if shapes.groups > 1:  # padded only for the gradient of the weight
        return _Copies(first + weight, first + weight, first + weight + wider)
    return _Copies(first + wide, first + wider, first + weight + wider)


def _has_code_for_weight(shapes: _Shapes) -> bool:
    """Return whether the weight's gradient is computed without unfolding groups of the input."""
    if shapes.groups == 1:
        return shapes.weight.shape[3] <= WIDEST
    if not shapes.depthwise:
        return shapes.weight.shape[1] % NARROWEST_GROUP == 0
    wide = max(shapes.weight.shape[2:]) > WIDEST_DEPTHWISE
    sizes = zip(shapes.places, shapes.hidden_edges, strict=True)
    return not wide and all(count > edges for count, edges in sizes)


def _windows_for_weight(shapes: _Shapes) -> int:
    """Return the bytes for the weight's gradient where each thread copies windows to columns."""
    at_once = min(torch.get_num_threads(), len(shapes.image) * shapes.groups)
    height, width = shapes.places
    columns = int(shapes.weight[0].numel() * height * width * shapes.image.element_size())
    each = 4 * _bytes(shapes.weight) + columns
    if not shapes.channels_last:
        return at_once * each
    of_one_group = shapes.input // len(shapes.image) // shapes.groups  # is copied to plain layout
    first = 0 if shapes.depthwise else _bytes(shapes.weight)
    return first + at_once * (each + of_one_group)


def _whole_blocks(channels: int) -> int:
    block = 8 if _is_avx2() else 16
    return -(-channels // block) * block


def _is_avx2() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
