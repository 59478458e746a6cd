"""Which stage each parameter, buffer and module of a model lies in."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.staging.decisions import LateUse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from torch import nn

    from freezekit.staging.grouping import Group
    from freezekit.staging.trace import Trace


@dataclass(frozen=True)
class Assignment:
    """Index of the stage of each name; a name that lies in no stage, or in several, is missing.

    Attributes:
        tensors: For parameters and buffers.
        modules: For modules that lie wholly in one stage.
    """

    tensors: Mapping[str, int]
    modules: Mapping[str, int]


def assign(
    model: nn.Module, trace: Trace, groups: Sequence[Group], late: Mapping[str, int]
) -> Assignment:
    """Assign every parameter, buffer and module of a model to a stage.

    A parameter goes with the module that uses it. A buffer goes with its module, or else where it
    is used first. A module without parameters goes where it is called.

    Args:
        model: The model that was traced.
        trace: What was seen in eval mode.
        groups: The stages.
        late: Stages of parameters that eval mode does not use, from `assign_late` and
            `assign_unused`.
    """
    starts = [min((unit.start for unit in group.units), default=None) for group in groups]
    begun = [(tick, at) for at, tick in enumerate(starts) if tick is not None]
    ticks = [tick for tick, _ in begun]

    def stage_at(tick: int) -> int:
        return begun[max(0, bisect_right(ticks, tick) - 1)][1]

    members = {m: at for at, group in enumerate(groups) for u in group.units for m in u.members}
    tensors = {}
    for name, _ in model.named_parameters():
        holder = next((n for n in _upwards(name) if n in members), None)
        if holder is not None:
            tensors[name] = members[holder]
        elif name in late:
            tensors[name] = late[name]
    calls: dict[str, set[int]] = defaultdict(set)
    for call in trace.calls:
        calls[call.module].add(stage_at(call.start))
    spans = _spans(model, tensors, members, calls)
    for name, _ in model.named_buffers():
        owner = name.rpartition(".")[0]
        if owner and len(spans[owner]) == 1:
            tensors[name] = next(iter(spans[owner]))
        elif name in trace.uses:
            tensors[name] = stage_at(trace.uses[name][0])
        else:
            around = next((n for n in _upwards(owner) if n and len(spans[n]) == 1), None)
            tensors[name] = min(spans[around if around is not None else owner], default=0)
    modules = {name: next(iter(span)) for name, span in spans.items() if name and len(span) == 1}
    return Assignment(tensors, modules)


def assign_late(
    trace: Trace, assigned: Assignment, unused: Sequence[str], in_training: Trace
) -> tuple[LateUse, ...]:
    """Assign parameters that are used in train mode only; those used in neither are left out.

    Parameters of an auxiliary classifier belong to the head, which comes last. All others, such as
    the token of masked patches, belong to the stage that is at work when they are used.

    Args:
        trace: What was seen in eval mode.
        assigned: Of all other parameters.
        unused: Parameters that eval mode did not use.
        in_training: What was seen in train mode.
    """
    head = max(assigned.tensors.values())
    begun = sorted(
        (ticks[0], assigned.tensors[name])
        for name, ticks in in_training.uses.items()
        if name in assigned.tensors
    )
    called = {call.module for call in trace.calls}
    auxiliary = {
        call.module
        for call in in_training.calls
        if call.module not in called and call.output.width == in_training.output.width
    }
    late = []
    for name in unused:
        classifiers = [n for n in _upwards(name) if n in auxiliary]
        if classifiers:  # innermost first
            why = f"{classifiers[-1]} is a classifier that only train mode calls"
            late.append(LateUse(name, head, why))
        elif name in in_training.uses:
            at = bisect_right(begun, (in_training.uses[name][0], head))
            stage = max((stage for _, stage in begun[:at]), default=0)
            late.append(LateUse(name, stage, "this stage is at work when train mode uses it"))
    return tuple(late)


def assign_unused(
    model: nn.Module, assigned: Assignment, unused: Sequence[str]
) -> tuple[LateUse, ...]:
    """Assign parameters that neither mode uses, such as the layers of an encoder cut short.

    No gradient reaches them, so that every stage is a right one. They go with what is registered
    before them in the same module. In the model itself they go with the head: a head that the
    observed input did not reach must not be frozen by silence.
    """
    head = max(assigned.tensors.values(), default=0)
    order = [name for name, _ in model.named_parameters()]
    found = []
    for name in unused:
        before = [n for n in order[: order.index(name)] if n in assigned.tensors]
        for around in _upwards(name)[1:-1]:
            beside = [n for n in before if n.startswith(f"{around}.")]
            if beside:
                why = f"the forward does not use it, and {beside[-1]} is registered before it"
                found.append(LateUse(name, assigned.tensors[beside[-1]], why, used=False))
                break
        else:
            why = "the forward does not use it, and no module around it is used before it"
            found.append(LateUse(name, head, why, used=False))
    return tuple(found)


def _upwards(name: str) -> list[str]:
    """Return the name and those of the modules around it, innermost first.

    Example:
        >>> _upwards("a.b.c")
        ['a.b.c', 'a.b', 'a', '']
    """
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts), 0, -1)] + [""]


def _spans(
    model: nn.Module,
    tensors: Mapping[str, int],
    members: Mapping[str, int],
    calls: Mapping[str, Set[int]],
) -> dict[str, set[int]]:
    """Return the stages that each module reaches into."""
    spans: dict[str, set[int]] = {name: set() for name, _ in model.named_modules()}
    for name, _ in model.named_parameters():
        spans[name.rpartition(".")[0]].update({tensors[name]} if name in tensors else ())
    leaves = {name for name, module in model.named_modules() if not list(module.children())}
    for name in reversed(list(spans)):  # children come before their parents
        if name in leaves and not spans[name]:
            holder = next((n for n in _upwards(name) if n in members), None)
            spans[name].update(calls.get(name, ()) if holder is None else {members[holder]})
        if name:
            spans[name.rpartition(".")[0]].update(spans[name])
    for name, span in spans.items():  # a module that is never called goes with its parent
        if name and not span:
            span.update(spans[name.rpartition(".")[0]])
    return spans
