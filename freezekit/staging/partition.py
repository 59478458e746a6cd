"""Do stages divide a model? Whoever named them, freezekit's own rules or a plugin."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from freezekit.errors import StagingError, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from freezekit.model.records import Stage


def check_stages(model: nn.Module, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages if they are an ordered, complete and disjoint partition of the model.

    Args:
        model: The module that they belong to.
        stages: As found, or as a plugin's `freezekit_stages` gave them.

    Raises:
        StagingError: They do not begin with one stem and end with one head, two have the same
            name, or a parameter, persistent buffer or module is missing, unknown or named twice.

    Example:
        >>> from torch import nn
        >>> from freezekit.model.records import Stage
        >>> stages = [Stage("stem", "stem", ("weight",)), Stage("head", "head")]
        >>> try:
        ...     check_stages(nn.Linear(2, 2), stages)
        ... except StagingError as error:
        ...     print(error)
        the stages of Linear are no partition of its parameters: in no stage: 'bias'
    """
    whose = f"the stages of {type(model).__name__}"
    order = [("stem", "body", "neck", "head").index(stage.kind) for stage in stages]
    kinds = [stage.kind for stage in stages]
    if order != sorted(order) or kinds[:1] != ["stem"] or kinds[-1:] != ["head"]:
        raise StagingError(
            f"{whose} are of kinds {kinds!r}, expected 'stem', then 'body' stages, then perhaps "
            "'neck', then 'head'"
        )
    if kinds.count("stem") != 1 or kinds.count("head") != 1:
        raise StagingError(f"{whose} are of kinds {kinds!r}, expected one 'stem' and one 'head'")
    twice = _repeated(stage.name for stage in stages)
    if twice:
        raise StagingError(f"{whose} must have names of their own; twice: {some(twice)}")
    parameters = {name for name, _ in model.named_parameters()}
    buffers = {name for name, _ in model.named_buffers()}
    modules = {name for name, _ in model.named_modules()} - {""}
    stateful = buffers & model.state_dict().keys()
    for what, given, needed, known in (
        ("parameters", [p for s in stages for p in s.parameters], parameters, parameters),
        ("buffers", [b for s in stages for b in s.buffers], stateful, buffers),
        ("modules", [m for s in stages for m in s.modules], set(), modules),
    ):
        faults = {
            "in no stage": sorted(needed - set(given)),
            "unknown": sorted(set(given) - known),
            "named twice": _repeated(given),
        }
        said = "; ".join(f"{fault}: {some(names)}" for fault, names in faults.items() if names)
        if said:
            raise StagingError(f"{whose} are no partition of its {what}: {said}")
    return tuple(stages)


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
