"""Attention layers, recognised by the name of their class and by the projections they hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_NAMES = re.compile(r"attention|attn|mhsa|gpsa|^xca$", re.IGNORECASE)
_EXCLUDED = re.compile(r"block|layer$|pool|squeeze|split|selective|partition", re.IGNORECASE)
"""Blocks around an attention, gates over channels, and pooling of tokens into one."""

_GATES = re.compile(r"channel|spatial", re.IGNORECASE)
"""Gates over channels or positions, unless they have queries and keys (DaViT)."""


def find_attentions(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the outermost layers in which positions attend to one another.

    Torch, torchvision and timm have no common base class for them, so that the name of the class
    decides. Gates over channels or positions (squeeze-and-excitation, CBAM) and pooling by
    attention do not count.

    Example:
        >>> from torch import nn
        >>> find_attentions(nn.TransformerEncoderLayer(8, 2))
        ('self_attn',)
    """
    found: list[str] = []
    for name, module in model.named_modules():
        if name and not any(name.startswith(f"{outer}.") for outer in found) and _attends(module):
            found.append(name)
    return tuple(found)


def _attends(module: nn.Module) -> bool:
    kind = type(module).__name__
    if not _NAMES.search(kind) or _EXCLUDED.search(kind):
        return False
    if _GATES.search(kind) and not hasattr(module, "qkv"):
        return False
    # A fused projection of query, key and value, and one of the output.
    return sum(parameter.ndim >= 2 for parameter in module.parameters()) >= 2
