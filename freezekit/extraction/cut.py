"""The outputs of frozen modules that stand for a whole frozen part."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from freezekit.cache.calls import outputs_of
from freezekit.model.nested import tensors

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor, nn

    from freezekit.cache.prefix import Prefix


def cut_inside(
    model: nn.Module, prefix: Prefix, modules: Collection[str], images: Tensor
) -> Prefix | None:
    """Return a prefix that ends inside some modules, None where no outputs of theirs are enough.

    A prefix as it is found may end with a call that has no weights and belongs to the next stage,
    such as a pooling, beside the output of the frozen stage or in place of it.

    Args:
        model: In eval mode.
        prefix: What was found.
        modules: Names of the modules of the frozen part.
        images: With which the model is run.
    """
    whole = prefix
    for call in prefix.calls:
        if call.module not in modules:
            whole = whole.without(call)
    calls = whole.calls
    with torch.no_grad():
        wanted = list(tensors(model(images)))
        found = outputs_of(model, lambda: model(images), calls) if calls else {}

        def is_enough(cut: Prefix) -> bool:
            if not cut.leaves:
                return False
            nothing = torch.full((), float("nan"), dtype=images.dtype, device=images.device)
            rows = cut.rows(found, len(images))
            try:
                out = cut.run(model, lambda: model(nothing.expand_as(images)), rows)
                pairs = zip(tensors(out), wanted, strict=True)
                return all(torch.equal(one, other) for one, other in pairs)
            except Exception:  # noqa: BLE001  # a stub may break any code of the model
                return False

        for count in range(1, len(calls) + 1):  # mostly the last call is enough
            cut = replace(whole, cut=calls[-count:])
            if is_enough(cut):
                for call in cut.cut[:-1]:
                    less = replace(cut, cut=tuple(c for c in cut.cut if c != call))
                    cut = less if is_enough(less) else cut
                return cut
    return None
