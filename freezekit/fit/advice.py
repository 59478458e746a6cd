"""How a batch that does not fit would fit: with a memory budget."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.bench.memory import traced_memory
from freezekit.bench.static import session_on_shapes
from freezekit.errors import FreezekitError, FreezekitWarning
from freezekit.fit.records import WithinBudget
from freezekit.results.lean_text import budget_text
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload


def is_to_be_advised(variant: Variant, variants: Sequence[Variant]) -> bool:
    """Tell whether advice about a budget belongs to a row: to the lean one of a strategy if any.

    Example:
        >>> stock, lean = Variant("full"), Variant("full", lean=True)
        >>> [is_to_be_advised(row, (stock, lean)) for row in (stock, lean)]
        [False, True]
    """
    if variant.cached or isinstance(variant.lean, str):
        return False
    return variant.lean is True or Variant(variant.spec, lean=True) not in variants


def within_budget(
    workload: Workload, spec: str, registry: Registry | None, batch: int, limit_bytes: int
) -> WithinBudget | None:
    """Return how a batch fits into a limit if a part of the model is computed again.

    None where it does not fit even so, or where nothing can be predicted.
    """
    lean = budget_text(limit_bytes)
    step = replace(workload, batch_size=batch)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FreezekitWarning)  # that it does not fit is the answer
            with session_on_shapes(step, spec, registry, lean=lean) as (session, _):
                memory, _ = traced_memory(session, workspace=True)
                more_flops = session.frozen.recomputed_flops
    except (FreezekitError, RuntimeError):  # as the row itself, which says why
        return None
    peak_bytes = (memory.tracker_peak_bytes or 0) + (memory.workspace_bytes or 0)
    return WithinBudget(lean, peak_bytes, more_flops) if peak_bytes <= limit_bytes else None
