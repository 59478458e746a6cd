"""The plan whose boundary is the output of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import SpecError, suggest
from freezekit.freezing.plan import FreezePlan

if TYPE_CHECKING:
    from freezekit.backbone.view import Backbone


def plan_up_to(backbone: Backbone, stage: str) -> FreezePlan:
    """Return the plan that freezes a model from its stem to a stage.

    Raises:
        SpecError: The model has no such stage, or nothing comes after it.
        StagingError: The model cannot be staged.

    Example:
        >>> from freezekit import Backbone, load_backbone
        >>> backbone = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> sorted({n.partition(".")[0] for n in plan_up_to(backbone, "layer1").frozen})
        ['bn1', 'conv1', 'layer1']
    """
    *names, last = (each.name for each in backbone.stages)
    if stage not in names:
        why = (
            f"{stage!r} is the last stage, and its output is that of the model."
            if stage == last
            else f"there is no stage {stage!r}{suggest(stage, names) or '.'}"
        )
        raise SpecError(f"{why} Features can be taken after {', '.join(names)}")
    before = backbone.stages[: names.index(stage) + 1]
    frozen = {name for each in before for name in each.parameters}
    return FreezePlan(frozen, backbone.inside(frozen, before))
