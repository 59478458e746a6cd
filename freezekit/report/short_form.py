"""What is said of a table by default: ten lines, the most urgent first; the rest on request."""

from __future__ import annotations

from dataclasses import dataclass, replace

from freezekit.report.note_records import URGENT, WIDTH, Note, Notes, wrapped
from freezekit.report.phrasing import listed

MOST_LINES = 10


@dataclass(frozen=True)
class ShortForm:
    """What is shown by default, and what is not.

    Attributes:
        shown: In the order of reading, some of them shortened.
        rest: The notes that are left out or shortened, in full.
        left_out: What `rest` holds, in words; "" where nothing is left out.
    """

    shown: tuple[Note, ...]
    rest: tuple[Note, ...]
    left_out: str


def short_form(notes: Notes) -> ShortForm:
    """Choose what is shown by default: at most ten lines, the last of which tells what is not.

    Failures are always shown, be they more than ten lines. Each wish below is granted where room is
    left; one that comes later never takes the room of an earlier one.

    Example:
        >>> said = (Note("finding", "head-only frees most"), Note("definition", "peak: memory"))
        >>> found = short_form(Notes(said, "--explain"))
        >>> [note.text for note in found.shown], found.left_out
        (['head-only frees most'], 'definitions')
    """
    urgent, warnings = notes.of(*URGENT), notes.of("warning")
    precision, findings = notes.of("precision"), notes.of("finding")
    chosen: dict[int, str] = {}
    room = MOST_LINES - 1
    wishes = (
        *((note, _forms(note)[0], True) for note in urgent),
        *((note, note.text, True) for note in precision),
        *((note, _forms(note)[0], False) for note in warnings),
        *((note, text, False) for note in urgent for text in _forms(note)[1:-1]),
        *((note, note.text, False) for note in urgent),
        *((note, note.text, False) for note in findings[:1]),
        *((note, text, False) for note in warnings for text in _forms(note)[1:-1]),
        *((note, note.text, False) for note in findings[1:]),
        *((note, note.text, False) for note in warnings),
    )
    for note, text, always in wishes:
        before = chosen.get(id(note))
        more = len(wrapped(text, WIDTH)) - (len(wrapped(before, WIDTH)) if before else 0)
        if always or more <= max(room, 0):
            chosen[id(note)] = text
            room -= more
    shown = [(note, chosen[id(note)]) for note in notes.all if id(note) in chosen]
    is_whole = {id(note) for note, text in shown if text == note.text}
    rest = tuple(note for note in notes.all if id(note) not in is_whole)
    return ShortForm(
        tuple(replace(note, text=text) for note, text in shown),
        rest,
        _left_out([note for note in rest if id(note) not in chosen], len(shown) - len(is_whole)),
    )


def _forms(note: Note) -> tuple[str, ...]:
    return (*note.shorter, note.text)


def _left_out(absent: list[Note], shortened: int) -> str:
    """Say in a line what is not shown, or not in full; definitions are no notes to count."""
    more = [note for note in absent if note.kind != "definition"]
    warnings = sum(note.kind == "warning" for note in more)
    parts = []
    if more:
        of_them = f" ({warnings} {'warnings' if warnings > 1 else 'warning'})" if warnings else ""
        parts.append(f"{len(more)} more note{'s' if len(more) > 1 else ''}{of_them}")
    if shortened:
        parts.append(f"{shortened} note{'s' if shortened > 1 else ''} in full")
    if len(more) < len(absent):
        parts.append("definitions")
    return listed(parts) if parts else ""
