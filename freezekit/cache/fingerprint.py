"""What the rows of a cache depend on, as text: a cache of anything else is not taken."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from freezekit.verify.isolation import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from freezekit.cache.prefix import Prefix
    from freezekit.freezing.plan import FreezePlan


def frozen_tensors(model: nn.Module, plan: FreezePlan) -> dict[str, Tensor]:
    """Return the frozen parameters, and the buffers of held modules, by name."""
    held = plan.eval_modules or frozenset()
    buffers = {n: b for n, b in model.named_buffers() if n.rpartition(".")[0] in held}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return frozen | buffers


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of names and bits."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(digest(tensor)[0])
    return found.hexdigest()[:16]


def fingerprint(
    weights: str, prefix: Prefix, data: str, settings: Mapping[str, object]
) -> dict[str, str]:
    """Return all that the rows depend on, by what a message calls it.

    Args:
        weights: Of `weights_digest`.
        prefix: Its cut and layout.
        data: A version that the user gave, or a digest of samples.
        settings: Such as the batch size.
    """
    return {
        "frozen weights": weights,
        "boundary": ", ".join(map(str, prefix.cut)),
        "layout": ", ".join(map(str, prefix.leaves)),
        "data": data,
        "torch": str(torch.__version__),
        **{name: str(value) for name, value in settings.items()},
    }
