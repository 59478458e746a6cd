"""Rows of the lean benchmark as text for the terminal and for the page about lean."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from benchmarks.lean.cases import COMPILED_SPECS, MODELS
from benchmarks.lean.targets import CLOSE, PEAK, SAVED, above_bound, counted, share_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.lean.records import Row

MIB = 2**20
HEAD = (
    "strategy",
    "stock saved",
    "lean",
    "least",
    "`torch.compile`",
    "FrozenBatchNorm2d",
    "stock peak",
    "lean peak",
)


def as_line(row: Row) -> str:
    """Return a row in MiB: saved activations, then peaks."""
    start = f"{row['model']:30}{row['strategy']:48}"
    if row.get("status") != "ok":
        return start + row.get("error", "not counted")
    stock, lean = row["stock"], row["lean"]
    if "error" in lean:
        return f"{start}{_mib(stock[SAVED])}  lean failed: {lean['error']}"
    figures = stock[SAVED], lean[SAVED], row["bound_bytes"]
    others = (_other(row.get(name), _mib) for name in ("compiled", "frozen_batch_norm"))
    peaks = "".join(_mib(column[PEAK]) for column in (stock, lean))
    far = "  far from the bound" if above_bound(row) > CLOSE else ""
    return start + "".join(map(_mib, figures)) + "".join(f"{o:>15}" for o in others) + peaks + far


def as_markdown(rows: Sequence[Row]) -> str:
    """Return a table for each model: shares of stock, in bold where far from the bound."""
    return "\n\n".join(
        f"### {model}\n\n" + _table(list(group))
        for model, group in groupby(rows, key=lambda row: row["model"])
    )


def as_page(rows: Sequence[Row]) -> str:
    """Return the tables of the page about lean: a summary of all models, and resnet50 in full."""
    first, *_ = MODELS
    return f"{_summary(rows)}\n\n{_table([row for row in rows if row['model'] == first])}"


def _summary(rows: Sequence[Row]) -> str:
    """Return lean's share of stock for each model, with the bound in brackets."""
    known = {(row["model"], row["strategy"]): row for row in rows}

    def cell(model: str, strategy: str) -> str:
        row = known.get((model, strategy), {})
        if not counted(row):
            return "-"
        shares = row["lean"][SAVED], row["bound_bytes"]
        return "{:.1f} % ({:.1f})".format(*(100 * size / row["stock"][SAVED] for size in shares))

    head = ["", *(f"`{name}`" if " " not in name else name for name in COMPILED_SPECS)]
    lines = [head, ["---", *["---:"] * len(COMPILED_SPECS)]]
    lines += [[model, *(cell(model, strategy) for strategy in COMPILED_SPECS)] for model in MODELS]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _table(rows: list[Row]) -> str:
    lines = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)], *map(_cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Row) -> list[str]:
    name = row["strategy"]
    strategy = f"`{name}`" if " " not in name else name
    if not counted(row):
        said = "refused" if row.get("status") == "refused" else "failed"
        return [strategy, said, *["-"] * (len(HEAD) - 2)]
    stock = row["stock"]

    def share(size: int) -> str:
        return f"{100 * size / stock[SAVED]:.1f} %"

    lean = share(row["lean"][SAVED])
    return [
        strategy,
        f"{stock[SAVED] / MIB:.1f} MiB",
        f"**{lean}**" if above_bound(row) > CLOSE else lean,
        share(row["bound_bytes"]),
        _other(row.get("compiled"), share),
        _other(row.get("frozen_batch_norm"), share),
        f"{stock[PEAK] / MIB:.1f} MiB",
        f"{100 * share_of(row, 'lean', PEAK):.1f} %",
    ]


def _other(figures: dict[str, Any] | None, as_text: Any) -> str:
    """Return what another way saves, or why there is no figure."""
    if figures is None:
        return "-"
    if SAVED in figures:
        return str(as_text(figures[SAVED])).strip()
    said = figures.get("status") or ("refused" if "refused" in figures else "failed")
    return "-" if said == "does not apply" else said


def _mib(size: int) -> str:
    return f"{size / MIB:10.2f}"
