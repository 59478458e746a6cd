"""How much of a predicted peak is left free for what is not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freezekit.fit.records import WorkspaceCheck
    from freezekit.results.records import Workload

COUNTED_MARGIN = 0.0001  # workspace is counted; real steps took at most 0.003 % more than predicted
MARGIN = 0.02  # half precision and autocast on the CPU: little of their workspace is counted
CUDA_MARGIN = 0.15  # libraries took some 70 MiB, and up to 11 % of the peak, on the device measured
UNCHECKED_MARGIN = (
    0.2  # real steps took up to 16 % more where oneDNN was held to the instructions of SSE4.1
)


def default_margin(workload: Workload, check: WorkspaceCheck | None) -> float:
    """Return the fraction of a predicted peak that is left free.

    Args:
        workload: The training step.
        check: Of the rules for the workspace; None where it was not run.

    Example:
        >>> from freezekit.fit.records import WorkspaceCheck
        >>> from freezekit.results.records import Workload
        >>> holds = WorkspaceCheck("AVX512", 20, (), 0.001)
        >>> step, half = Workload("timm:resnet18"), Workload("timm:resnet18", amp="bfloat16")
        >>> default_margin(step, holds), default_margin(half, holds), default_margin(step, None)
        (0.0001, 0.02, 0.2)
    """
    if workload.device == "cuda":
        return CUDA_MARGIN
    if check is None or not check.holds:
        return UNCHECKED_MARGIN
    counted = workload.dtype == "float32" and not workload.amp
    return COUNTED_MARGIN if counted else MARGIN
