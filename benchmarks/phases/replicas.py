"""What is measured of replicas on several ranks: how far they are apart, and what they send."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Phase:
    """The steps between two changes of what is trained.

    Attributes:
        trained: Number of trained parameters.
        trained_bytes: Their size.
        buffer_bytes: Of all buffers, which DistributedDataParallel broadcasts before each forward.
        parameters_apart: The largest difference of a parameter between two ranks, after any step.
        frozen_buffers_apart: Of the buffers of norms that are frozen, after any step.
        trained_buffers_apart: Of the others. Each rank takes statistics of its own batch between
            two broadcasts, so that they differ under any DistributedDataParallel.
        sent_bytes: What all ranks wrote to sockets in a step, for each step.
    """

    trained: int
    trained_bytes: int
    buffer_bytes: int
    parameters_apart: float = 0.0
    frozen_buffers_apart: float = 0.0
    trained_buffers_apart: float = 0.0
    sent_bytes: list[int] = field(default_factory=list)


class Replicas:
    """The replicas of a model, which all ranks look at after each step."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.phases: list[Phase] = []
        self._flags: list[bool] = []
        self._written = 0

    def before_step(self) -> None:
        """Count from here what is sent, and notice a new phase."""
        flags = [parameter.requires_grad for parameter in self.model.parameters()]
        if flags != self._flags:
            self._flags = flags
            trained = [p for p in self.model.parameters() if p.requires_grad]
            self.phases.append(Phase(len(trained), _bytes(trained), _bytes(self.model.buffers())))
        self._written = written_bytes()

    def after_step(self) -> None:
        """Add what was sent since, and how far the replicas are apart."""
        sent = torch.tensor(written_bytes() - self._written)
        distributed.all_reduce(sent)
        phase = self.phases[-1]
        phase.sent_bytes.append(int(sent))
        frozen, trained = self._buffers()
        phase.parameters_apart = max(phase.parameters_apart, apart(self.model.parameters()))
        phase.frozen_buffers_apart = max(phase.frozen_buffers_apart, apart(frozen))
        phase.trained_buffers_apart = max(phase.trained_buffers_apart, apart(trained))

    def _buffers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the buffers of modules that are frozen, and the others."""
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        for module in self.model.modules():
            flags = [parameter.requires_grad for parameter in module.parameters()]
            parts[any(flags)].extend(module.buffers(recurse=False))
        return parts

    def lines(self) -> list[dict[str, Any]]:  # Any: JSON
        """Return the phases; of what was sent, the median step and the whole list."""
        ranks = distributed.get_world_size()
        return [
            asdict(phase)
            | {
                "sent_bytes": median(phase.sent_bytes),
                "needed_bytes": 2 * (ranks - 1) * phase.trained_bytes,
                "sent_bytes_of_steps": phase.sent_bytes,
            }
            for phase in self.phases
        ]


def apart(tensors: Iterable[Tensor]) -> float:
    """Return the largest absolute difference between any two ranks; every rank calls it.

    NaN on any rank counts as infinitely far from all else.
    """
    flat = [tensor.detach().double().reshape(-1) for tensor in tensors]
    if not flat:
        return 0.0
    low = torch.cat(flat).nan_to_num(nan=torch.inf)
    high = low.clone()
    distributed.all_reduce(low, op=distributed.ReduceOp.MIN)
    distributed.all_reduce(high, op=distributed.ReduceOp.MAX)
    return float((high - low).abs().nan_to_num(nan=torch.inf).max())


def written_bytes() -> int:
    """Return what this process has written so far, on Linux.

    In a step of these benchmarks no file is written, so that it is what gloo writes to its sockets,
    headers included.
    """
    facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(facts["wchar"])


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
