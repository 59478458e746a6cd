"""`fraction` freezes no more than its share, as torch itself counts."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.field.answers import answer, arrived
from tests.field.table import STRUCTURES
from tests.sampled import sampled

some = pytest.mark.parametrize("structure", sampled(STRUCTURES, every=5), ids=str)


@some
def test_no_more_than_the_share_of_the_parameters(structure):
    decided = answer(structure, "fraction:share=0.7,of=parameters").plan
    if decided is not None:
        sizes = {name: p.numel() for name, p in structure.make().named_parameters()}
        chosen = decided.frozen - arrived(structure)
        assert sum(sizes[name] for name in chosen) <= 0.7 * sum(sizes.values())


@some
def test_no_more_than_the_share_of_the_flops(structure):
    decided = answer(structure, "fraction:share=0.7").plan
    if decided is not None:
        # In train mode, as the fast path of nn.TransformerEncoder in eval mode is not counted.
        model = structure.make().train().requires_grad_(False)
        # As matrix products, as torch does not count its fused attention of the CPU either.
        with (
            FlopCounterMode(display=False) as counted,
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            structure.run(model)
        counts, root = counted.get_flop_counts(), type(model).__name__
        total = counted.get_total_flops()
        chosen = _modules(model, decided.frozen - arrived(structure))
        part = sum(sum(counts.get(f"{root}.{name}", {}).values()) for name in chosen)
        assert part <= 0.7 * total, f"{part / total:.0%} of the FLOPs are in {chosen}"


def _modules(model, frozen):
    """Return the outermost modules that have parameters of their own, all of them frozen."""
    found = []
    for name, module in model.named_modules():
        own = {f"{name}.{n}" for n, _ in module.named_parameters(recurse=False)}
        if own and frozen.issuperset(own) and not name.startswith(tuple(f"{f}." for f in found)):
            found.append(name)
    return found
