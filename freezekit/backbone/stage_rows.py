"""The stages of a model as rows: what is in each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.model.records import Stage


@dataclass(frozen=True)
class StageRow:
    """What is in one stage.

    Attributes:
        name: The stage's name.
        kind: "stem", "body", "neck" or "head".
        modules: Dotted names of the outermost modules that lie wholly in it.
        parameters: Dotted names of its parameters.
        buffers: Dotted names of its buffers.
        elements: How many numbers its parameters hold.
        share: Those as a fraction of the model's.
        resolution: Layout of its output, as in `Stage`.
        norms: How many norms of each kind it has.
    """

    name: str
    kind: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...] = ()
    elements: int = 0
    share: float = 0.0
    resolution: tuple[int, ...] | None = None
    norms: dict[str, int] = field(default_factory=dict)


def stage_rows(backbone: Backbone) -> tuple[StageRow, ...]:
    """Return one row for each stage of a model.

    Raises:
        StagingError: The model cannot be staged.

    Example:
        >>> from freezekit import Backbone, load_backbone
        >>> rows = stage_rows(Backbone(load_backbone("torchvision:resnet18", device="meta")))
        >>> [(row.name, row.resolution, row.norms) for row in rows][:2]
        [('stem', (56, 56), {'batch': 1}), ('layer1', (56, 56), {'batch': 4})]
    """
    total = sum(info.numel for info in backbone.parameters.values())
    norms = norm_stages(backbone)
    kinds = {norm.name: norm.kind for norm in backbone.norms}
    rows = []
    for stage in backbone.stages:
        elements = sum(backbone.parameters[name].numel for name in stage.parameters)
        rows.append(
            StageRow(
                name=stage.name,
                kind=stage.kind,
                modules=outermost(stage.modules),
                parameters=stage.parameters,
                buffers=stage.buffers,
                elements=elements,
                share=elements / total if total else 0.0,
                resolution=stage.resolution,
                norms=dict(Counter(kinds[n] for n, at in norms.items() if at == stage.name)),
            )
        )
    return tuple(rows)


def norm_stages(backbone: Backbone) -> dict[str, str | None]:
    """Return the stage of each norm by the name of its module, None where it is in none.

    Example:
        >>> from freezekit import Backbone, load_backbone
        >>> norm_stages(Backbone(load_backbone("torchvision:resnet18", device="meta")))["bn1"]
        'stem'
    """
    places = {name: stage.name for stage in backbone.stages for name in _names(stage)}
    return {
        norm.name: next(
            (places[name] for name in (norm.name, *norm.parameters) if name in places), None
        )
        for norm in backbone.norms
    }


def outermost(names: Iterable[str]) -> tuple[str, ...]:
    """Return the dotted names that lie inside no other.

    Example:
        >>> outermost(["conv1", "layer1", "layer1.0", "layer1.0.conv1", "layer10"])
        ('conv1', 'layer1', 'layer10')
    """
    known = set(names)
    return tuple(name for name in dict.fromkeys(names) if known.isdisjoint(_around(name)))


def contents(row: StageRow) -> list[str]:
    """Return what to call the contents of a stage: modules that hold tensors, bare parameters.

    Modules that hold none, such as activations and pooling, are named only where there is nothing
    else, or inside a run of numbered ones.

    Example:
        >>> contents(StageRow("stem", "stem", ("conv", "relu"), ("conv.weight", "cls_token")))
        ['conv', 'cls_token']
    """
    holders = {outer for name in (*row.parameters, *row.buffers) for outer in _around(name)}
    runs = _runs(row.modules)
    held = [text for text, names in runs if holders.intersection(names)]
    inside = set(row.modules)
    bare = [name for name in row.parameters if inside.isdisjoint(_around(name))]
    return [*held, *(text for text, _ in _runs(bare))] or [text for text, _ in runs]


def _runs(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Join neighbours that are numbered one after the other.

    Example:
        >>> [text for text, _ in _runs(["conv", "blocks.0", "blocks.1", "blocks.2", "norm.3"])]
        ['conv', 'blocks.0-2', 'norm.3']
    """
    runs: list[list[str]] = []
    for name in names:
        parent, dot, number = name.rpartition(".")
        last = f"{parent}{dot}{int(number) - 1}" if number.isdecimal() else None
        if runs and runs[-1][-1] == last:
            runs[-1].append(name)
        else:
            runs.append([name])
    return [(f"{r[0]}-{r[-1].rpartition('.')[2]}" if len(r) > 1 else r[0], r) for r in runs]


def _names(stage: Stage) -> tuple[str, ...]:
    return (*stage.modules, *stage.parameters)


def _around(name: str) -> list[str]:
    """Return the names of the modules around a dotted name: "a.b.c" gives ["a", "a.b"]."""
    parts = name.split(".")
    return [".".join(parts[:at]) for at in range(1, len(parts))]
