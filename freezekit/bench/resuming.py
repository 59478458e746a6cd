"""What an earlier run has measured already, so that it need not be measured again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.bench.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.bench.results import Result
    from freezekit.bench.variant import Variant

VERSIONS = ("device", "torch", "torchvision", "timm")


def left_to_measure(
    variants: Sequence[Variant], earlier: Sequence[Result], now: Result, *, static_only: bool
) -> tuple[Variant, ...]:
    """Return those of the variants that no earlier run has measured; nothing where all are done.

    Where some are left the baseline is among them: ratios are within one run.

    Args:
        variants: What was asked for, the baseline first.
        earlier: Results of the file.
        now: The run that begins, with its workload and versions resolved.
        static_only: Whether step times are not asked for.

    Example:
        >>> from freezekit.bench.results import Result, Row, Workload
        >>> from freezekit.bench.variant import Variant
        >>> now = Result("0.1.0", Workload("timm:resnet18"), {"torch": "2.15.0"})
        >>> before = Result("0.1.0", now.workload, now.env, (Row("full"),), complete=True)
        >>> asked = [Variant("full"), Variant("head-only")]
        >>> [v.label for v in left_to_measure(asked, [before], now, static_only=True)]
        ['full', 'head-only']
        >>> left_to_measure(asked[:1], [before], now, static_only=True)
        ()
    """
    done = {
        row.variant
        for result in earlier
        if result.complete and _alike(result, now)
        for row in result.rows
        if row.status == "ok" and (static_only or row.time is not None)
    }
    left = [variant for variant in variants if variant not in done]
    if not left:
        return ()
    return tuple(dict.fromkeys([BASELINE, *left]))


def superseded(earlier: Result, now: Result) -> bool:
    """Tell whether a whole new run holds all that an interrupted earlier one was to measure."""
    if earlier.complete or not now.complete or not _alike(earlier, now):
        return False
    return {row.variant for row in earlier.rows} <= {row.variant for row in now.rows}


def _alike(earlier: Result, now: Result) -> bool:
    """Tell whether figures of one run are as good as the other's: step, versions, protocol."""
    return (
        earlier.workload.key == now.workload.key
        and (earlier.freezekit, earlier.protocol) == (now.freezekit, now.protocol)
        and all(earlier.env.get(name) == now.env.get(name) for name in VERSIONS)
    )
