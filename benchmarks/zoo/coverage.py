"""Stage one model and check the stages without freezekit's own code."""

from __future__ import annotations

import gc
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.models import ZooModel, batch, build
from benchmarks.zoo.reach import observe_reach, unclean
from benchmarks.zoo.timm_groups import coarse_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from freezekit import Stage

ORDER = ("stem", "body", "neck", "head")
SHOWN = 5
"""Unclean modules kept for each model; their number is kept too."""


def examine(job: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the line of one model: its stages, and what holds for them.

    Args:
        job: The fields of a `ZooModel`.
    """
    from freezekit import Backbone, FreezekitError

    started = time.perf_counter()
    text = ZooModel(**job).text
    line = dict(job)
    try:
        model = build(text)
        line["parameters"] = sum(p.numel() for p in model.parameters())
        stages = Backbone(model).stages
        line |= {"status": "staged", "stages": _listed(model, stages), **partition(model, stages)}
        line["staging_seconds"] = round(time.perf_counter() - started, 2)
        reach = observe_reach(model, batch(model, text))  # from here the model is spoilt
        if job["library"] == "timm":
            line["timm_groups"] = coarse_groups(model, reach)
        found = unclean(model, reach, [s.parameters for s in stages], [s.modules for s in stages])
        line |= {"clean": not found, "unclean_count": len(found), "unclean": found[:SHOWN]}
    except FreezekitError as error:
        line |= {"status": "refused", "reason": f"{type(error).__name__}: {error}"}
    except Exception as error:  # noqa: BLE001  # whatever a library's model raises
        line |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    line["seconds"] = round(time.perf_counter() - started, 2)
    gc.collect()
    return line


def partition(model: nn.Module, stages: Sequence[Stage]) -> dict[str, bool]:
    """Tell whether stages are complete, disjoint, in order, and their modules whole.

    complete: each parameter, tied ones once, and each buffer that the state dict keeps; disjoint:
    none twice; ordered: one stem, body stages, necks, one head; whole: no module that a stage
    claims has a parameter in another.
    """
    keys = model.state_dict().keys()
    needed = {name for name, _ in model.named_parameters()}
    needed |= {name for name, _ in model.named_buffers() if name in keys}
    given = Counter(name for stage in stages for name in (*stage.parameters, *stage.buffers))
    kinds = [ORDER.index(stage.kind) for stage in stages]
    modules = dict(model.named_modules())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    whole = all(
        names[id(parameter)] in set(stage.parameters)
        for stage in stages
        for module in stage.modules
        for parameter in modules[module].parameters(recurse=False)
    )
    return {
        "complete": needed <= given.keys(),
        "disjoint": max(given.values(), default=0) <= 1,
        "ordered": kinds == sorted(kinds) and kinds.count(0) == kinds.count(3) == 1,
        "whole": whole,
    }


def _listed(model: nn.Module, stages: Sequence[Stage]) -> list[list[Any]]:  # Any: JSON
    """Return name, kind and share of the parameters of each stage."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    total = sum(sizes.values()) or 1
    return [
        [stage.name, stage.kind, round(sum(sizes[p] for p in stage.parameters) / total, 4)]
        for stage in stages
    ]
