"""A plan as text: a table of the stages, with notes and warnings."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from freezekit.errors import FreezekitError
from freezekit.model.records import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


@dataclass(frozen=True)
class StageSummary:
    """The effect of a plan on one stage: numbers of elements and modules, and multipliers."""

    name: str
    kind: str
    parameters: int
    trainable: int
    modules: int
    held_in_eval: int
    lr_scales: tuple[float, ...]


def summarise(backbone: Backbone, plan: FreezePlan) -> tuple[StageSummary, ...]:
    """Return one summary per stage, or per top-level module if the model cannot be staged.

    Example:
        >>> from freezekit import Backbone, load_backbone, plan
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> [(s.name, s.trainable) for s in summarise(view, plan(view, "head-only"))][-2:]
        [('layer4', 0), ('head', 513000)]
    """
    stages, _ = _stages(backbone)
    return tuple(_summary(backbone, plan, stage) for stage in stages)


def _stages(backbone: Backbone) -> tuple[Sequence[Stage], str | None]:
    """Return the stages, or else the top-level modules and the reason."""
    try:
        return backbone.stages, None
    except FreezekitError as error:
        return _top_level(backbone), f"listed by top-level module, not by stage: {error}"


def _summary(backbone: Backbone, plan: FreezePlan, stage: Stage) -> StageSummary:
    trained = [name for name in stage.parameters if name not in plan.frozen]
    return StageSummary(
        name=stage.name,
        kind=stage.kind,
        parameters=sum(backbone.parameters[name].numel for name in stage.parameters),
        trainable=sum(backbone.parameters[name].numel for name in trained),
        modules=len(stage.modules),
        held_in_eval=len(set(stage.modules) & (plan.eval_modules or frozenset())),
        lr_scales=tuple(sorted({plan.lr_scales.get(name, 1.0) for name in trained})),
    )


def _top_level(backbone: Backbone) -> list[Stage]:
    """Group by top-level module, for a model that cannot be staged."""
    tops: dict[str, tuple[list[str], list[str]]] = {}
    for i, names in enumerate((backbone.parameters, backbone.modules)):
        for name in names:
            tops.setdefault(name.split(".")[0], ([], []))[i].append(name)
    return [
        Stage(name, "body", parameters=tuple(parameters), modules=tuple(modules))
        for name, (parameters, modules) in tops.items()
        if parameters
    ]


def describe(backbone: Backbone, plan: FreezePlan, width: int = 80) -> str:
    """Return the report of a plan as plain text of at most `width` columns if names allow it."""
    summaries = summarise(backbone, plan)
    total = sum(s.parameters for s in summaries)
    trainable = sum(s.trainable for s in summaries)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("stage", overflow="fold")
    for heading in ("parameters", "trainable", "frozen", "held in eval", "lr"):
        table.add_column(heading, justify="right", overflow="fold")
    for s in summaries:
        table.add_row(
            s.name,
            f"{s.parameters:,}",
            f"{s.trainable:,}",
            f"{s.parameters - s.trainable:,}",
            _held(s),
            _scales(s.lr_scales),
        )
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False)
    share = f"{trainable / total:.1%}".replace("%", " %") if total else "0 %"
    console.print(
        f"{type(backbone.model).__name__}: {trainable:,} of {total:,} parameters trained ({share})"
    )
    console.print(table)
    _, unstaged = _stages(backbone)
    for text in (*plan.notes, *([unstaged] if unstaged else [])):
        console.print(text)
    for text in plan.warnings:
        console.print(f"warning: {text}")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _held(summary: StageSummary) -> str:
    if not summary.held_in_eval:
        return "-"
    if summary.held_in_eval == summary.modules:
        return "all"
    return f"{summary.held_in_eval} of {summary.modules}"


def _scales(scales: tuple[float, ...]) -> str:
    if not scales:
        return "-"
    low, high = f"{scales[0]:.3g}", f"{scales[-1]:.3g}"
    return f"x {low}" if low == high else f"x {low} to {high}"
