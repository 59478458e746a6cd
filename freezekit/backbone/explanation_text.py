"""Why the stages of a model are as they are, as plain text."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from freezekit.backbone.unit_table import kinds_text, unit_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from freezekit.backbone.explanation import Explanation
    from freezekit.staging.decisions import Merge

_SHOWN = 4  # names in a sentence


def explanation_text(told: Explanation, width: int = 80) -> str:
    """Return an explanation as plain text, at most `width` columns wide.

    Example:
        >>> from torch import nn
        >>> from freezekit import Backbone
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1),
        ...     nn.Flatten(), nn.Linear(8, 10))
        >>> print(explanation_text(Backbone(net).explanation))
        Sequential: why it has these 3 stages
          stem, 1-2, head
        <BLANKLINE>
        One forward pass was observed, on an input of shape (2, 3, 224, 224).
        <BLANKLINE>
        Units, in the order of use
          unit  kind   parameters  output   stage
          ───────────────────────────────────────
          0     layer         224  222x222  stem
          1     op              0  111x111  1-2
          2     layer         584  109x109  1-2
          3     op              0      1x1  head
          4     op              0   vector  head
          5     layer          90   vector  head
          op: no parameters; layer: one weight matrix
        <BLANKLINE>
        Modules opened, because their parts belong to several stages
          None.
        <BLANKLINE>
        Where the body begins and ends
          It begins with 1: no unit between the first layer and the classifier is a
          block, so that the stem is the first layer and what belongs to it.
          It ends with 2: the classifier follows.
        <BLANKLINE>
        Why a stage of the body begins
          1-2: the body begins here.
        <BLANKLINE>
        Stages merged, because the first depends on the last
          None: no stage has an output that depends on a parameter of a later stage.
    """
    paragraphs = list(_paragraphs(told, width))
    return "\n\n".join("\n".join(lines) for lines in paragraphs)


def _paragraphs(told: Explanation, width: int) -> Iterator[list[str]]:
    many = f"these {len(told.stages)} stages" if len(told.stages) > 1 else "this stage"
    if not told.stages:
        yield [f"{told.model}: how far its staging came"]
    else:
        yield [f"{told.model}: why it has {many}", *_wrapped([", ".join(told.stages)], width)]
    if told.source == "plugin":
        yield textwrap.wrap(
            "A plugin's freezekit_stages hook named the stages; freezekit's own rules were not "
            "asked.",
            width,
        )
        return
    if told.input:
        seen = f"One forward pass was observed, on an input of shape {told.input}."
        yield textwrap.wrap(seen, width)
    if told.units:
        table = [f"  {line}" for line in unit_table(told.units, width - 2)]
        kinds = _wrapped([kinds_text(told.units)], width)
        yield ["Units, in the order of use", *table, *kinds]
        yield from _decisions(told, width)
    if told.error:
        yield ["Why it cannot be staged", *_wrapped([f"{told.error}."], width)]


def _decisions(told: Explanation, width: int) -> Iterator[list[str]]:
    def section(title: str, sentences: Sequence[str]) -> list[str]:
        return [title, *_wrapped(sentences, width)]

    title = "Modules opened, because their parts belong to several stages"
    openings = _alike((opening.module, opening.because) for opening in told.openings)
    yield section(title, [f"{names}: {why}." for names, why in openings] or ["None."])
    joined = [
        f"{_some(unit.joined)}: the forward uses their parameters in turns."
        for unit in told.units
        if unit.joined
    ]
    joined += [
        f"{_some(unit.absorbed)} with {unit.name}: used while {unit.name} is at work."
        for unit in told.units
        if unit.absorbed
    ]
    if joined:
        yield section("Units joined into one", joined)
    promoted = _alike((unit.name, unit.because) for unit in told.units if unit.because)
    if promoted:
        title = "Units that count as stages, though they hold no lists of blocks"
        yield section(title, [f"{names}: {why}." for names, why in promoted])
    yield section("Where the body begins and ends", _ends(told))
    body = _alike((g.name, g.because) for g in told.groups if g.kind == "body")
    if body:
        yield section("Why a stage of the body begins", [f"{n}: {why}." for n, why in body])
    for used, title in (
        (True, "Parameters that are used in train mode only"),
        (False, "Parameters that the forward does not use"),
    ):
        rows = [row for row in told.late if row.used == used]
        late = _alike((row.name, f"{row.stage}\n{row.because}") for row in rows)
        sentences = [f"{names}: in {why.replace(chr(10), ', because ')}." for names, why in late]
        if sentences:
            yield section(title, sentences)
    if told.stages or told.merges:
        yield section("Stages merged, because the first depends on the last", _merges(told))


def _ends(told: Explanation) -> list[str]:
    body = [group for group in told.groups if group.kind == "body"]
    neck = [group for group in told.groups if group.kind == "neck"]
    if body:
        first, last = body[0].units[0], body[-1].units[-1]
        sentences = [
            f"It begins with {first}: {told.body_begin}.",
            f"It ends with {last}: {told.body_end}.",
        ]
    else:
        sentences = [f"There is no body: {told.body_begin}; {told.body_end}."]
    if neck:
        sentences.append(f"A neck follows, up to {neck[0].units[-1]}: {told.neck_end}.")
    if told.aside:
        names = _some(told.aside)
        sentences.append(
            f"Beside the body: {names}. Nothing later depends on it, so it is in head."
        )
    if told.teachers:
        sentences.append(
            f"Beside the body: {_some(told.teachers)}. No gradient reaches it, and nothing that is "
            "trained takes what it makes, so it is in stem."
        )
    if told.idle:
        sentences.append(
            f"No output depends on {_some(told.idle)}: it is in the stage that is used before it."
        )
    if told.ends:
        sentences.append(
            f"Classifiers of trunks before the last one: {_some(told.ends)}. No other trunk needs "
            "them, so they are in head."
        )
    return sentences


def _merges(told: Explanation) -> list[str]:
    sentences = [
        f"{_some(merge.stages)} {_became(merge)}: {merge.consumer}, in {merge.stages[0]}, "
        f"returns what depends on {merge.parameter}, in {merge.stages[-1]}."
        for merge in told.merges
    ]
    none = "None: no stage has an output that depends on a parameter of a later stage."
    return sentences or [none]


def _became(merge: Merge) -> str:
    return f"became {merge.result}" if merge.result else "would be one stage, with none beside it"


def _alike(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Gather neighbours of which the same is said.

    Example:
        >>> _alike([("a", "why"), ("b", "why"), ("c", "other")])
        [('a, b', 'why'), ('c', 'other')]
    """
    return [
        (_some([name for name, _ in group]), why)
        for why, group in groupby(pairs, key=lambda pair: pair[1])
    ]


def _some(names: Sequence[str]) -> str:
    """Name all of a few, or else the first, the last and how many there are.

    Example:
        >>> _some(["a", "b"]), _some([f"blocks.{at}" for at in range(12)])
        ('a, b', 'blocks.0 to blocks.11 (12)')
    """
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)})"


def _wrapped(sentences: Sequence[str], width: int) -> list[str]:
    """Wrap each sentence, indented; names that are wider than a line are broken."""
    lines: list[str] = []
    for sentence in sentences:
        lines += textwrap.wrap(
            sentence,
            width,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
    return lines
