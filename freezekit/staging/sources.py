"""With which parameters the outputs of units were made."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property, reduce
from operator import or_
from typing import TYPE_CHECKING

from freezekit.model.records import prefixes
from freezekit.staging.extent import Extent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from freezekit.staging.trace import Call, Trace
    from freezekit.staging.units import Unit


class Sources:
    """Sets of parameters, as in `Trace.flow`, of units and of what they make.

    Args:
        trace: What was seen.
        used: Names of the parameters that were used.

    Attributes:
        masks: The used parameters in each module, and each parameter by itself.
    """

    def __init__(self, trace: Trace, used: Iterable[str]) -> None:
        self._trace = trace
        self.masks: dict[str, int] = defaultdict(int)
        for name in used:
            for around in (*prefixes(name), name):
                self.masks[around] |= trace.flow.mask(name)

    def own(self, units: Iterable[Unit]) -> int:
        """Return the parameters of units."""
        return _union(self.masks, units)

    def reach(self, units: Iterable[Unit]) -> int:
        """Return the parameters for which the outputs of units have gradients."""
        return _union(self._reach, units)

    def data(self, units: Iterable[Unit]) -> int:
        """Return the parameters that the outputs of units were made with, under `no_grad` too."""
        return _union(self._data, units)

    def needing(self, units: Sequence[Unit], later: Iterable[Unit]) -> tuple[Unit, ...]:
        """Return those of the later units that take what some of the units make."""
        made = self.own(units)
        return tuple(unit for unit in later if made & self.data([unit]))

    def graded(self, unit: Unit) -> bool:
        """Tell whether a loss on the model's output has gradients for a unit."""
        own = self.own([unit])
        inside = own if unit.kind == "parameter" else own & self.reach([unit])
        return bool(inside & self._trace.graded if self._trace.graded else inside)

    def joined(self, unit: Unit, others: Sequence[Unit]) -> bool:
        """Tell whether an output is made with a unit and with others, by whatever functions."""
        own, theirs = self.own([unit]), self.own(others)
        return any(source & own and source & theirs for source in self._trace.outputs)

    def as_output(self, unit: Unit) -> bool:
        """Tell whether a unit makes what the model does, or a part of it side by side."""
        made, whole = self._made.get(unit.name, Extent()), self._trace.output
        return made.rank == whole.rank and (made.width or 0) <= (whole.width or 0)

    @cached_property
    def _made(self) -> Mapping[str, Extent]:
        return {call.module: call.output for call in self._trace.calls}  # of its last call

    @cached_property
    def _reach(self) -> Mapping[str, int]:
        return self._around(lambda call: call.reach)

    @cached_property
    def _data(self) -> Mapping[str, int]:
        return self._around(lambda call: call.data)

    def _around(self, read: Callable[[Call], int]) -> Mapping[str, int]:
        """Return the union of the calls of each module, with those of the modules inside it."""
        found: dict[str, int] = defaultdict(int)
        for call in self._trace.calls:
            for around in (*prefixes(call.module), call.module):
                found[around] |= read(call)
        return found


def _union(sets: Mapping[str, int], units: Iterable[Unit]) -> int:
    return reduce(or_, (sets[member] for unit in units for member in unit.members), 0)
