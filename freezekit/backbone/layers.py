"""Layers in the sense of layer-wise learning rates: blocks, finer than stages."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from freezekit.model.records import prefixes
from freezekit.staging.units import CONTAINERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from freezekit.model.records import Stage


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


def find_layers(model: nn.Module, stages: Sequence[Stage]) -> tuple[tuple[str, ...], ...]:
    """Return the parameters of each layer, in the order of use.

    A layer is the stem, a block of the body, a neck, or the head. What lies between blocks, such as
    a downsampling, goes with the block after it.

    Example:
        >>> from freezekit import Backbone, load_backbone
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> layers = find_layers(model, Backbone(model).stages)
        >>> len(layers), layers[1][0], layers[2][0]
        (10, 'layer1.0.conv1.weight', 'layer1.1.conv1.weight')
    """
    layers: list[tuple[str, ...]] = []
    for stage in stages:
        layers += _blocks(model, stage) if stage.kind == "body" else [stage.parameters]
    return tuple(layer for layer in layers if layer)


def _blocks(model: nn.Module, stage: Stage) -> list[tuple[str, ...]]:
    modules = dict(model.named_modules())
    lists: list[str] = []
    for name in stage.modules:
        inside = any(outer in lists for outer in prefixes(name))
        if not inside and _is_list_of_blocks(modules[name]):
            lists.append(name)
    found: list[list[str]] = [[]]
    last = None
    for name in stage.parameters:
        around = [*prefixes(name), name]
        block = next((b for o, b in pairwise(around) if o in lists), None)
        if block is not None and last is not None and block != last:
            found.append([])
        last = block or last
        found[-1].append(name)
    return [tuple(names) for names in found]


def _is_list_of_blocks(module: nn.Module) -> bool:
    """Tell whether a module is a list, or as good as one: all in it is of one class."""
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    weights = [sum(p.ndim >= 2 for p in child.parameters()) for child in children]
    alike = isinstance(module, CONTAINERS) or len({type(child) for child in children}) == 1
    return alike and len(weights) >= LEAST_BLOCKS and min(weights) >= LEAST_WEIGHTS
