"""The results of `epochs` as a table."""

from __future__ import annotations

from statistics import median
from typing import Any

HEADER = """\
| model | spec | bytes a sample | epoch: plain | cached | ratio | fill | \
step: limit | added | cached / limit |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def page(found: dict[str, Any]) -> str:  # Any: JSON
    """Return the rows of a result as Markdown.

    Epochs are in wall time. Steps are in CPU time: other processes take nothing from it.

    Example:
        >>> epoch = {"plain": {"wall": 8.0}, "cached": {"wall": 0.02}}
        >>> step = {"cached": {"cpu": 0.0105}, "limit": {"cpu": 0.01}}
        >>> row = {"model": "resnet50", "spec": "head-only", "bytes_per_sample": 8192}
        >>> row |= {"fill_seconds": 4.0, "epochs": [epoch], "steps": [step]}
        >>> print(page({"rows": [row]}).splitlines()[-1])
        | resnet50 | `head-only` | 8 KiB | 8 s | 0.02 s | **400** | 4 s | 10 ms | 500 us | 1.05 |
    """
    return "\n".join([HEADER, *(_row(row) for row in found["rows"])])


def _row(row: dict[str, Any]) -> str:  # Any: JSON
    epochs, steps = row["epochs"], row["steps"]
    plain, cached = (median(turn[way]["wall"] for turn in epochs) for way in ("plain", "cached"))
    ratio = median(turn["plain"]["wall"] / turn["cached"]["wall"] for turn in epochs)
    limit = median(turn["limit"]["cpu"] for turn in steps)
    over = median(turn["cached"]["cpu"] / turn["limit"]["cpu"] for turn in steps)
    cells = (
        row["model"],
        f"`{row['spec']}`",
        f"{row['bytes_per_sample'] / 1024:,.0f} KiB",
        f"{plain:.2g} s",
        f"{cached:.2g} s",
        f"**{ratio:.3g}**",
        f"{row['fill_seconds']:.2g} s",
        f"{1e3 * limit:,.3g} ms",
        f"{1e6 * limit * (over - 1):,.3g} us",
        f"{over:.2f}",
    )
    return f"| {' | '.join(cells)} |"
