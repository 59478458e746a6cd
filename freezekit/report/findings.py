"""Sentences that change what a reader would do: at most three, the most important first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.compiling import compiling_in_short
from freezekit.report.explain import flops_do_not_predict_time
from freezekit.report.filling import filling_in_short
from freezekit.report.formatting import mib, ratio
from freezekit.report.peaks import gap_in_short, peak_gap
from freezekit.report.phrasing import listed, percent
from freezekit.report.surprises import (
    LEAN_PAYS,
    alone,
    frees_little,
    lean_outlook,
    lean_pairs,
    trains_the_same,
    work_without_time,
)
from freezekit.results.derived import baseline, fraction, mixed_peaks, saved_against
from freezekit.results.records import FREES_LITTLE

if TYPE_CHECKING:
    from freezekit.results.records import Result, Row

MOST_FINDINGS = 3
MOST_NAMES = 50  # characters; a sentence of two lines has room for no more


def findings(result: Result) -> tuple[str, ...]:
    """Return at most three sentences, each of at most two lines where labels are short.

    Rows that share a sentence are named in one. The order is by how much a sentence would change a
    decision: first strategies that are of no use as they stand, and what would make them so; then
    figures that are easily misread; last what merely surprises.

    Example:
        >>> from freezekit.results.records import Memory, Parameters, Result, Row, Workload
        >>> rows = [
        ...     Row(name, parameters=Parameters(100, trained, name),
        ...         memory=Memory(saved_activations_bytes=saved))
        ...     for name, trained, saved in (("full", 100, 500), ("batch-norm", 99, 499))
        ... ]
        >>> print(*findings(Result("0.1.0", Workload("timm:resnet18"), {}, tuple(rows))))
        batch-norm frees 0.2 % of the saved activations: the layers that train still keep their
        inputs
    """
    full = baseline(result)
    if full is None:
        return ()
    rows = alone(result, full)
    found = [
        filling_in_short(result),
        compiling_in_short(result),
        *_frees_little(result, full, [row for row in rows if frees_little(full, row)]),
        _lean(result),
        _no_time_gained(result, full, rows),
        _mixed_peaks(result),
        _peak_gap(result, full, rows),
        _trains_the_same([row for row in rows if trains_the_same(full, row)]),
        flops_do_not_predict_time(result, full),
    ]
    return tuple(sentence for sentence in found if sentence)[:MOST_FINDINGS]


def _frees_little(result: Result, full: Row, rows: list[Row]) -> list[str]:
    """Return a sentence each on the rows that lean would help, that it helps, and on the others."""
    predicted = {
        row.label: outlook.saved_activations_bytes
        for row in rows
        if (outlook := lean_outlook(full, row))
    }
    measured = {
        stock.label: left
        for row, stock in lean_pairs(result)
        if (left := _saved(row)) is not None and _is_less(left, stock, full)
    }
    helped = [row for row in rows if row.label in predicted]
    beside = [row for row in rows if row.label in measured and row not in helped]
    others = [row for row in rows if row not in helped and row not in beside]
    sentences = []
    if helped:
        kept = _of_full([predicted[row.label] for row in helped], full)
        sentences.append(f"{_frees(full, helped)}; --lean on would leave {kept} (predicted)")
    if beside:
        kept = _of_full([measured[row.label] for row in beside], full)
        sentences.append(f"{_frees(full, beside)}; [lean] keeps {kept}")
    if others:
        # Lean keeps no inputs of frozen layers; why a lean row frees little is another matter.
        is_stock = not any(row.lean for row in others)
        why = ": the layers that train still keep their inputs" if is_stock else ""
        sentences.append(f"{_frees(full, others)}{why}")
    return sentences


def _is_less(left: int, stock: Row, full: Row) -> bool:
    """Tell whether lean keeps so much less than the stock row that it is worth a mention."""
    saved = fraction((_saved(stock) or 0) - left, _saved(full))
    return saved is not None and saved >= LEAN_PAYS


def _of_full(left: list[int], full: Row) -> str:
    ends = dict.fromkeys((mib(min(left)), mib(max(left))))
    return f"{' to '.join(ends)} of {mib(_saved(full))} MiB"


def _frees(full: Row, rows: list[Row]) -> str:
    most = max(1 - (saved_against(full, row) or 0) for row in rows)
    at_most = "at most " if len(rows) > 1 else ""
    frees = f"{at_most}{percent(most)}" if most > 0 else "none"
    return f"{_named(rows)} {_verb('free', rows)} {frees} of the saved activations"


def _lean(result: Result) -> str | None:
    """Tell where lean saves most against stock, and what it costs there."""
    saved = [
        (1 - left, row, stock)
        for row, stock in lean_pairs(result)
        if (left := fraction(row.memory.saved_activations_bytes, _saved(stock))) is not None
    ]
    most, row, stock = max(saved, key=lambda found: found[0], default=(0.0, None, None))
    if row is None or stock is None or most < FREES_LITTLE:
        return None
    text = (
        f"lean saves most with {stock.label}: {mib(_saved(row))} MiB of activations are kept "
        f"instead of {mib(_saved(stock))} MiB"
    )
    time = row.time
    if time is None or time.ratio_to_stock is None:
        return text
    return f"{text}, for {ratio(time.ratio_to_stock, time.ratio_to_stock_ci)} of the step time"


def _saved(row: Row) -> int | None:
    return row.memory.saved_activations_bytes


def _no_time_gained(result: Result, full: Row, rows: list[Row]) -> str | None:
    idle = {row.label: work for row in rows if (work := work_without_time(full, row)) is not None}
    if not idle:
        return None
    these = [row for row in rows if row.label in idle]
    text = (
        f"{_named(these)} {_verb('do', these)} {'at least ' if len(these) > 1 else ''}"
        f"{percent(1 - max(idle.values()))} less work than `full`, but no difference in time is "
        "shown"
    )
    was_cut = (result.timing_design or {}).get("cut")
    return f"{text}; --budget 0 measures longer" if was_cut else text


def _mixed_peaks(result: Result) -> str | None:
    if not mixed_peaks(result):
        return None
    return "do not compare peaks with ~, which are predicted, with measured peaks"


def _peak_gap(result: Result, full: Row, rows: list[Row]) -> str | None:
    """Tell of the row whose peak falls short of its saved activations by most."""
    gaps = [gap for row in rows if (gap := peak_gap(result, full, row))]
    widest = max(gaps, key=lambda gap: gap.freed + gap.change, default=None)
    return gap_in_short(widest) if widest else None


def _trains_the_same(rows: list[Row]) -> str | None:
    if not rows:
        return None
    return (
        f"{_named(rows)} {_verb('train', rows)} every parameter that `full` trains, so no "
        "activations are freed"
    )


def _named(rows: list[Row]) -> str:
    return listed([row.label for row in rows], MOST_NAMES)


def _verb(plural: str, rows: list[Row]) -> str:
    """Return a verb as it stands after these rows' names."""
    if len(rows) > 1:
        return plural
    return f"{plural}es" if plural.endswith("o") else f"{plural}s"
