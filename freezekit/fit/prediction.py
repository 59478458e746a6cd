"""The largest batch by predicted peaks: one model on fake tensors is stepped with many batches."""

from __future__ import annotations

import gc
from fractions import Fraction
from typing import TYPE_CHECKING

from msgspec.structs import replace
from torch import Tensor
from torch.utils._pytree import tree_leaves

from freezekit.bench.rows import with_rows
from freezekit.bench.static import inputs_on_shapes, predicted_memory, session_on_shapes
from freezekit.fit.search import FIRST_TRIED, largest_batch
from freezekit.memory.tracker import StorageTracker
from freezekit.memory.workspace import cpu_workspace
from freezekit.results.records import Memory, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.bench.workload import Session
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload
    from freezekit.results.variant import Variant


class Prediction(Record, frozen=True):
    """What is predicted for one strategy; the fields are those of `FitRow`."""

    batch_size: int
    memory: Memory
    next_peak_bytes: int | None
    tried: int


def predicted_at(
    workload: Workload, variant: Variant, registry: Registry | None, batch: int
) -> Prediction:
    """Return the prediction for one batch size.

    Raises:
        FreezekitError: Nothing can be predicted; see `predicted_memory`.
    """
    step = replace(workload, batch_size=batch)
    return Prediction(batch, predicted_memory(step, variant, registry), None, 1)


def row_bytes(workload: Workload, variant: Variant, registry: Registry | None) -> int:
    """Return the bytes of a sample in the cache of a strategy.

    Raises:
        FreezekitError: The prefix cannot be cached.
    """
    with session_on_shapes(workload, variant.spec, registry, lean=variant.lean, cached=True) as (
        session,
        _,
    ):
        row: Tensor = session.inputs[0][0]
        return row.nbytes


def largest_predicted(
    workload: Workload, variant: Variant, registry: Registry | None, limit: int
) -> Prediction:
    """Return the prediction for the largest batch whose peak is within a limit.

    The search steps one model with all batches. The answer is then predicted anew, on a model of
    its own. Where the two differ, or where one model cannot be stepped with several batches, each
    batch is predicted on a model of its own.

    Args:
        workload: The training step; its batch size does not matter.
        variant: The strategy.
        registry: Where it is looked up; None for the default one.
        limit: In bytes.

    Raises:
        FreezekitError: Nothing can be predicted; see `predicted_memory`.

    Example:
        >>> from freezekit.results.records import Workload
        >>> from freezekit.results.variant import BASELINE
        >>> tiny = Workload("timm:test_resnet", image_size=32)
        >>> found = largest_predicted(tiny, BASELINE, None, limit=20_000_000)
        >>> found.memory.peak_bytes <= 20_000_000 < found.next_peak_bytes
        True
    """
    try:
        few = replace(workload, batch_size=FIRST_TRIED[0])
        with session_on_shapes(
            few, variant.spec, registry, lean=variant.lean, cached=variant.cached
        ) as (session, _):
            stepped = _Stepped(session, few, cached=variant.cached)
            answer = largest_batch(stepped.peak, limit, lead=stepped.crossing)
            expected = stepped.peaks
    except Exception:  # noqa: BLE001  # a model may raise anything; what is below tells what
        answer, expected = None, {}
    predicted: dict[int, Memory] = {}

    def peak(batch: int) -> int:
        if batch not in predicted:
            step = replace(workload, batch_size=batch)
            predicted[batch] = predicted_memory(step, variant, registry)
        return predicted[batch].peak_bytes or 0

    shown = answer.batch or min(expected) if answer else 0
    if answer is None or peak(shown) != expected[shown]:
        answer = largest_batch(peak, limit)
        shown = answer.batch or min(predicted)
    return Prediction(answer.batch, predicted[shown], answer.next_peak_bytes, answer.tried)


class _Stepped:
    """A model on fake tensors that is stepped with several batches, one after the other.

    Attributes:
        peaks: Bytes by batch, of those that were tried.
    """

    def __init__(self, session: Session, workload: Workload, *, cached: bool) -> None:
        """Step once, so that the optimizer makes its state.

        Args:
            session: On fake tensors.
            workload: Its workload.
            cached: Whether its steps take features of a cache.
        """
        self.peaks: dict[int, int] = {}
        self._moments: dict[int, list[int]] = {}
        self._session, self._workload = session, workload
        self._rows = session.inputs[0] if cached else None
        self._tracker = StorageTracker(workload.device, cpu_workspace)
        self._add([*session.model.parameters(), *session.model.buffers(), session.inputs])
        with self._tracker:
            session.step()

    def _add(self, nest: object) -> None:
        self._tracker.add(leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor))

    def peak(self, batch: int) -> int:
        """Return the peak of a step with so large a batch."""
        if batch not in self.peaks:
            session, tracker = self._session, self._tracker
            session.optimizer.zero_grad(set_to_none=True)
            step = replace(self._workload, batch_size=batch)
            inputs = inputs_on_shapes(step, session.model)
            session.take(inputs if self._rows is None else with_rows(inputs, self._rows))
            self._add(session.inputs)
            with tracker:
                session.loss()  # draws the labels: they are alive all the time in a step
                gc.collect()
                tracker.reset_peak()
                session.step()
            self.peaks[batch] = tracker.peak_with_workspace_bytes
            self._moments[batch] = list(tracker.moments)  # it goes on
        return self.peaks[batch]

    def crossing(self, limit: int) -> int | None:
        """Return the largest batch within a limit, if each moment of a step grows with a line."""
        few, more = sorted(self._moments)[-2:]
        return crossing(self._moments[few], self._moments[more], (few, more), limit)


def crossing(
    few: Sequence[int], more: Sequence[int], batches: tuple[int, int], limit: int
) -> int | None:
    """Return the last batch at which no moment of a step holds more than a limit.

    The peak of a step is that of its moments, and the highest moment is another one for another
    batch. So there is a line through each moment at two batch sizes.

    Args:
        few: Bytes at each moment, for the smaller of two batch sizes.
        more: The same for the larger one.
        batches: The two batch sizes.
        limit: In bytes.

    Returns:
        None where the moments are not the same ones, or where none grows.

    Example:
        >>> crossing([10, 4], [11, 12], (2, 4), limit=40)
        11
    """
    if len(few) != len(more):
        return None
    first, second = batches
    found = [
        first + Fraction((limit - low) * (second - first), high - low)
        for low, high in set(zip(few, more, strict=True))
        if high > low
    ]
    return max(1, int(min(found))) if found else None
