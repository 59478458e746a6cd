"""No stage depends on a later one: seen on the graph of a real forward, not assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import StagingError, some
from freezekit.model.records import prefixes
from freezekit.staging.assigning import Places, place
from freezekit.staging.grouping import Group, merged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from freezekit.staging.trace import Trace


def cleaned(
    model: nn.Module, trace: Trace, groups: Sequence[Group], places: Places
) -> tuple[Sequence[Group], Places]:
    """Merge stages until none has an output that depends on the parameters of a later one.

    So that freezing the first stages, however many, leaves no gradient to compute in them.
    """
    while (dirty := _dirty(model, trace, places, len(groups))) is not None:
        first, last = dirty
        if first == 0 and last == len(groups) - 1:
            raise StagingError(
                f"{type(model).__name__} has no order that makes sense: what it uses first depends "
                f"on what it uses last: {some(_placed(places, first))} on "
                f"{some(_placed(places, last))}; name its "
                "stages with a plugin's freezekit_stages hook"
            )
        groups = [*groups[:first], merged(groups[first : last + 1]), *groups[last + 1 :]]

        def moved(where: Mapping[str, int], first: int = first, last: int = last) -> dict[str, int]:
            gone = last - first
            return {n: at if at <= first else max(first, at - gone) for n, at in where.items()}

        late = {n: at for n, at in moved(places.tensors).items() if n not in trace.uses}
        places = place(model, trace, groups, late)
    return groups, places


def _placed(places: Places, at: int) -> list[str]:
    return [name for name, stage in places.tensors.items() if stage == at]


def _dirty(model: nn.Module, trace: Trace, places: Places, stages: int) -> tuple[int, int] | None:
    """Return the first stage with an output that depends on a later one, and that one."""
    masks = [0] * stages
    for name, _ in model.named_parameters():
        masks[places.tensors[name]] |= trace.flow.mask(name)
    frozen_with = _frozen_with(model, places)
    for call in trace.calls:
        at = frozen_with.get(call.module)
        for later in reversed(range(stages if at is None else at + 1, stages)):
            if call.reach & masks[later]:
                return frozen_with[call.module], later
    return None


def _frozen_with(model: nn.Module, places: Places) -> dict[str, int]:
    """Return, for each module, the stage with which it comes to be frozen.

    That is when all parameters are, of the module or of one around it, or when the stage is that
    calls it; the model itself never is.
    """
    last: dict[str, int] = {}
    for name, _ in model.named_parameters():
        at = places.tensors[name]
        for around in prefixes(name):
            last[around] = max(at, last.get(around, 0))
    found = {}
    for name, _ in model.named_modules():
        stages = [last[around] for around in (*prefixes(name), name) if around in last]
        stages += [places.modules[name]] if name in places.modules else []
        if stages and name:
            found[name] = min(stages)
    return found
