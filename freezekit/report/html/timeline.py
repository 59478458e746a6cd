"""The steps of a run in the order in which they were taken: few enough points to draw."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from freezekit.results.records import Raw

Kind = Literal["measured", "discarded", "warm-up"]

MOST_POINTS = 3000


@dataclass(frozen=True)
class Step:
    """One step, or the median of a few.

    Attributes:
        label: Of its row.
        at: Its place in the run, counted in steps from 0.
        seconds: What it took.
        kind: Whether the estimate uses it: the first steps of a turn are discarded, and those
            before the first turn of a block warm up.
        block: From 0.
    """

    label: str
    at: int
    seconds: float
    kind: Kind
    block: int


@dataclass(frozen=True)
class Timeline:
    """The steps of a run.

    Attributes:
        steps: In the order of the run.
        starts: Where each block starts.
        length: Steps of the whole run, those too that `steps` lacks.
        thinned: What was done to have fewer points, as a sentence; None where all are there.
    """

    steps: tuple[Step, ...]
    starts: tuple[int, ...]
    length: int
    thinned: str | None = None


def timeline(raw: Raw, labels: Sequence[str], discarded: int, most: int = MOST_POINTS) -> Timeline:
    """Put the steps of some rows in the order of the run.

    Where they are more than `most`, warm-up and discarded steps are left out and each turn, or else
    each block, is told by the median of its steps.

    Args:
        raw: The raw steps.
        labels: Of the rows wanted; "control" too.
        discarded: Steps of a turn that the estimate leaves out, from its first.
        most: Points.

    Example:
        >>> from freezekit.results.records import Raw
        >>> turns = {"full": [0.3, 0.2, 0.1]}
        >>> raw = Raw([[["full"]]], [[turns]], [{"full": [0.5]}])
        >>> [(step.at, step.kind) for step in timeline(raw, ["full"], discarded=1).steps]
        [(0, 'warm-up'), (1, 'discarded'), (2, 'measured'), (3, 'measured')]
        >>> few = timeline(raw, ["full"], discarded=1, most=1)
        >>> [(step.at, round(step.seconds, 3)) for step in few.steps], few.thinned
        ([(3, 0.15)], 'A point is the median of a turn; warm-up and discarded steps are left out.')
    """
    wanted = set(labels)
    steps, starts, length = [], [], 0
    for block in range(len(raw.steps)):
        starts.append(length)
        for label, kind, seconds in _block(raw, block, discarded):
            if label in wanted:
                steps.append(Step(label, length, seconds, kind, block))
            length += 1
    if len(steps) <= most:
        return Timeline(tuple(steps), tuple(starts), length)
    left = "warm-up and discarded steps are left out"
    turns = tuple(_medians(_turns(steps)))
    if len(turns) <= most:
        said = f"A point is the median of a turn; {left}."
        return Timeline(turns, tuple(starts), length, said)
    said = f"A point is the median of a block; {left}."
    return Timeline(tuple(_medians(_blocks(steps))), tuple(starts), length, said)


def _block(raw: Raw, block: int, discarded: int) -> Iterator[tuple[str, Kind, float]]:
    warmup: Mapping[str, Sequence[float]] = raw.warmup[block] if block < len(raw.warmup) else {}
    for label, seconds in warmup.items():
        for second in seconds:
            yield label, "warm-up", second
    for order, turns in zip(raw.order[block], raw.steps[block], strict=False):
        for label in order:
            for index, second in enumerate(turns.get(label, ())):
                yield label, "discarded" if index < discarded else "measured", second


def _turns(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Yield the measured steps of each turn: those of a row that directly follow one another."""
    turn: list[Step] = []
    for step in (step for step in steps if step.kind == "measured"):
        if turn and (step.label, step.at) != (turn[-1].label, turn[-1].at + 1):
            yield turn
            turn = []
        turn.append(step)
    if turn:
        yield turn


def _blocks(steps: Sequence[Step]) -> Iterator[list[Step]]:
    groups: dict[tuple[int, str], list[Step]] = {}
    for step in steps:
        if step.kind == "measured":
            groups.setdefault((step.block, step.label), []).append(step)
    yield from groups.values()


def _medians(groups: Iterator[list[Step]]) -> Iterator[Step]:
    for group in groups:
        middle = group[len(group) // 2]
        seconds = median(step.seconds for step in group)
        yield Step(middle.label, middle.at, seconds, "measured", middle.block)
