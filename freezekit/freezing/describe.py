"""A plan in a table of the stages, with notes and warnings: as text, and for notebooks."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from freezekit.backbone.staged import stages_or_reason
from freezekit.model.records import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

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

    @property
    def frozen(self) -> int:
        """How many elements are frozen."""
        return self.parameters - self.trainable

    @property
    def held_text(self) -> str:
        """How many of its modules are held in eval mode: "all", "3 of 10" or "-"."""
        if not self.held_in_eval:
            return "-"
        if self.held_in_eval == self.modules:
            return "all"
        return f"{self.held_in_eval} of {self.modules}"


@dataclass(frozen=True)
class FreezeMap:
    """What a plan does with a model, in words and by stage.

    `lr` has a text for each stage: its multipliers, such as "x 0.25 to 1", or its learning rates.
    """

    headline: str
    stages: tuple[StageSummary, ...]
    lr: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def freeze_map(
    backbone: Backbone, plan: FreezePlan, rates: Mapping[int, float] | None = None
) -> FreezeMap:
    """Return the map of a plan.

    Args:
        backbone: The view of the model.
        plan: With the names of `eval_modules`.
        rates: The learning rate of each parameter in an optimizer, by the id of the parameter.

    Example:
        >>> from freezekit import Backbone, load_backbone, plan
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> freeze_map(view, plan(view, "head-only")).headline
        'ResNet: 513,000 of 11,689,512 parameters trained (4.4 %)'
    """
    stages, unstaged = _stages(backbone)
    summaries = tuple(_summary(backbone, plan, stage) for stage in stages)
    total = sum(s.parameters for s in summaries)
    trainable = sum(s.trainable for s in summaries)
    share = f"{trainable / total:.1%}".replace("%", " %") if total else "0 %"
    kind = type(backbone.model).__name__
    return FreezeMap(
        f"{kind}: {trainable:,} of {total:,} parameters trained ({share})",
        summaries,
        tuple(_lr(backbone, plan, stage, rates) for stage in stages),
        (*plan.notes, *([unstaged] if unstaged else [])),
        plan.warnings,
    )


def summarise(backbone: Backbone, plan: FreezePlan) -> tuple[StageSummary, ...]:
    """Return one summary per stage, or per top-level module if the model cannot be staged.

    Example:
        >>> from freezekit import Backbone, load_backbone, plan
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> [(s.name, s.trainable) for s in summarise(view, plan(view, "head-only"))][-2:]
        [('layer4', 0), ('head', 513000)]
    """
    return freeze_map(backbone, plan).stages


def _stages(backbone: Backbone) -> tuple[Sequence[Stage], str | None]:
    """Return the stages, or the top-level modules and the reason why there are no stages."""
    stages, reason = stages_or_reason(backbone)
    if stages is not None:
        return stages, None
    return _top_level(backbone), f"listed by top-level module, not by stage: {reason}"


def _lr(
    backbone: Backbone, plan: FreezePlan, stage: Stage, rates: Mapping[int, float] | None
) -> str:
    trained = [name for name in stage.parameters if name not in plan.frozen]
    if not trained:
        return "-"
    if rates is None:
        return f"x {_span({plan.lr_scales.get(name, 1.0) for name in trained})}"
    parameters = dict(backbone.model.named_parameters())
    held = {id(parameters[name]) for name in trained} & rates.keys()
    return _span({rates[each] for each in held}) if held else "none"


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


def describe(shown: FreezeMap, width: int = 80) -> str:
    """Return a map as plain text of at most `width` columns if names allow it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("stage", overflow="fold")
    for heading in ("parameters", "trainable", "frozen", "held in eval", "lr"):
        table.add_column(heading, justify="right", overflow="fold")
    for s, lr in zip(shown.stages, shown.lr, strict=True):
        counts = (f"{count:,}" for count in (s.parameters, s.trainable, s.frozen))
        table.add_row(s.name, *counts, s.held_text, lr)
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False)
    console.print(shown.headline)
    console.print(table)
    for text in shown.notes:
        console.print(text)
    for text in shown.warnings:
        console.print(f"warning: {text}")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _span(numbers: AbstractSet[float]) -> str:
    low, high = f"{min(numbers):.3g}", f"{max(numbers):.3g}"
    return low if low == high else f"{low} to {high}"
