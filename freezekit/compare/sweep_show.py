"""Two sweeps as a reader sees them: a table in the terminal, or the same as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import to_builtins
from rich.console import Group
from rich.text import Text

from freezekit.bench.environment import differing
from freezekit.report.cells import Cells, Column, tabulate
from freezekit.report.markdown import markdown_table
from freezekit.report.note_records import Note, Notes, note
from freezekit.report.sweep_cells import estimate, ratio, sweep_title
from freezekit.report.table import heading, note_lines, table_lines
from freezekit.sweep.comparing import excludes_zero
from freezekit.sweep.figures import is_share
from freezekit.sweep.records import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from freezekit.compare.sweep_pairing import SweepPair
    from freezekit.sweep.records import SweepRow

MEANINGS = (
    "difference: the new figure less the old one; without an interval that excludes 0, no change "
    "is shown.",
    "GFLOP, memory: new / old, as counted and predicted.",
)


def print_sweeps(pair: SweepPair, console: Console) -> None:
    """Print how the new sweep differs from the old one, as wide as the console."""
    width, encoding = console.width, console.encoding
    console.print(
        Group(
            heading(_title(pair), width, encoding),
            Text(),
            *table_lines(_cells(pair), [new.label for _, new in pair.rows], width, encoding),
            *note_lines(sweeps_notes(pair), width, encoding),
        )
    )


def sweeps_markdown(pair: SweepPair) -> str:
    """Return the same as Markdown."""
    labels = [new.label for _, new in pair.rows]
    return markdown_table(_title(pair), _cells(pair), labels, sweeps_notes(pair), first="candidate")


def sweeps_notes(pair: SweepPair) -> Notes:
    """Return everything that is said of a comparison, in the order of reading."""
    warnings = [
        *_pairing(pair),
        *_candidates(pair),
        *_settings(pair),
        *_elsewhere(pair),
        *_missing(pair),
    ]
    unfinished = [
        f"the {name} sweep is not complete"
        for name, sweep in (("old", pair.old), ("new", pair.new))
        if not sweep.complete
    ]
    said = [
        *(note("interrupted", text) for text in unfinished),
        *(note("warning", text) for text in warnings),
        *(Note("finding", text) for text in _recommended(pair)),
        *(Note("definition", text) for text in MEANINGS),
    ]
    return Notes(tuple(said), "compare --markdown")


def _title(pair: SweepPair) -> str:
    started = [str(sweep.env.get("started") or "?") for sweep in (pair.old, pair.new)]
    return f"{sweep_title(pair.new)}: {started[0]} -> {started[1]}"


def _cells(pair: SweepPair) -> Cells:
    share = is_share(pair.new.settings.metric)
    name = pair.new.settings.metric.replace("_", " ")
    percent, points = (", %", ", points") if share else ("", "")

    def change(old: SweepRow, new: SweepRow) -> str:
        return estimate(pair.difference(old, new), share, signed=True)

    columns = (
        Column(f"old {name}{percent}", ("old", name), lambda o, _: _mean(o, share)),
        Column(f"new {name}{percent}", ("new", name), lambda _, n: _mean(n, share)),
        Column(f"difference{points} [95% interval]", ("difference", "new - old"), change, False),
        Column(
            "GFLOP, new / old", ("GFLOP,", "new/old"), lambda o, n: ratio(_over(n.gflops, o.gflops))
        ),
        Column(
            "memory, new / old",
            ("mem.,", "new/old"),
            lambda o, n: ratio(_over(n.peak_bytes, o.peak_bytes)),
        ),
        Column("verdict", ("verdict", ""), lambda o, n: _verdict(pair, o, n), False),
    )
    return tabulate(columns, pair.rows)


def _mean(row: SweepRow, share: bool) -> str:
    return estimate(None if row.metric is None else Estimate(row.metric.value), share)


def _over(new: float | None, old: float | None) -> float | None:
    return None if new is None or not old else new / old


def _verdict(pair: SweepPair, old: SweepRow, new: SweepRow) -> str:
    for row, when in ((old, "old"), (new, "new")):
        if row.status != "ok":
            return f"{row.status} in the {when}"
    found = pair.difference(old, new)
    if found is None or not excludes_zero(found):
        return "no difference shown"
    return "better" if (found.value > 0) is pair.new.settings.higher_is_better else "worse"


def _pairing(pair: SweepPair) -> list[str]:
    if not pair.are_same_images:
        return [
            "the images differ "
            f"({pair.old.data.digest} -> {pair.new.data.digest}): intervals are of two samples, "
            "and a difference may be one of the images"
        ]
    if pair.common_seeds < 2:
        return ["the seeds differ: intervals are of two samples, which are wider than paired ones"]
    return []


def _candidates(pair: SweepPair) -> list[str]:
    """Return what differs between rows that are paired, and of which rows where not of all."""
    facts: dict[str, Callable[[SweepRow], object]] = {
        "model": lambda row: row.candidate.model,
        "image size": lambda row: row.candidate.image_size or "the model's own",
        "learning rate": lambda row: row.lr or row.candidate.lr,
    }
    found = []
    for name, of in facts.items():
        apart: dict[str, list[str]] = {}
        for old, new in pair.rows:
            if of(old) != of(new):
                apart.setdefault(f"{of(old)} -> {of(new)}", []).append(new.label)
        for change, labels in apart.items():
            whose = "" if len(labels) == len(pair.rows) else f" of {', '.join(labels)}"
            found.append(f"the {name}{whose} differs: {change}")
    return found


def _settings(pair: SweepPair) -> list[str]:
    besides = {"seeds", "engine", "at_once", "budget_seconds", "budget_choice", "lr_grid", "rungs"}
    old, new = to_builtins(pair.old.settings), to_builtins(pair.new.settings)
    apart = [
        f"{name} ({old[name]} -> {new[name]})"
        for name in old
        if name not in besides and old[name] != new[name]
    ]
    return [f"the settings differ: {', '.join(apart)}"] if apart else []


def _elsewhere(pair: SweepPair) -> list[str]:
    apart = differing(pair.old.env, pair.new.env)
    return [f"the environments differ: {', '.join(apart)}"] if apart else []


def _missing(pair: SweepPair) -> list[str]:
    sides = (("old", pair.only_old), ("new", pair.only_new))
    return [f"only in the {side} sweep: {', '.join(labels)}" for side, labels in sides if labels]


def _recommended(pair: SweepPair) -> list[str]:
    old, new = pair.old.recommended, pair.new.recommended
    if old == new:
        return [f"recommended by both: {new}"] if new else []
    return [f"recommended: {old or 'none'} -> {new or 'none'}"]
