"""The largest batch by real steps, for what nothing predicts; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from freezekit.errors import ModelError, WorkerError
from freezekit.fit.search import largest_batch
from freezekit.results.records import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.bench.processes import Event


@dataclass
class RealSteps:
    """A search in which each batch is stepped for real, in a process of its own.

    Attributes:
        run: From a batch to the last event of its process: "memory", "failed" or "broken".
        memories: What was measured, by batch.
    """

    run: Callable[[int], Event]
    memories: dict[int, Memory] = field(default_factory=dict)

    def find(self, memory_bytes: int, asked: int | None) -> dict[str, Any]:  # Any: fields of a row
        """Return the fields of a `FitRow` for the largest batch that fits, or for the one asked.

        Raises:
            ModelError: The model does not take the batch.
            WorkerError: A step failed for another reason than memory.

        Example:
            >>> def run(batch):
            ...     return {"event": "memory", "memory": {"peak_bytes": 100 + 7 * batch}}
            >>> found = RealSteps(run).find(1000, None)
            >>> found["batch_size"], found["measured_peak_bytes"], found["next_peak_bytes"]
            (128, 996, 1003)
        """
        began = monotonic()
        if asked:
            self._peak(asked, memory_bytes)
            batch = shown = asked
            if self.memories[asked].peak_bytes is None:
                said = f"batch {asked} does not fit into the memory of this machine"
                return {"status": "oom", "error": said, "tried": 1}
        else:
            batch = largest_batch(lambda size: self._peak(size, memory_bytes), memory_bytes).batch
            shown = batch or min(self.memories, default=0)
        memory = self.memories.get(shown, Memory())
        after = None if asked else self.memories.get(batch + 1, Memory()).peak_bytes
        return {
            "batch_size": batch,
            "memory": memory,
            "next_peak_bytes": after,
            "tried": len(self.memories),
            "measured_peak_bytes": memory.peak_bytes,
            "measured_next_peak_bytes": after if batch else None,
            "search_seconds": monotonic() - began,
        }

    def _peak(self, batch: int, memory_bytes: int) -> int:
        """Return the peak of a batch; where memory ran out, a byte more than there is."""
        event = self.run(batch)
        if event["event"] == "memory":
            self.memories[batch] = Memory(**event["memory"])
            return self.memories[batch].peak_bytes or 0
        if event["status"] != "oom":
            raise (ModelError if event.get("model") else WorkerError)(event["error"])
        self.memories[batch] = Memory()
        return memory_bytes + 1
