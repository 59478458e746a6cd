"""The summary of a sweep that compares lean with stock, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.zoo.sweep import Line

MIB = 1 << 20


def summary(lines: Sequence[Line]) -> str:
    """Return the counts, then each line that is not exact, worse, failed or refused.

    Example:
        >>> line = {"library": "timm", "name": "vgg11", "strategy": "bias-only", "exact": True}
        >>> figures = {"stock": {"saved": 9, "peak": 20}, "lean": {"saved": 3, "peak": 22}}
        >>> print(summary([{**line, **figures, "status": "compared"}]))
        1 lines of 1 models: 1 exact, 0 not exact, 0 saved worse, 1 peak worse, 0 refused, 0 failed
        1 saved better, 0 peak better; saved 33.3 % and peak 110.0 % of stock's in the median
        <BLANKLINE>
        peak worse:
          timm:vgg11 bias-only: +2 bytes, 20 -> 22 (110.0 %)
    """
    refused = [line for line in lines if line["status"] == "refused"]
    failed = [line for line in lines if line["status"] == "failed"]
    inexact = [line for line in lines if line.get("exact") is False]
    noisy = [line for line in inexact if line.get("stock_differs_from_itself")]
    exact = sum(line.get("exact") is True for line in lines)
    worse = {kind: _worse(lines, kind) for kind in ("saved", "peak")}
    models = len({(line["library"], line["name"]) for line in lines})
    counts = (
        f"{len(lines)} lines of {models} models: {exact} exact, {len(inexact)} not exact, "
        f"{len(worse['saved'])} saved worse, {len(worse['peak'])} peak worse, "
        f"{len(refused)} refused, {len(failed)} failed"
    )
    if noisy:
        counts += f"\n{len(noisy)} of those not exact: stock is not exact to itself either"
    said = [counts, _better(lines)]
    said += _section("not exact", [f"{_name(line)}: {_differs(line)}" for line in inexact])
    for kind, found in worse.items():
        said += _section(f"{kind} worse", [_more(line, kind) for line in found])
    said += _section("failed", [f"{_name(line)}: {_why(line)}" for line in failed])
    said += _section("refused", [f"{_name(line)}: {line['reason'][:120]}" for line in refused])
    blind = [line for line in lines if line.get("blind")]
    said += _section(
        "gradients of zeros or not finite, about which the comparison says little",
        [f"{_name(line)}: {line['blind']}" for line in blind],
    )
    return "\n".join(said)


def _section(title: str, rows: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {row}" for row in rows)] if rows else []


def _worse(lines: Sequence[Line], kind: str) -> list[Line]:
    """Return the lines where lean takes more bytes than stock, the worst first."""
    found = [line for line in lines if "lean" in line and _excess(line, kind) > 0]
    return sorted(found, key=lambda line: -_excess(line, kind))


def _better(lines: Sequence[Line]) -> str:
    compared = [line for line in lines if "lean" in line]
    if not compared:
        return "nothing compared"
    fewer = [sum(_excess(x, kind) < 0 for x in compared) for kind in ("saved", "peak")]
    middle = [_median([_percent(x, kind) for x in compared]) for kind in ("saved", "peak")]
    return (
        f"{fewer[0]} saved better, {fewer[1]} peak better; saved {middle[0]:.1f} % and peak "
        f"{middle[1]:.1f} % of stock's in the median"
    )


def _median(figures: list[float]) -> float:
    return sorted(figures)[len(figures) // 2]


def _excess(line: Line, kind: str) -> int:
    return int(line["lean"][kind] - line["stock"][kind])


def _percent(line: Line, kind: str) -> float:
    return 100 * float(line["lean"][kind] / (line["stock"][kind] or 1))


def _more(line: Line, kind: str) -> str:
    before, after = line["stock"][kind], line["lean"][kind]
    said = f"+{after - before:,} bytes, {before:,} -> {after:,} ({_percent(line, kind):.1f} %)"
    return f"{_name(line)}: {said}"


def _differs(line: Line) -> str:
    first = "; ".join(f"{where}: {what}" for where, what in line["differs"][:2])
    return f"{line['differ']} tensors: {first}"


def _why(line: Line) -> str:
    return f"{line.get('part', '')}: {line['reason'][:160]} at {', '.join(line.get('at', ()))}"


def _name(line: Line) -> str:
    return f"{line['library']}:{line['name']} {line['strategy']}"
