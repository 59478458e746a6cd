"""timm's own coarse parameter groups, asked what freezekit's stages are asked.

`group_matcher(coarse=True)` with `timm.models.group_parameters` is how timm groups a model's
layers; what no rule matches goes with the last group, the head.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.reach import Reach, unclean

if TYPE_CHECKING:
    from torch import nn


def coarse_groups(model: nn.Module, reach: Reach) -> dict[str, Any]:  # Any: JSON
    """Return what holds for timm's coarse groups of a model.

    Returns:
        groups, complete, clean, unclean: as for stages; unmatched: share of the parameters that no
        rule matches and that are not of the classifier; or why timm could not say.
    """
    from timm.models import group_parameters

    try:
        matcher = model.group_matcher(coarse=True)  # type: ignore[operator]  # timm's own method
        groups = group_parameters(model, matcher)
    except Exception as error:  # noqa: BLE001  # what the models of timm raise
        return {"reason": f"{type(error).__name__}: {error}"[:200]}
    parts = [groups[at] for at in sorted(groups)]
    given = [name for part in parts for name in part]
    at = unclean(model, reach, parts)
    return {
        "groups": len(parts),
        "complete": set(given) == set(reach.names) and len(given) == len(set(given)),
        "clean": not at,
        "unclean": at[:2],
        "unmatched": _unmatched(model, matcher),
    }


def _unmatched(model: nn.Module, matcher: Any) -> float | None:  # Any: patterns or a function
    if not isinstance(matcher, dict):
        return None
    patterns: list[str] = []
    for rule in matcher.values():
        if isinstance(rule, (tuple, list)):
            patterns += [pattern for pattern, _ in rule]
        elif rule is not None:
            patterns.append(rule)
    try:
        classifier = model.get_classifier()  # type: ignore[operator]  # timm's own method
        heads = classifier if isinstance(classifier, (tuple, list)) else [classifier]
        own = {id(p) for head in heads for p in head.parameters()}
    except Exception:  # noqa: BLE001  # some models of timm raise here
        return None
    loose = sum(
        p.numel()
        for name, p in model.named_parameters()
        if id(p) not in own and not any(re.match(pattern, name) for pattern in patterns)
    )
    return round(loose / max(1, sum(p.numel() for p in model.parameters())), 4)
