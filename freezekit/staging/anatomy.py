"""A model and its trace, asked for units in the order in which a forward uses them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from torch import nn

from freezekit.staging.extent import TOKENS_RANK, VECTOR_RANK, Extent
from freezekit.staging.parallel import zip_lists
from freezekit.staging.sources import Sources
from freezekit.staging.units import CONTAINERS, Unit, UnitKind, lowers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from torch import Tensor

    from freezekit.staging.trace import Call, Trace
MATRIX_RANK = 2
"""Dimensions that the weight of a layer has at least: biases and norms have one.

With 1, norms count as layers: the last norm of `deit_tiny_patch16_224` becomes a neck. With 3,
linear layers count as norms: `vit_tiny_patch16_224` has no blocks.
"""


class Anatomy:
    """A model and its trace, asked for units.

    Args:
        model: The module that was traced (or one of the same structure).
        trace: What was seen.

    Attributes:
        sources: With which parameters the outputs of units were made.
    """

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self._modules = dict(model.named_modules())
        self._tensors: dict[str, Tensor] = dict(model.named_parameters())
        # By first use: a module that is called again, as in a Siamese network, stays where it was.
        self._uses = {n: ticks[0] for n, ticks in trace.uses.items() if n in self._tensors}
        calls: dict[str, list[Call]] = defaultdict(list)
        for call in trace.calls:
            calls[call.module].append(call)
        self._width_out = trace.output.width
        self._calls: Mapping[str, Sequence[Call]] = calls
        self.sources: Sources = Sources(trace, self._uses)

    @cached_property
    def _children(self) -> Mapping[str, tuple[str, ...]]:
        children: dict[str, list[str]] = defaultdict(list)
        for name in self._modules:
            if name:
                children[name.rpartition(".")[0]].append(name)
        return {name: tuple(found) for name, found in children.items()}

    @cached_property
    def _units(self) -> Mapping[str, Unit]:
        units: dict[str, Unit] = {}
        for name in reversed(self._modules):  # children come before their parents
            unit = self._unit(name, units)
            if unit is not None:
                units[name] = unit
        return units

    def parts(self, name: str) -> tuple[Unit, ...]:
        """Return the units directly inside a module, in the order of first use.

        Modules that the forward did not use are left out. So is an activation that it calls several
        times: it belongs to no single place. Parallel lists are given as their turns.
        """
        units = [self._units[c] for c in self._children.get(name, ()) if c in self._units]
        parts = [u for u in units if u.kind != "op" or len(self._calls.get(u.name, ())) <= 1]
        parts += [
            Unit(p, "parameter", self._uses[p], self._uses[p], members=(p,))
            for p in self._own(name)
            if p in self._uses
        ]
        return zip_lists(sorted(parts, key=lambda unit: unit.start), self.parts)

    def promote(self, units: Sequence[Unit]) -> tuple[Unit, ...]:
        """Return the units; those of the same class and parent as a stage become stages too.

        EfficientNetV2 and MobileNetV4 begin with a `Sequential` of single convolutions beside
        `Sequential`s of blocks. A single layer after the last stage is a projection and stays one.
        """
        made = {(u.parent, u.type_name) for u in units if u.kind == "stage" and u.called}
        last = max((u.start for u in units if u.kind == "stage"), default=0)
        return tuple(
            replace(unit, kind="stage", because=f"it is a {unit.type_name} as the stages beside it")
            if (unit.kind == "block" or (unit.kind == "layer" and unit.start < last))
            and (unit.parent, unit.type_name) in made
            and any(part.name in self._children for part in self.parts(unit.name))
            else unit
            for unit in units
        )

    def contains_stage(self, name: str) -> bool:
        """Tell whether a list of blocks lies strictly inside a module."""
        return any(unit.kind == "stage" for unit in self.parts(name))

    def _own(self, name: str) -> tuple[str, ...]:
        prefix = f"{name}." if name else ""
        own = self._modules[name]._parameters
        return tuple(f"{prefix}{p}" for p in own if f"{prefix}{p}" in self._tensors)

    def _unit(self, name: str, inner: Mapping[str, Unit]) -> Unit | None:
        own = [p for p in self._own(name) if p in self._uses]
        parts = [inner[child] for child in self._children.get(name, ()) if child in inner]
        calls = self._calls.get(name, ())
        starts = [call.start for call in calls] + [self._uses[p] for p in own]
        starts += [part.start for part in parts]
        if not starts:
            return None  # never used
        parts.sort(key=lambda part: part.start)
        stops = [self._uses[p] for p in own] + [p.stop for p in parts if p.kind != "op"]
        weights = sum(part.weights for part in parts)
        if parts or any("weight" in p.rpartition(".")[2] for p in own):  # else tables of positions
            module = self._modules[name]
            # The two to four matrices of a recurrent layer are one layer. Counted one by one they
            # outweigh the convolutions before them, which are then all stem.
            recurrent = isinstance(module, nn.RNNBase)
            weights += module.num_layers if recurrent else sum(map(self._is_weight, own))
        area_in, output = _layout(calls, parts)
        kind: UnitKind = "op"
        if stops:
            kind = "norm" if weights == 0 else "layer" if weights == 1 else "block"
        areas = frozenset[int]().union(*(part.areas for part in parts))
        if weights == 1 and output.area and output.area > 1:
            areas |= {output.area}
        unit = Unit(
            name,
            kind,
            start=min(starts),
            stop=max(stops, default=min(starts)),
            weights=weights,
            area_in=area_in,
            area_out=output.area,
            rank_out=output.rank,
            grid_out=output.grid,
            classifies=weights == 1
            and output.rank in (VECTOR_RANK, TOKENS_RANK)
            and bool(calls)
            and calls[-1].output.width == self._width_out,
            levels=_levels(area_in, output.area, parts),
            depth=_depth(area_in, output.area, areas),
            areas=areas,
            type_name=type(self._modules[name]).__name__,
            alone=isinstance(self._modules[name], CONTAINERS),
            called=bool(calls),
            first=bool(calls) and calls[0].first,
            loops=any(call.fed & self.sources.masks[name] for call in calls),
            members=(name,),
        )
        return replace(unit, kind="stage") if self._is_stage(name, parts) else unit

    def _is_stage(self, name: str, parts: Sequence[Unit]) -> bool:
        if any(part.kind == "stage" for part in parts):
            return True
        weighty = [part for part in parts if part.weights]
        container = isinstance(self._modules[name], CONTAINERS)
        return container and bool(weighty) and all(part.kind == "block" for part in weighty)

    def _is_weight(self, name: str) -> bool:
        shape = self._tensors[name].shape
        # Wider than 1 in one dimension only: a layer scale, a class token.
        wide = sum(size > 1 for size in shape) >= MATRIX_RANK
        return len(shape) >= MATRIX_RANK and (wide or name.endswith("weight"))


def _layout(calls: Sequence[Call], parts: Sequence[Unit]) -> tuple[int | None, Extent]:
    """Return the area that enters and the extent that leaves, those of the parts if need be."""
    area_in = calls[0].input.area if calls else None
    output = calls[-1].output if calls else Extent()
    if area_in is None:
        area_in = next((part.area_in for part in parts if part.area_in), None)
    if output.area is None:
        last = next((part for part in reversed(parts) if part.area_out), None)
        output = Extent(last.grid_out, last.rank_out) if last else Extent()
    return area_in, output


def _levels(area_in: int | None, area_out: int | None, parts: Sequence[Unit]) -> tuple[int, ...]:
    """Resolutions reached inside, one below the other, ending with that of the output.

    Squeezes that come back up (squeeze-and-excitation, windows) are no changes.
    """
    if area_in is None or area_out is None or not lowers(area_in, area_out):
        return ()
    inner = {area for part in parts for area in part.levels if area_out <= area < area_in}
    levels: list[int] = []
    for area in sorted(inner | {area_out}, reverse=True):
        if lowers(levels[-1] if levels else area_in, area):
            levels.append(area)
    return tuple(levels)


def _depth(area_in: int | None, area_out: int | None, areas: Set[int]) -> int:
    """Count how many times the resolution falls inside a module that comes back to its own."""
    if area_in is None or area_out is None or lowers(area_in, area_out):
        return 0
    depth, before = 0, area_in
    for area in sorted(areas, reverse=True):
        if lowers(before, area):
            depth, before = depth + 1, area
    return depth
