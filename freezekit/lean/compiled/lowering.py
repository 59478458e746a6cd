"""The kernels that Inductor generates for bits: it fuses them with the functions around them.

They count in integers of 32 bits, not in booleans. On the CPU, the code that Inductor generates
took ten to twenty times as long to store a mask of booleans as to pack it in this way.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch._inductor import virtualized  # not its `ops`, whose attributes doctest cannot ask for
from torch._inductor.ir import Pointwise
from torch._inductor.lowering import register_lowering
from torch.utils._sympy.functions import FloorDiv, ModularIndexing

from freezekit.lean.compiled.mask_operators import PACK, UNPACK

if TYPE_CHECKING:
    from collections.abc import Sequence


@register_lowering(PACK, type_promotion_kind=None)
def _pack(
    mask: Any, splits: Sequence[int]
) -> Any:  # Any: nodes and values of Inductor's, all below
    sizes = [size // parts for size, parts in zip(mask.get_size(), splits, strict=True)]
    load = mask.make_loader()

    def byte(index: Sequence[Any]) -> Any:
        total = None
        for bit, parts in enumerate(product(*map(range, splits))):
            place = [n * size + i for n, size, i in zip(parts, sizes, index, strict=True)]
            value = virtualized.ops.where(load(place), _integer(1 << bit), _integer(0))
            total = value if total is None else virtualized.ops.bitwise_or(total, value)
        return virtualized.ops.to_dtype(total, torch.uint8)

    return Pointwise.create(
        device=mask.get_device(), dtype=torch.uint8, inner_fn=byte, ranges=sizes
    )


@register_lowering(UNPACK, type_promotion_kind=None)
def _unpack(bits: Any, splits: Sequence[int]) -> Any:
    held = bits.get_size()
    load = bits.make_loader()

    def element(index: Sequence[Any]) -> Any:
        place, bit = [], 0
        for dim, (i, size, parts) in enumerate(zip(index, held, splits, strict=True)):
            place.append(i if parts == 1 else ModularIndexing(i, 1, size))
            if parts > 1:
                bit = bit + FloorDiv(i, size) * prod(splits[dim + 1 :])
        weight = virtualized.ops.bitwise_left_shift(
            _integer(1), virtualized.ops.index_expr(bit, torch.int32)
        )
        value = virtualized.ops.bitwise_and(
            virtualized.ops.to_dtype(load(place), torch.int32), weight
        )
        return virtualized.ops.ne(value, _integer(0))

    return Pointwise.create(
        device=bits.get_device(),
        dtype=torch.bool,
        inner_fn=element,
        ranges=[size * parts for size, parts in zip(held, splits, strict=True)],
    )


def _integer(value: int) -> Any:
    return virtualized.ops.constant(value, torch.int32)
