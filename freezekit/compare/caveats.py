"""What is said under a comparison: what was not measured or not compared, bytes, the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.compare.differences import COMPARED, common_floor
from freezekit.report import formatting
from freezekit.report.note_records import Note, Notes, note, note_of_rows, rows_by_text
from freezekit.report.over_time import schedule_title
from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.compare.differences import Count, Difference
    from freezekit.compare.pairing import Pair
    from freezekit.results.figures import Figure
    from freezekit.results.records import Result

SHOW_ALL = "compare --markdown"
SIDES = ("the old run", "the new run")


def comparison_notes(
    pair: Pair, found: Sequence[Difference], names: tuple[str, str] = SIDES
) -> Notes:
    """Return everything that is said of a comparison, in the order of reading.

    Example:
        >>> from freezekit.results.records import Memory, Result, Row, Workload
        >>> from freezekit.compare.differences import differences
        >>> from freezekit.compare.pairing import pair
        >>> row = Row("full", memory=Memory(200, "predicted"))
        >>> run = Result("0.1.0", Workload("timm:resnet18"), {}, (row,), complete=True)
        >>> pairs = pair([run], [run])
        >>> [note.text for note in comparison_notes(pairs[0], differences(pairs[0])).all]
        ['peak: exactly equal']
    """
    warnings = (*_missing(pair), *_environments(pair), *_peaks(found), *_untimed(pair, found))
    said = [
        *(note("interrupted", text) for text in _interrupted(pair, names)),
        *_failures(found),
        *(note("warning", text) for text in warnings),
        *(note("precision", text) for text in _noise(pair, found)),
        *(note("finding", text) for text in (*_exactly(found), *_whole_runs(pair))),
        *(note("definition", text) for text in _meanings(found)),
    ]
    return Notes(tuple(said), SHOW_ALL)


def _interrupted(pair: Pair, names: tuple[str, str]) -> list[str]:
    return [
        f"{name} did not finish: {_unfinished(run)}"
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
        f"{what} for {_some([row.label for row in rows], len(run.rows))}"
        for what, rows in lacks.items()
        if rows
    ]
    return "; ".join(parts) or "step times may be of fewer blocks than were to be timed"


def _some(labels: Sequence[str], of: int) -> str:
    return "any row" if len(labels) == of else ", ".join(labels)


def _failures(found: Sequence[Difference]) -> list[Note]:
    failed = [
        (row.label, f"failed in the {when} run: {row.error}")
        for difference in found
        for when, row in (("old", difference.old), ("new", difference.new))
        if row.status != "ok"
    ]
    return [note_of_rows("failed", rows, text) for text, rows in rows_by_text(failed).items()]


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
    if not texts and equal:
        return [f"{', '.join(equal)}: exactly equal"]
    return texts


def _whole_runs(pair: Pair) -> list[str]:
    """Spell out what changed in the totals of the schedules that both runs have."""
    before = {schedule.key: schedule for schedule in pair.old.schedules}
    texts = []
    for new in pair.new.schedules:
        old = before.get(new.key)
        if old is None:
            continue
        changed = []
        if old.peak_method == new.peak_method and old.peak_bytes != new.peak_bytes:
            changed.append(_changed("highest peak", old.peak_bytes, new.peak_bytes, " bytes"))
        if old.flops != new.flops:
            changed.append(_changed("work", old.flops, new.flops, " FLOP"))
        if changed:
            texts.append(f"{schedule_title(new)}: whole run: {', '.join(changed)}")
    return texts


def _in_full(figure: Figure, count: Count) -> str:
    unit = " bytes" if figure.unit == "bytes" else " FLOP"
    return _changed(_title(figure), count.old, count.new, unit)


def _changed(what: str, old: int | None, new: int | None, unit: str) -> str:
    if old is None or new is None:
        return f"{what} {_known(old)} -> {_known(new)}{unit}"
    return f"{what} {old:,} -> {new:,}{unit} ({new - old:+,})"


def _known(count: int | None) -> str:
    return formatting.MISSING if count is None else f"{count:,}"


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


def _noise(pair: Pair, found: Sequence[Difference]) -> list[str]:
    if not any(d.time for d in found):
        return []
    floor = common_floor(pair)
    if floor is None:
        return ["noise floor of both runs: unknown, so that no change in time is claimed"]
    return [
        f"noise floor of both runs: no ratio between {formatting.band(floor)} is shown as a change"
    ]


def _meanings(found: Sequence[Difference]) -> list[str]:
    if not any(d.time for d in found):
        return []
    return [
        "ratio, new / old: the ratio to `full` in the new run, divided by that in the old run; in "
        "brackets the 95 % interval"
    ]


def _untimed(pair: Pair, found: Sequence[Difference]) -> list[str]:
    """Say which rows' times are not compared, and why."""
    if pair.old.protocol != pair.new.protocol:
        return [
            f"times not compared: measured by protocol {pair.old.protocol} and {pair.new.protocol}"
        ]
    timed = [d for d in found if d.new.variant != BASELINE]
    why = [
        (d.label, _why_untimed(d)) for d in timed if d.time is None and (d.old.time or d.new.time)
    ]
    return [
        f"times not compared{_of(rows, timed)}: {text}" for text, rows in rows_by_text(why).items()
    ]


def _why_untimed(difference: Difference) -> str:
    if difference.old.time is None:
        return "the old run timed no step"
    return (
        "the new run timed no step" if difference.new.time is None else "the raw steps are missing"
    )


def _environments(pair: Pair) -> list[str]:
    if not pair.elsewhere:
        return []
    differ = ", ".join(pair.elsewhere)
    return [f"the environments differ: {differ}; bytes and FLOPs may change with them"]


def _missing(pair: Pair) -> list[str]:
    sides = (("old", pair.only_old), ("new", pair.only_new))
    return [f"only in the {side} run: {', '.join(labels)}" for side, labels in sides if labels]
