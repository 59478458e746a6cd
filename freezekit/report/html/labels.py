"""Where to put the labels of points so that they cover one another least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LETTER_PIXELS, LINE_PIXELS = 7.2, 15
MARKER_PIXELS = 7  # half of a marker
# What a label may cover, by its price for each square pixel, and being outside or short by itself.
COVERS_LABEL, COVERS_MARKER, COVERS_INTERVAL, OUTSIDE, SHORT = 6.0, 8.0, 3.0, 1000.0, 150.0


@dataclass(frozen=True)
class Offset:
    """Where a label begins, in pixels from its point."""

    align: Literal["left", "right", "center"]
    dx: int
    dy: int


OFFSETS = {
    "right": Offset("left", 10, 0),
    "left": Offset("right", -10, 0),
    "above right": Offset("left", 8, -13),
    "below right": Offset("left", 8, 13),
    "above left": Offset("right", -8, -13),
    "below left": Offset("right", -8, 13),
    "above": Offset("center", 0, -16),
    "below": Offset("center", 0, 16),
    "far above": Offset("left", 8, -28),
    "far below": Offset("left", 8, 28),
}


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: _Box) -> float:
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across * down if across > 0 and down > 0 else 0.0


def place_labels(
    at: Sequence[tuple[float, float]],
    texts: Sequence[str],
    short: Sequence[str],
    intervals: Sequence[tuple[float, float]],
    size: tuple[float, float],
    first: Iterable[int] = (),
) -> list[tuple[str, bool]]:
    """Return a key of `OFFSETS` for each label, and whether there is room for its whole text.

    One label after the other takes the place where it covers least of the labels before it, of
    markers and of intervals; where the whole text would cover too much, the short one.

    Args:
        at: Positions of points, in pixels from the left and from above.
        texts: Of the labels; a point with an empty one has none.
        short: Texts to fall back on.
        intervals: Left and right end of the horizontal bar through each point.
        size: Of the plot.
        first: Indices of the labels that choose before the others.

    Example:
        >>> def place(at, texts, short):
        ...     return place_labels(at, texts, short, [(x, x) for x, _ in at], (200, 100))
        >>> place([(80, 50), (94, 50)], ["a name", "another"], ["1", "2"])
        [('left', True), ('right', True)]
        >>> place([(195, 50)], ["long"], ["1"])
        [('left', True)]
        >>> place([(100, 50)], ["a name longer than there is room for"], ["1"])
        [('right', False)]
    """
    markers = [
        _Box(x - MARKER_PIXELS, y - MARKER_PIXELS, x + MARKER_PIXELS, y + MARKER_PIXELS)
        for x, y in at
    ]
    bars = [
        _Box(low, y - 2, high, y + 2) for (low, high), (_, y) in zip(intervals, at, strict=True)
    ]
    placed: list[_Box] = []
    chosen: dict[int, tuple[str, bool]] = {}
    for index in dict.fromkeys([*first, *range(len(at))]):
        if not texts[index]:
            chosen[index] = "right", True
            continue
        others = [box for i, box in enumerate(markers) if i != index]

        def cost(
            place: tuple[str, bool], index: int = index, others: Sequence[_Box] = others
        ) -> float:
            name, is_long = place
            text = texts[index] if is_long else short[index]
            box = _box(at[index], text, OFFSETS[name])
            outside = box.left < 0 or box.top < 0 or box.right > size[0] or box.bottom > size[1]
            return (
                OUTSIDE * outside
                + COVERS_LABEL * sum(box.shared(other) for other in placed)
                + COVERS_MARKER * sum(box.shared(other) for other in others)
                + COVERS_INTERVAL * sum(box.shared(bar) for bar in bars)
                + SHORT * (not is_long)
            )

        best = min(((name, is_long) for is_long in (True, False) for name in OFFSETS), key=cost)
        chosen[index] = best
        text = texts[index] if best[1] else short[index]
        placed.append(_box(at[index], text, OFFSETS[best[0]]))
    return [chosen[index] for index in range(len(at))]


def _box(at: tuple[float, float], text: str, offset: Offset) -> _Box:
    width = LETTER_PIXELS * len(text)
    x, y = at[0] + offset.dx, at[1] + offset.dy
    left = {"left": x, "right": x - width, "center": x - width / 2}[offset.align]
    return _Box(left, y - LINE_PIXELS / 2, left + width, y + LINE_PIXELS / 2)
