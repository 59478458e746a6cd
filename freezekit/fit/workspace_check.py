"""Whether the rules for the workspace of convolutions are true where this process runs.

The rules of `memory.workspace` were read off one machine. Another version of torch, another CPU or
another number of threads may need other workspace. So `fit` runs some small convolutions first, of
the kinds that vision models have, and compares the allocator's events with the rules. That takes a
fraction of a second. It is better than a list of the versions on which the rules were true: such a
list is never complete, and says nothing of the threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freezekit.bench.allocations import allocations
from freezekit.fit.records import WorkspaceCheck
from freezekit.memory.workspace import BACKWARD, BATCH_NORM_BACKWARD, FORWARD, cpu_workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Operator = Callable[..., Any]  # Any: the dispatcher's own protocol

TOLERANCE = 0.05
"""Of what an operator holds at its peak. Where the rules are true, differences of up to 2.7 % were
seen: with several threads, each has a copy of the weight's gradient, which counts in operators as
small as these. Where oneDNN used other instructions than torch, differences were 9 % and more."""


@dataclass(frozen=True)
class Convolution:
    """One convolution to run: square images, as many places of padding as keep their size."""

    images: int
    channels: int
    filters: int
    pixels: int
    kernel: int
    stride: int = 1
    groups: int = 1
    channels_last: bool = False

    def __str__(self) -> str:
        kind = f"in {self.groups} groups" if self.groups > 1 else ""
        stride = f"stride {self.stride}" if self.stride > 1 else ""
        layout = "channels last" if self.channels_last else ""
        parts = f"{self.kernel}x{self.kernel} convolution", kind, stride, layout
        return f"{', '.join(filter(None, parts))}, {self.channels} to {self.filters} channels"


CONVOLUTIONS = (
    Convolution(4, 3, 32, 56, kernel=7, stride=2),  # a stem: the image needs no gradient
    Convolution(4, 64, 64, 28, kernel=3),
    Convolution(4, 40, 24, 28, kernel=3),  # channels that fill no whole block
    Convolution(4, 64, 64, 28, kernel=3, stride=2),
    Convolution(16, 64, 96, 14, kernel=1),
    Convolution(4, 64, 64, 28, kernel=3, groups=4),
    Convolution(4, 32, 32, 28, kernel=3, groups=32),
    Convolution(2, 32, 32, 14, kernel=7, groups=32),  # ConvNeXt's: no code of its own in oneDNN
    Convolution(2, 3, 48, 64, kernel=16, stride=16),  # a vision transformer's patches
    Convolution(4, 64, 64, 28, kernel=3, channels_last=True),
    Convolution(4, 32, 32, 28, kernel=3, groups=32, channels_last=True),
    Convolution(1, 32, 32, 14, kernel=3),  # a small single image, which torch unfolds
)


def check_workspace() -> WorkspaceCheck:
    """Run some operators and compare what they hold for a moment with the rules.

    Example:
        >>> check = check_workspace()
        >>> check.operators
        25
    """
    errors = {name: _error(func, args) for name, func, args in _operators()}
    return WorkspaceCheck(
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        operators=len(errors),
        differing=tuple(name for name, error in errors.items() if abs(error) > TOLERANCE),
        largest_error=max(errors.values(), key=abs),
    )


def _operators() -> Iterator[tuple[str, Operator, tuple[Any, ...]]]:
    """Yield operators by name, with arguments; values do not matter."""
    for found in CONVOLUTIONS:
        image = torch.ones(found.images, found.channels, found.pixels, found.pixels)
        if found.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        weight = torch.ones(
            found.filters, found.channels // found.groups, found.kernel, found.kernel
        )
        edge = 0 if found.stride == found.kernel else found.kernel // 2
        how = [found.stride] * 2, [edge] * 2, [1, 1], False, [0, 0], found.groups
        forward = image, weight, None, *how
        yield f"forward of a {found}", FORWARD, forward
        grad = torch.ones_like(FORWARD(*forward))
        wanted = [found.channels > 3, True, False]  # gradients of image, weight and bias
        yield f"backward of a {found}", BACKWARD, (grad, image, weight, None, *how, wanted)
    image, ones = torch.ones(4, 64, 28, 28), torch.ones(64)
    arguments = image, image, ones, None, None, ones, ones, True, 1e-5, [True, True, True]
    yield "backward of a batch norm", BATCH_NORM_BACKWARD, arguments


def _error(func: Operator, args: tuple[Any, ...]) -> float:
    """Return by how much more than the rules say an operator holds, as a fraction of the whole."""
    said = cpu_workspace(func, args)
    found = allocations(lambda: func(*args))
    given = sum(tensor.nbytes for tensor in args if isinstance(tensor, Tensor))
    really = found.peak_bytes - found.left_bytes
    return (really - said) / (given + found.left_bytes + said)
