"""What stands under a comparison: what was not measured or not compared, exact bytes, the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.compare.differences import COMPARED, common_floor
from freezekit.report import formatting
from freezekit.report.notes import Note
from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.compare.differences import Count, Difference
    from freezekit.compare.pairing import Pair
    from freezekit.results.figures import Figure
    from freezekit.results.records import Result

SIDES = ("the old run", "the new run")
MOST_EXACT = 12  # rows whose bytes are spelled out


def comparison_notes(
    pair: Pair, found: Sequence[Difference], names: tuple[str, str] = SIDES
) -> list[Note]:
    """Return all notes in the order of reading.

    Example:
        >>> from freezekit.results.records import Memory, Result, Row, Workload
        >>> from freezekit.compare.differences import differences
        >>> from freezekit.compare.pairing import pair
        >>> row = Row("full", memory=Memory(200, "predicted"))
        >>> run = Result("0.1.0", Workload("timm:resnet18"), {}, (row,), complete=True)
        >>> pairs = pair([run], [run])
        >>> [note.text for note in comparison_notes(pairs[0], differences(pairs[0]))]
        ['peak: exactly equal']
    """
    notes = (*_exactly(found), *_peaks(found), *_times(pair, found), *_environments(pair))
    return [
        *(Note("interrupted", text) for text in _interrupted(pair, names)),
        *(Note("failed", text) for text in _failures(found)),
        *(Note("note", text) for text in notes),
        *(Note("warning", text) for text in _missing(pair)),
    ]


def _interrupted(pair: Pair, names: tuple[str, str]) -> list[str]:
    return [
        f"{name} did not come to its end: {_unfinished(run)}"
        for name, run in zip(names, (pair.old, pair.new), strict=True)
        if not run.complete
    ]


def _unfinished(run: Result) -> str:
    """Return what the rows of an interrupted run lack."""
    counted = [row for row in run.rows if row.memory.peak_bytes is not None]
    lacks = {
        "nothing was measured": [row for row in run.rows if row not in counted],
        "no peak was measured": [r for r in counted if r.memory.peak_method != "measured"],
        "no step was timed": [row for row in counted if row.time is None],
    }
    parts = [
        f"{what} of {_some([row.label for row in rows], len(run.rows))}"
        for what, rows in lacks.items()
        if rows
    ]
    return "; ".join(parts) or "step times may be of fewer blocks than were to be timed"


def _some(labels: Sequence[str], of: int) -> str:
    return "any row" if len(labels) == of else ", ".join(labels)


def _failures(found: Sequence[Difference]) -> list[str]:
    texts = []
    for difference in found:
        for when, row in (("old", difference.old), ("new", difference.new)):
            if row.status != "ok":
                texts.append(f"{row.label}: failed in the {when} run: {row.error}")
    return texts


def _exactly(found: Sequence[Difference]) -> list[str]:
    """Spell out bytes and FLOPs that changed; what a percentage rounds away is seen here."""
    texts = []
    equal: dict[str, None] = {}
    for d in found:
        counts = {figure: d.counts[figure.name] for figure in COMPARED}
        known = {f: c for f, c in counts.items() if c.old is not None and c.new is not None}
        changed = [_in_full(figure, c) for figure, c in known.items() if c.old != c.new]
        equal |= dict.fromkeys(_title(figure) for figure in known)
        if changed:
            texts.append(f"{d.label}: {', '.join(changed)}")
    if len(texts) > MOST_EXACT:
        texts[MOST_EXACT:] = [f"and {len(texts) - MOST_EXACT} more rows changed"]
    if not texts and equal:
        return [f"{', '.join(equal)}: exactly equal"]
    return texts


def _in_full(figure: Figure, count: Count) -> str:
    assert count.old is not None
    assert count.new is not None
    unit = " bytes" if figure.unit == "bytes" else " FLOP"
    return f"{_title(figure)} {count.old:,} -> {count.new:,}{unit} ({count.new - count.old:+,})"


def _title(figure: Figure) -> str:
    return figure.heading.title if figure.heading else figure.name


def _peaks(found: Sequence[Difference]) -> list[str]:
    """Say which peaks are not compared, one of them having been measured, the other predicted."""
    labels: dict[tuple[str, str], list[str]] = {}
    for d in found:
        old, new = d.old.memory.peak_method, d.new.memory.peak_method
        if old and new and old != new:
            labels.setdefault((old, new), []).append(d.label)
    return [
        f"peaks not compared{_of(rows, found)}: {old} in the old run, {new} in the new one, and "
        "only a measured peak holds workspace"
        for (old, new), rows in labels.items()
    ]


def _of(labels: Sequence[str], found: Sequence[Difference]) -> str:
    return "" if len(labels) == len(found) else f" of {', '.join(labels)}"


def _times(pair: Pair, found: Sequence[Difference]) -> list[str]:
    if pair.old.protocol != pair.new.protocol:
        return [
            f"times not compared: measured by protocol {pair.old.protocol} and {pair.new.protocol}"
        ]
    texts = _untimed([d for d in found if d.new.variant != BASELINE])
    if not any(d.time for d in found):
        return texts
    floor = common_floor(pair)
    said = (
        "the noise floor of both runs is unknown, and no change is claimed"
        if floor is None
        else "by the noise floor of both runs no ratio between "
        f"{formatting.band(floor)} is shown as a change"
    )
    return [
        "ratio, new / old: of each run's ratio to its own full, with a 95% interval; " + said,
        *texts,
    ]


def _untimed(found: Sequence[Difference]) -> list[str]:
    """Say which rows' times are in one run alone."""
    labels: dict[str, list[str]] = {}
    for d in found:
        if d.time is None and (d.old.time or d.new.time):
            side = "old" if d.old.time is None else "new" if d.new.time is None else ""
            why = f"the {side} run timed no step" if side else "the raw steps are missing"
            labels.setdefault(why, []).append(d.label)
    return [f"times not compared{_of(rows, found)}: {why}" for why, rows in labels.items()]


def _environments(pair: Pair) -> list[str]:
    if not pair.elsewhere:
        return []
    differ = ", ".join(pair.elsewhere)
    return [f"the environments differ: {differ}; bytes and FLOPs may change with them"]


def _missing(pair: Pair) -> list[str]:
    sides = (("old", pair.only_old), ("new", pair.only_new))
    return [f"only in the {side} run: {', '.join(labels)}" for side, labels in sides if labels]
