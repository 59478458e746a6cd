"""Layers in the sense of layer-wise learning rates: blocks, finer than stages."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from freezekit.model.records import prefixes
from freezekit.staging.assigning import Assignment
from freezekit.staging.merging import find_dependence
from freezekit.staging.units import CONTAINERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from freezekit.model.records import Stage
    from freezekit.staging.trace import Trace


LEAST_BLOCKS = 2
"""Blocks that a list of blocks has at least.

With 3, `resnet18` has no lists, and 6 layers instead of 10. With 1, a `Sequential` around one block
counts, and `convnext_atto` loses the layer of a downsampling.
"""

LEAST_WEIGHTS = 2
"""Weight tensors that each block of a list has at least.

With 3, the blocks of `resnet18` and `densenet121` are none. With 1, each linear layer of a
transformer is a block: `vit_tiny_patch16_224` has 50 layers instead of 14.
"""


def find_layers(
    model: nn.Module, stages: Sequence[Stage], trace: Trace | None = None
) -> tuple[tuple[str, ...], ...]:
    """Return the parameters of each layer, in the order of use.

    A layer is the stem, a block of the body, a neck, or the head. What lies between blocks, such as
    a downsampling, goes with the block after it. Blocks that are used in turns, or of which the
    first depends on the last, are one layer: the first layers, however many, are a prefix.

    Args:
        model: The model.
        stages: Its stages.
        trace: What was seen of a forward pass. Without it, the blocks of a stage are in the order
            of registration.

    Example:
        >>> from freezekit import Backbone, load_backbone
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> layers = find_layers(model, Backbone(model).stages)
        >>> len(layers), layers[1][0], layers[2][0]
        (10, 'layer1.0.conv1.weight', 'layer1.1.conv1.weight')
    """
    uses = {name: ticks[0] for name, ticks in trace.uses.items()} if trace else {}
    layers: list[tuple[str, ...]] = []
    for stage in stages:
        if stage.kind == "body":
            layers += _blocks(model, stage, uses)
        elif stage.parameters:
            layers.append(stage.parameters)
    return tuple(_merge_dependent(model, layers, trace) if trace else layers)


def _merge_dependent(
    model: nn.Module, layers: Sequence[tuple[str, ...]], trace: Trace
) -> list[tuple[str, ...]]:
    merged = list(layers)
    while True:
        layer_of = {name: at for at, names in enumerate(merged) for name in names}
        found = find_dependence(model, trace, Assignment(layer_of, {}), len(merged))
        if found is None:
            return merged
        together = merged[found.first : found.last + 1]
        merged[found.first : found.last + 1] = [tuple(name for names in together for name in names)]


def _blocks(model: nn.Module, stage: Stage, uses: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Divide the parameters of a stage into its blocks, in the order of use."""
    ticks = _ticks(stage.parameters, uses)
    spans: dict[str, tuple[int, int]] = {}
    for name, block in _blocks_of(model, stage).items():
        start, stop = spans.get(block, (ticks[name], ticks[name]))
        spans[block] = (min(start, ticks[name]), max(stop, ticks[name]))
    stops: list[int] = []  # of each layer, ascending
    for start, stop in sorted(spans.values()):
        if stops and start < stops[-1]:  # they take turns
            stops[-1] = max(stop, stops[-1])
        else:
            stops.append(stop)
    layers: dict[int, list[str]] = defaultdict(list)
    for name in stage.parameters:  # what lies between blocks goes with the next one
        layers[min(bisect_left(stops, ticks[name]), max(len(stops) - 1, 0))].append(name)
    return [tuple(layers[at]) for at in sorted(layers)]


def _ticks(names: Sequence[str], uses: Mapping[str, int]) -> dict[str, int]:
    """Return when each parameter is used first; those that are not, stay behind the one before."""
    if not uses:
        return {name: at for at, name in enumerate(names)}
    ticks: dict[str, int] = {}
    tick = 0
    for name in names:
        tick = uses.get(name, tick)
        ticks[name] = tick
    return ticks


def _blocks_of(model: nn.Module, stage: Stage) -> dict[str, str]:
    """Return the block that each parameter lies in; those that lie in none are left out."""
    modules = dict(model.named_modules())
    lists: list[str] = []
    for name in stage.modules:
        inside = any(outer in lists for outer in prefixes(name))
        if not inside and _is_list_of_blocks(modules[name]):
            lists.append(name)
    found = {}
    for name in stage.parameters:
        around = [*prefixes(name), name]
        block = next((b for o, b in pairwise(around) if o in lists), None)
        if block is not None:
            found[name] = block
    return found


def _is_list_of_blocks(module: nn.Module) -> bool:
    """Tell whether a module is a list, or as good as one: all in it is of one class."""
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    weights = [sum(p.ndim >= 2 for p in child.parameters()) for child in children]
    alike = isinstance(module, CONTAINERS) or len({type(child) for child in children}) == 1
    return alike and len(weights) >= LEAST_BLOCKS and min(weights) >= LEAST_WEIGHTS
