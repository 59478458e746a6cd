"""The parts of a model that stages are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from torch import nn

from freezekit.staging.extent import TOKENS_RANK, VECTOR_RANK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UnitKind = Literal["parameter", "op", "norm", "layer", "block", "stage"]
"""What a unit is.

parameter: one of a module that spans several units, such as `pos_embed`; op: no parameters;
norm: parameters, but no weight matrix; layer: one weight; block: several; stage: holds blocks.
"""

FALL = 0.6
"""A fall of the resolution leaves fewer positions than this fraction of those before it.

Striding by 2 leaves a quarter, so that `resnet18` needs more than 0.25; `efficientvim_m1`, which
rounds odd sizes up, needs more than 0.5. Convolutions without padding must not count: 24x24 to
22x22 leaves 0.84, so that a chain of them falls into single layers at 0.9. No model of timm and
torchvision that was tried moves between 0.55 and 0.95.
"""

BLOCKS = ("block", "stage")
"""Kinds of units that a body is made of, in a model that is no plain chain of layers."""

NECKS = ("neck", "fpn")
"""What models call a part that fuses the maps of a backbone."""

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Unit:
    """A module (or a bare parameter) that belongs to one stage as a whole.

    Attributes:
        name: Dotted name.
        kind: See `UnitKind`.
        start: Tick of its first use.
        stop: Tick at which the last of its parameters is first used.
        weights: How many of its parameters are weights of layers.
        area_in: Positions that enter it, as in `Call`.
        area_out: Positions that leave it.
        rank_out: Number of dimensions of its output.
        grid_out: Layout of its output, as in `Extent`.
        classifies: Whether it is a layer that makes vectors (or tokens) as wide as the model's
            output, as classifiers do.
        levels: Resolutions reached inside, one below the other; empty where it does not change.
        depth: How many times the resolution falls inside before it comes back, as in a U-Net; 0
            where it does not come back.
        areas: Positions of the maps that its layers return.
        type_name: Name of the module's class.
        alone: Whether it makes a stage by itself, as a list of blocks does, and does not join those
            of its class beside it.
        called: Whether it is called as a whole, and not part by part.
        first: Whether it takes the model's own input, as in `Call`.
        loops: Whether it is called again on what came of it, as in recurrent refinement.
        members: Names of all modules and bare parameters in it, where several had to be joined.
        because: Why it counts as a stage, where what it holds does not say.
    """

    name: str
    kind: UnitKind
    start: int
    stop: int
    weights: int = 0
    area_in: int | None = None
    area_out: int | None = None
    rank_out: int | None = None
    grid_out: tuple[int, ...] | None = None
    classifies: bool = False
    levels: tuple[int, ...] = ()
    depth: int = 0
    areas: frozenset[int] = frozenset()
    type_name: str = ""
    alone: bool = False
    called: bool = False
    first: bool = False
    loops: bool = False
    members: tuple[str, ...] = ()
    because: str = ""

    @property
    def parent(self) -> str:
        """Dotted name of the module that holds it."""
        return self.name.rpartition(".")[0]

    @property
    def vector(self) -> bool:
        """Whether it returns a vector per sample: (batch, channels) or 1x1 pixels."""
        one_pixel = self.area_out == 1 and self.rank_out != TOKENS_RANK
        return self.rank_out == VECTOR_RANK or one_pixel


def lowers(before: int | None, after: int | None) -> bool:
    """Tell whether this is a change of resolution, and not just padding or class tokens.

    Example:
        >>> lowers(56 * 56, 28 * 28), lowers(149 * 149, 147 * 147), lowers(197, 196)
        (True, False, False)
    """
    return before is not None and after is not None and after < FALL * before


def merged_unit(units: Sequence[Unit], kind: UnitKind | None = None) -> Unit:
    """Return one unit of several; the one with the most weights gives its name, and its kind."""
    main = max(units, key=lambda unit: unit.weights)
    last = max(units, key=lambda unit: unit.stop)
    return replace(
        main,
        kind=kind or main.kind,
        start=units[0].start,
        stop=last.stop,
        weights=sum(unit.weights for unit in units),
        first=units[0].first,
        area_in=units[0].area_in,
        area_out=last.area_out,
        rank_out=last.rank_out,
        grid_out=last.grid_out,
        members=tuple(name for unit in units for name in unit.members),
    )


def begins_trunk(unit: Unit) -> bool:
    """Tell whether a trunk begins with this unit: the only one, or one of several encoders."""
    return unit.first and unit.kind != "op"


def trunks(units: Iterable[Unit]) -> list[list[Unit]]:
    """Return the units of each trunk; what comes before the first one counts as one too.

    Example:
        >>> image = [Unit("a.conv", "layer", 1, 2, first=True), Unit("a.block", "block", 3, 9)]
        >>> text = [Unit("b.table", "layer", 10, 11, first=True)]
        >>> [[unit.name for unit in trunk] for trunk in trunks([*image, *text])]
        [['a.conv', 'a.block'], ['b.table']]
    """
    found: list[list[Unit]] = []
    for unit in units:
        if not found or begins_trunk(unit):
            found.append([])
        found[-1].append(unit)
    return found


def in_backbone(unit: Unit, trunk: str = "") -> bool:
    """Tell whether a unit lies in what the model itself calls its backbone.

    Wrappers such as DistributedDataParallel put names of their own before that.

    Args:
        unit: The unit.
        trunk: Another module that is as good as a backbone; "" if there is none.
    """
    parts = unit.name.split(".")
    while parts[0] in ("module", "_orig_mod") and len(parts) > 1:
        parts.pop(0)
    return parts[0] == "backbone" or (bool(trunk) and unit.name.startswith(f"{trunk}."))


def is_neck(unit: Unit) -> bool:
    """Tell whether the model calls this a neck."""
    return bool(unit.weights) and not set(NECKS).isdisjoint(unit.name.split("."))
