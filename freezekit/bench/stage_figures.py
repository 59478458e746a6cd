"""What strategies do to the stages of a model, in numbers; the model is staged once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.backbone.stage_rows import outermost
from freezekit.backbone.staged import on_own_size_or
from freezekit.bench.workload import inputs_of, load_on_shapes
from freezekit.freezing.describe import summarise
from freezekit.freezing.planning import view
from freezekit.results.records import StageFigures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload


def staged_view(workload: Workload, registry: Registry) -> Backbone | None:
    """Return a view of the workload's model whose stages are known, None where it has none.

    No failure is a reason not to measure: a strategy that needs stages reports it itself.

    Example:
        >>> from freezekit.results.records import Workload
        >>> from freezekit.plugins.registering import default_registry
        >>> seen = staged_view(Workload("torchvision:resnet18"), default_registry())
        >>> [stage.name for stage in seen.stages][:2]
        ['stem', 'layer1']
    """
    try:
        model = load_on_shapes(workload)

        def ask(example: Any) -> Backbone:  # Any: whatever the model takes
            backbone = view(model, example, registry)
            _ = backbone.stages  # observed now
            return backbone

        return on_own_size_or(inputs_of(workload, model), ask)
    except (Exception, SystemExit):  # noqa: BLE001  # a model or a plugin may raise anything
        return None


def stage_figures(
    backbone: Backbone, plan: FreezePlan, flops: Mapping[str, int] | None = None
) -> tuple[StageFigures, ...]:
    """Return what a plan does to each stage.

    Args:
        backbone: Of a model with stages.
        plan: For a model of these names.
        flops: Forward FLOPs of each module, with those inside it; None where they are not known.

    Example:
        >>> from freezekit import Backbone, load_backbone, plan
        >>> seen = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> stem, *_, head = stage_figures(seen, plan(seen, "head-only"))
        >>> (stem.trainable, stem.held_in_eval, stem.modules), (head.trainable, head.held_in_eval)
        ((0, 4, 4), (513000, 0))
    """
    return tuple(
        StageFigures(
            name=done.name,
            kind=done.kind,
            parameters=done.parameters,
            trainable=done.trainable,
            modules=done.modules,
            held_in_eval=done.held_in_eval,
            forward_flops=None
            if flops is None
            else sum(flops.get(name, 0) for name in outermost(stage.modules)),
        )
        for stage, done in zip(backbone.stages, summarise(backbone, plan), strict=True)
    )
