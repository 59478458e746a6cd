"""A comparison as a reader sees it: a table in the terminal, or the same as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from freezekit.compare.differences import Count, Difference, common_floor, differences
from freezekit.errors import CompareError
from freezekit.report import units
from freezekit.report.cells import Column, tabulate, title
from freezekit.report.markdown import markdown_table
from freezekit.report.notes import Note
from freezekit.report.table import heading, note_lines, table_lines

if TYPE_CHECKING:
    from rich.console import Console

    from freezekit.bench.results import Row
    from freezekit.compare.pairing import Pair

PEAK = Column("peak, MiB", ("peak", "MiB"), lambda d: units.mib(d.peak_bytes.new))
SAVED = Column("saved activations, MiB", ("saved", "MiB"), lambda d: units.mib(d.saved_bytes.new))
MOST_EXACT = 12  # rows whose bytes are spelled out under the table


def print_comparison(pair: Pair, console: Console, *, absolute: bool = False) -> None:
    """Print how the new run differs from the old one, as wide as the console."""
    found, width, encoding = differences(pair), console.width, console.encoding
    console.print(
        Group(
            heading(_title(pair), width, encoding),
            Text(),
            *_table(found, _columns(absolute), width, encoding),
            *note_lines(_notes(pair, found), width, encoding),
        )
    )


def _table(
    found: tuple[Difference, ...], columns: tuple[Column, ...], width: int, encoding: str
) -> list[Text]:
    """Return the table's lines; on a narrow terminal sizes give way to their changes."""
    cells = tabulate(columns, [(difference,) for difference in found])
    lines = table_lines(cells, [difference.label for difference in found], width, encoding)
    if max(map(len, lines)) <= width or columns[0].title != "peak, MiB":
        return lines
    return _table(found, tuple(c for c in columns if c not in (SAVED, PEAK)), width, encoding)


def comparison_markdown(pair: Pair, *, absolute: bool = False) -> str:
    """Return the same as Markdown."""
    found = differences(pair)
    cells = tabulate(_columns(absolute), [(difference,) for difference in found])
    return markdown_table(_title(pair), cells, [d.label for d in found], _notes(pair, found))


def check_absolute(pair: Pair) -> None:
    """Raise where step times in seconds are not to be compared.

    Raises:
        CompareError: The runs are of different environments; the message says in what.
    """
    if pair.elsewhere:
        raise CompareError(
            f"step times in ms are not comparable, the environments differ: "
            f"{', '.join(pair.elsewhere)}; leave --absolute out (ratios to full stay comparable), "
            "or give --force"
        )


def _title(pair: Pair) -> str:
    started = [str(run.env.get("started") or "?") for run in (pair.old, pair.new)]
    return f"{title(pair.new)}: {started[0]} -> {started[1]}"


def _columns(absolute: bool) -> tuple[Column, ...]:
    return (
        PEAK,
        Column("peak, change", ("peak", "change"), lambda d: units.change(d.peak_bytes.change)),
        SAVED,
        Column("saved, change", ("saved", "change"), lambda d: units.change(d.saved_bytes.change)),
        Column("FLOPs, change", ("GFLOP", "change"), lambda d: units.change(d.flops.change)),
        *(_ABSOLUTE if absolute else ()),
        Column("new ratio / old ratio [95% interval]", ("ratio,", "new / old"), _time, False),
        Column("verdict", ("verdict", ""), lambda d: d.time.verdict if d.time else "", False),
    )


def _step(row: Row) -> str:
    return units.milliseconds(row.time.step_seconds.median if row.time else None)


_ABSOLUTE = (
    Column("old step, ms", ("old", "ms"), lambda d: _step(d.old)),
    Column("new step, ms", ("new", "ms"), lambda d: _step(d.new)),
)


def _time(difference: Difference) -> str:
    time = difference.time
    return units.ratio(time.ratio, time.ci, time.verdict) if time else units.MISSING


def _notes(pair: Pair, found: tuple[Difference, ...]) -> list[Note]:
    return [
        *(Note("failed", text) for text in _failures(found)),
        *(Note("note", text) for text in (*_exactly(found), *_times(pair, found))),
        *(Note("warning", text) for text in _missing(pair)),
    ]


def _failures(found: tuple[Difference, ...]) -> list[str]:
    texts = []
    for difference in found:
        for when, row in (("old", difference.old), ("new", difference.new)):
            if row.status != "ok":
                texts.append(f"{row.label}: failed in the {when} run: {row.error}")
    return texts


def _exactly(found: tuple[Difference, ...]) -> list[str]:
    """Spell out bytes and FLOPs that changed; what a percentage rounds away is seen here."""
    texts = []
    for d in found:
        counts = {
            "peak": d.peak_bytes,
            "saved": d.saved_bytes,
            "FLOPs": d.flops,
        }
        changed = [_in_full(name, c) for name, c in counts.items() if c.change]
        if changed:
            texts.append(f"{d.label}: {', '.join(changed)}")
    if len(texts) > MOST_EXACT:
        texts[MOST_EXACT:] = [f"and {len(texts) - MOST_EXACT} more rows changed"]
    if not texts and any(d.saved_bytes.change == 0 for d in found):
        return ["bytes and FLOPs: equal to the last one"]
    return texts


def _in_full(name: str, count: Count) -> str:
    assert count.old is not None
    assert count.new is not None
    unit = "" if name == "FLOPs" else " bytes"
    return f"{name} {count.old:,} -> {count.new:,}{unit} ({count.new - count.old:+,})"


def _times(pair: Pair, found: tuple[Difference, ...]) -> list[str]:
    if pair.old.protocol != pair.new.protocol:
        return [
            f"times not compared: measured by protocol {pair.old.protocol} and {pair.new.protocol}"
        ]
    if not any(d.time for d in found):
        return []
    floor = common_floor(pair)
    said = "unknown" if floor is None else units.share(floor)
    texts = [
        "ratio, new / old: of each run's ratio to its own full, with a 95% interval; noise floor "
        f"of both runs {said}, below which no change is claimed"
    ]
    if pair.elsewhere:
        texts.append(f"the environments differ: {', '.join(pair.elsewhere)}")
    return texts


def _missing(pair: Pair) -> list[str]:
    sides = (("old", pair.only_old), ("new", pair.only_new))
    return [f"only in the {side} run: {', '.join(labels)}" for side, labels in sides if labels]
