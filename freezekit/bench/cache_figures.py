"""What caches of a model's frozen prefixes would hold, for any plan, without a real step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from freezekit.bench.workload import autocast, inputs_of, load_on_shapes, with_shape
from freezekit.cache.beforehand import Forwards
from freezekit.errors import CacheError, PlanError
from freezekit.freezing.plan import FreezePlan
from freezekit.freezing.planning import decide
from freezekit.memory.fake import make_fake
from freezekit.results.records import CacheFigures

if TYPE_CHECKING:
    from typing import Any

    from torch import nn

    from freezekit.backbone.view import Backbone
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload


def forwards_of(workload: Workload) -> Forwards | str:
    """Record the forward of a workload's model, or say why that is not possible.

    No failure is a reason not to measure: the model may need real numbers.

    Example:
        >>> from freezekit import FreezePlan
        >>> from freezekit.results.records import Workload
        >>> seen = forwards_of(Workload("timm:test_resnet", image_size=32))
        >>> cache_figures(seen, FreezePlan()).reason
        'no call of a module comes before all that is trained, ...'
    """
    try:
        model = load_on_shapes(workload).train()
        shaped = with_shape(workload, model)
        if workload.amp is None:
            return _record(shaped, model)
        with make_fake(model, workload.device):  # autocast does not know the device `meta`
            return _record(shaped, model)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a model may raise anything
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        return f"its forward cannot be recorded without real numbers ({said})"


def _record(workload: Workload, model: nn.Module) -> Forwards:
    def batch_of(samples: int) -> tuple[Any, ...]:  # Any: what the model takes
        return inputs_of(msgspec.structs.replace(workload, batch_size=samples), model)

    with autocast(workload):
        return Forwards(model, lambda inputs: model(*inputs), batch_of)


def cache_figures(forwards: Forwards | str, plan: FreezePlan) -> CacheFigures:
    """Return what a cache would hold under a plan, or why there can be none.

    Args:
        forwards: Of the model, as `forwards_of` returns them.
        plan: For the model, with the names of `eval_modules`.
    """
    if isinstance(forwards, str):
        return CacheFigures(reason=forwards)
    try:
        found = forwards.expected(plan)
    except CacheError as error:
        return CacheFigures(reason=str(error))
    return CacheFigures(
        found.bytes_per_sample,
        found.boundary,
        found.flops_per_sample,
        forwards.flops_per_sample,
    )


def boundary_figures(
    forwards: Forwards | str, backbone: Backbone, registry: Registry
) -> tuple[CacheFigures, ...]:
    """Return what a cache would hold after each stage, if the stages up to it are frozen.

    Args:
        forwards: Of the model, as `forwards_of` returns them.
        backbone: Of the same model, with stages.
        registry: As in `decide`.

    Raises:
        StagingError: The model cannot be staged.
    """
    if isinstance(forwards, str):
        return tuple(CacheFigures(reason=forwards) for _ in backbone.stages)
    found, frozen = [], set[str]()
    for stage in backbone.stages:
        frozen |= set(stage.parameters)
        try:
            found.append(cache_figures(forwards, decide(backbone, FreezePlan(frozen), registry)))
        except PlanError as error:  # nothing is left to train
            found.append(CacheFigures(reason=str(error)))
    return tuple(found)
