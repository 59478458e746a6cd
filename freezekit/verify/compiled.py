"""Lean under `torch.compile`: the same bits as the same training without lean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.verify.isolation import same_bits
from freezekit.verify.records import Check, count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from freezekit.verify.training import TrainedCopy


def same_as_stock(lean: TrainedCopy, stock: TrainedCopy) -> Check:
    """Compare losses, parameters and buffers after the same compiled training in lean and stock."""
    mine, theirs = _tensors(lean.model), _tensors(stock.model)
    other = tuple(name for name in mine if not same_bits(mine[name], theirs[name]))
    steps = sum(
        a != b for a, b in zip(map(repr, lean.losses), map(repr, stock.losses), strict=True)
    )
    if not other and not steps:
        detail = f"{count(len(mine), 'tensor')} and all losses as compiled without lean, bit by bit"
    else:
        detail = (
            f"{len(other)} of {count(len(mine), 'tensor')} and the loss of {count(steps, 'step')} "
            "differ from those of the same model compiled without lean"
        )
    return Check("same-as-stock", not other and not steps, detail, other)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
