"""The targets of lean, and whether it meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.lean.cases import FIRST_CONVOLUTION_AND_HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.lean.records import Row

SAVED, PEAK = "saved_activations_bytes", "peak_bytes"
CLOSE = 1.10  # as a multiple of the bound
SHARES = {  # largest share of stock's saved activations
    ("resnet50", "surgical:stages=stem"): 0.13,
    ("resnet50", "surgical:stages=first"): 0.48,
    ("resnet50", "bias-only"): 0.08,
    ("resnet50", "batch-norm"): 0.50,
    ("resnet50", "norm-only"): 0.55,
    ("resnet50", FIRST_CONVOLUTION_AND_HEAD): 0.05,
    ("efficientnet_b0", "surgical:stages=stem"): 0.38,
    ("mobilenetv3_large_100", "surgical:stages=stem"): 0.28,
}


def checked(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield each target in words, with "ok ..." or "MISSED ..."."""
    known = {(row["model"], row["strategy"]): row for row in rows if counted(row)}
    for key, most in SHARES.items():
        label = f"{key[0]}, {key[1]}: at most {most:.0%} of stock saved activations"
        if key in known:
            share = share_of(known[key], "lean", SAVED)
            yield label, f"{'ok' if share <= most else 'MISSED'} {share:.2%}"
        else:
            yield label, "MISSED: not counted"
    for label, figure in (("saved activations", SAVED), ("peak", PEAK)):
        more = [_name(row) for row in known.values() if share_of(row, "lean", figure) > 1]
        verdict = f"MISSED {len(more)}: {more}" if more else "ok"
        yield f"{len(known)} rows: lean has no more {label} than stock", verdict
    failed = [_name(row) for row in rows if "error" in row.get("lean", {})]
    yield "lean runs everywhere", f"MISSED {failed}" if failed else "ok"
    far = [_name(row) for row in known.values() if above_bound(row) > CLOSE]
    yield f"lean within {CLOSE - 1:.0%} of the bound", f"no, in {len(far)}: {far}" if far else "ok"
    under = [_name(row) for row in known.values() if above_bound(row) < 1]
    yield "lean not under the bound", f"MISSED {under}" if under else "ok"


def counted(row: Row) -> bool:
    return SAVED in row.get("lean", {})


def share_of(row: Row, column: str, figure: str) -> float:
    """Return a column's figure as a share of stock's."""
    mine: dict[str, Any] = row[column]
    return mine[figure] / row["stock"][figure]  # type: ignore[no-any-return]  # JSON


def above_bound(row: Row) -> float:
    return row["lean"][SAVED] / row["bound_bytes"]  # type: ignore[no-any-return]  # JSON


def _name(row: Row) -> str:
    return f"{row['model']} {row['strategy']}"
