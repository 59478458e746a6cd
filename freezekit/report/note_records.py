"""Notes under a table: what each is, in full and shorter."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

from freezekit.report.formatting import plain
from freezekit.report.phrasing import cut, listed

Kind = Literal["interrupted", "failed", "warning", "precision", "finding", "detail", "definition"]
URGENT: tuple[Kind, ...] = ("interrupted", "failed")
SHOWN_FIRST: tuple[Kind, ...] = (*URGENT, "warning", "precision", "finding")
WIDTH = 80  # columns that lines are counted at, whatever the terminal has
INDENT = 2
LINE = WIDTH - INDENT
TWO_LINES = 2 * LINE - 12  # the first line is rarely full to its last column
MOST_NAMES = 40  # characters of rows' names before a shortened warning
LEAST_REASON = 30  # characters of a reason after names that leave it no room


@dataclass(frozen=True)
class Note:
    """One note under a table.

    Attributes:
        kind: "interrupted", "failed" and "warning" come first. "precision" says how exact the
            figures are, such as by the noise floor. A "finding" changes what a reader would do.
            A "detail" or a "definition" is shown on request.
        text: The note in full.
        shorter: Shorter forms of it, the shortest first; none where it is never shortened.
    """

    kind: Kind
    text: str
    shorter: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notes:
    """Everything that is said of one table.

    Attributes:
        all: In the order of reading.
        how_to_see_all: What a user gives the command for it, such as "--explain".
    """

    all: tuple[Note, ...]
    how_to_see_all: str

    def of(self, *kinds: Kind) -> tuple[Note, ...]:
        """Return the notes of these kinds, in the order of reading."""
        return tuple(note for note in self.all if note.kind in kinds)


def note(kind: Kind, text: str) -> Note:
    """Return a note; one that may be shortened where it is urgent or a warning.

    Example:
        >>> note("warning", "few blocks").text
        'few blocks'
    """
    text = plain(text)
    may_be_cut = kind in (*URGENT, "warning")
    return Note(kind, text, (cut(text, LINE), cut(text, TWO_LINES)) if may_be_cut else ())


def note_of_rows(kind: Literal["failed", "warning"], labels: tuple[str, ...], said: str) -> Note:
    """Return what is said of some rows; of a failure every row is named, however short it is.

    Example:
        >>> failure = note_of_rows("failed", ("full", "head-only"), "error: " + 30 * "word ")
        >>> failure.shorter[0]
        'full, head-only: error: word word word word word word word word word (cut)'
    """
    names = plain(", ".join(labels))
    lead = names if kind == "failed" else plain(listed(labels, MOST_NAMES))
    room = [max(LEAST_REASON, most - len(lead) - len(": ")) for most in (LINE, TWO_LINES)]
    said = plain(said)
    return Note(kind, f"{names}: {said}", tuple(f"{lead}: {cut(said, most)}" for most in room))


def rows_by_text(said: list[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the labels of the rows of which the same is said, by what is said.

    Example:
        >>> rows_by_text([("a", "slow"), ("b", "slow"), ("a", "slow")])
        {'slow': ('a', 'b')}
    """
    labels: dict[str, tuple[str, ...]] = {}
    for label, text in dict.fromkeys(said):
        labels[text] = (*labels.get(text, ()), label)
    return labels


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a note in a list of that many columns, without bullet and indent."""
    return [
        line
        for paragraph in text.splitlines() or [""]
        for line in textwrap.wrap(paragraph, max(20, width - INDENT), break_on_hyphens=False)
    ] or [""]
