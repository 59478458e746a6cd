"""Sentences that change what a reader would do: at most three, the most important first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.explain import flops_do_not_predict_time
from freezekit.report.formatting import mib, ratio
from freezekit.report.peaks import gap_in_short, peak_gap
from freezekit.report.phrasing import listed, percent
from freezekit.report.surprises import (
    alone,
    frees_little,
    lean_outlook,
    lean_pairs,
    trains_the_same,
    work_without_time,
)
from freezekit.results.figures import baseline, fraction, mixed_peaks, saved_against
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
        *_frees_little(full, [row for row in rows if frees_little(full, row)]),
        _lean(result),
        _no_time_gained(result, full, rows),
        _mixed_peaks(result),
        _peak_gap(result, full, rows),
        _trains_the_same([row for row in rows if trains_the_same(full, row)]),
        flops_do_not_predict_time(result, full),
    ]
    return tuple(sentence for sentence in found if sentence)[:MOST_FINDINGS]


def _frees_little(full: Row, rows: list[Row]) -> list[str]:
    """Return a sentence on the rows that lean would help, and one on the others."""
    outlooks = {row.label: found for row in rows if (found := lean_outlook(full, row))}
    helped = [row for row in rows if row.label in outlooks]
    others = [row for row in rows if row.label not in outlooks]
    sentences = []
    if helped:
        left = sorted(found.saved_activations_bytes for found in outlooks.values())
        ends = dict.fromkeys((mib(left[0]), mib(left[-1])))
        sentences.append(
            f"{_frees(full, helped)}; with --lean on, {' to '.join(ends)} of "
            f"{mib(full.memory.saved_activations_bytes)} MiB would be left (predicted)"
        )
    if others:
        # Lean keeps no inputs of frozen layers; why a lean row frees little is another matter.
        is_stock = not any(row.lean for row in others)
        why = ": the layers that train still keep their inputs" if is_stock else ""
        sentences.append(f"{_frees(full, others)}{why}")
    return sentences


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
        f"lean saves most with {row.strategy}: {mib(_saved(row))} MiB of activations are kept "
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
    return "peaks with ~ are predicted, without workspace; do not compare them with measured peaks"


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
