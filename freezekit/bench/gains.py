"""What compiled rows gain over eager ones; pure, no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.bench.statistics import block_scores, estimate, verdict

if TYPE_CHECKING:
    from freezekit.results.records import Compilation, Raw


def beside_eager(
    known: Compilation, raw: Raw, label: str, eager: str, *, floor: float | None
) -> Compilation:
    """Return what compilation costs with the ratio of step times to the eager row.

    Args:
        known: With the time to compile.
        raw: Complete blocks.
        label: Of the compiled row.
        eager: Of the row of the same strategy without `torch.compile`; it may be missing.
        floor: The noise floor as a ratio less 1, None where it is unknown.

    Example:
        >>> from freezekit.results.records import Compilation, Raw
        >>> block = [{"a": [9.0, 2.0, 2.0], "a [compiled]": [9.0, 1.5, 1.5]}]
        >>> raw = Raw(steps=[block, block])
        >>> found = beside_eager(Compilation(40.0), raw, "a [compiled]", "a", floor=0.01)
        >>> found.ratio_to_eager, found.verdict
        (0.75, 'faster')
    """
    scores = block_scores(raw, label, eager)
    if not scores:
        return known
    found = estimate(scores)
    return replace(
        known,
        ratio_to_eager=found.ratio,
        ratio_to_eager_ci=found.ci,
        verdict=verdict(found, None if floor is None else math.log1p(floor)),
    )
