"""The state of the random number generators that a module may use."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class RandomState:
    """The state of the generators of PyTorch, Python and NumPy.

    Attributes:
        of_torch: The states of PyTorch's default generators; "" is that of the CPU.
        of_python: The state of `random`.
        of_numpy: The global state of NumPy; None while NumPy is not imported.

    Example:
        >>> before = RandomState.now()
        >>> drawn = torch.rand(2)
        >>> before == RandomState.now()
        False
        >>> before.restore()
        >>> torch.equal(torch.rand(2), drawn)
        True
    """

    of_torch: dict[str, Tensor]
    of_python: tuple[Any, ...]  # Any: Python's own record
    of_numpy: dict[str, Any] | None  # Any: NumPy's own record

    @staticmethod
    def now(devices: Iterable[torch.device] = ()) -> RandomState:
        """Return the state of now, of the CPU and these CUDA devices."""
        states = {"": torch.get_rng_state()}
        states |= {str(device): torch.cuda.get_rng_state(device) for device in devices}
        numpy = sys.modules.get("numpy")
        return RandomState(
            states, random.getstate(), numpy.random.get_state(legacy=False) if numpy else None
        )

    def restore(self) -> None:
        """Set all generators to this state."""
        for device, state in self.of_torch.items():
            if device:
                torch.cuda.set_rng_state(state, device)
            else:
                torch.set_rng_state(state)
        random.setstate(self.of_python)
        if self.of_numpy is not None:
            sys.modules["numpy"].random.set_state(self.of_numpy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RandomState):
            return NotImplemented
        return (
            self.of_torch.keys() == other.of_torch.keys()
            and all(torch.equal(state, other.of_torch[key]) for key, state in self.of_torch.items())
            and self.of_python == other.of_python
            and _comparable(self.of_numpy) == _comparable(other.of_numpy)
        )

    __hash__ = None  # type: ignore[assignment]  # tensors are inside


def cuda_devices(model: nn.Module) -> list[torch.device]:
    """Return the CUDA devices on which a model has tensors."""
    tensors = (*model.parameters(), *model.buffers())
    return sorted({tensor.device for tensor in tensors if tensor.is_cuda}, key=str)


def _comparable(state: dict[str, Any] | None) -> object:  # Any: NumPy's own record
    if state is None:
        return None
    inner = {k: v.tobytes() if hasattr(v, "tobytes") else v for k, v in state["state"].items()}
    return {**state, "state": inner}
