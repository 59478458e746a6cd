"""Take one model from its head to its stem by `gradual-unfreeze`, and check each phase."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.models import ZooModel, batch, build
from benchmarks.zoo.reach import observe_reach, unclean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from freezekit import Frozen, Stage

SCHEDULE = "gradual-unfreeze:every=1ep"
LR = 0.1
DECAY = 1 / 2.6
SHOWN = 5
"""Faults kept for each model; their number is kept too."""


def examine(job: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the line of one model: how many phases it went through, and what was wrong.

    Args:
        job: The fields of a `ZooModel`.
    """
    from freezekit import FreezekitError

    started = time.perf_counter()
    line = dict(job)
    try:
        line |= {"status": "done", **_walk(ZooModel(**job).text)}
    except FreezekitError as error:
        line |= {"status": "refused", "reason": f"{type(error).__name__}: {error}"}
    except Exception as error:  # noqa: BLE001  # whatever a library's model raises
        line |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    line["seconds"] = round(time.perf_counter() - started, 2)
    gc.collect()
    return line


def _walk(text: str) -> dict[str, Any]:  # Any: JSON
    """Go through all phases twice: by `change_`, and as a training that follows the schedule."""
    import torch

    from freezekit import Progress
    from freezekit_strategies import GradualUnfreeze

    model, arrived, frozen, was_asked_for_head = _frozen(text)
    stages = frozen.backbone.stages
    subject = Subject(model, frozen, arrived)
    count = 1 + sum(stage.kind in ("stem", "body") for stage in stages)
    decided = [GradualUnfreeze().decide(frozen.backbone, Progress(epoch=i)) for i in range(count)]
    plans = [decision.plan for decision in decided if decision.plan is not None]
    assert len(plans) == count
    optimizer = torch.optim.SGD(frozen.param_groups(LR, 0.01, all_phases=True), momentum=0.9)
    groups = _groups(optimizer)
    faults: list[str] = []
    change_ms = []

    def look(phase: int, before: Mapping[str, bool], way: str) -> None:
        found = subject.check(phase, before)
        if _groups(optimizer) != groups:
            found.append("the groups of the optimizer have another shape")
        faults.extend(f"phase {phase}, {way}: {fault}" for fault in found)

    for phase, plan in enumerate(plans):
        before = subject.flags()
        began = time.perf_counter()
        changed = frozen.change_(plan, optimizer)
        change_ms.append(1e3 * (time.perf_counter() - began))
        look(phase, before, "change_")
        for told, flag in ((changed.thawed, True), (changed.frozen, False)):
            moved = {n for n, now in subject.flags().items() if now is flag is not before[n]}
            if set(told) != moved:
                faults.append(f"phase {phase}: change_ says {len(told)}, not {len(moved)}, {flag}")
    frozen.change_(plans[0], optimizer)  # back to the head
    run = frozen.follow(SCHEDULE, optimizer, epochs=count)
    for phase in range(count):
        before = subject.flags()
        if phase:
            run.epoch()
        look(phase, before, "follow")
        faults += [f"phase {phase}: {fault}" for fault in _wrong_rates(optimizer, stages)]
    frozen.undo()
    if subject.flags() != arrived:
        faults.append("undo did not restore all flags")
    if not all(module.training for module in subject.modules.values()):  # as `check` asked last
        faults.append("undo left modules in eval mode")
    reach = observe_reach(model, batch(model, text))  # from here the model is spoilt
    prefix = [stage for stage in stages if stage.kind in ("stem", "body")]
    parts, modules = [s.parameters for s in prefix], [s.modules for s in prefix]
    faults += [
        f"phase {len(prefix) - n}: an output of the frozen {name} requires grad"
        for n, name in unclean(model, reach, parts, modules)
    ]
    return {
        "stages": len(stages),
        "phases": count,
        "parameters": len(arrived),
        "arrived_frozen": sum(not flag for flag in arrived.values()),
        "was_asked_for_head": was_asked_for_head,
        "fault_count": len(faults),
        "faults": faults[:SHOWN],
        "change_ms": round(sorted(change_ms)[len(change_ms) // 2], 2),
    }


class Subject:
    """A model that goes from phase to phase, with what stays the same in all of them."""

    def __init__(self, model: nn.Module, frozen: Frozen, arrived: Mapping[str, bool]) -> None:
        self.model = model
        self.frozen = frozen
        self.arrived = arrived
        self.stages = frozen.backbone.stages
        self.modules = dict(model.named_modules())
        self._inside = {name: tuple(m.parameters()) for name, m in self.modules.items()}
        self._parameters = dict(model.named_parameters())

    def flags(self) -> dict[str, bool]:
        """Return what is trained."""
        return {name: parameter.requires_grad for name, parameter in self._parameters.items()}

    def check(self, phase: int, before: Mapping[str, bool]) -> list[str]:
        """Return what is wrong in a phase, which trains the last stages and no others.

        Args:
            phase: 0 trains the head and necks; each later one trains a stage more.
            before: The flags of the phase before, which train a part of what is trained now.
        """
        prefix = [stage for stage in self.stages if stage.kind in ("stem", "body")]
        still_frozen = prefix[: len(prefix) - phase]
        inside = {name for stage in still_frozen for name in stage.parameters}
        # What arrives frozen stays so.
        expected = {name: flag and name not in inside for name, flag in self.arrived.items()}
        flags = self.flags()
        faults = []
        if flags != expected:
            wrong = [name for name in flags if flags[name] != expected[name]]
            faults.append(f"{len(wrong)} flags are wrong, such as that of {wrong[0]}")
        if {name for name, flag in flags.items() if not flag} != self.frozen.plan.frozen:
            faults.append("the plan freezes others than the flags do")
        if phase and any(before[name] and not flags[name] for name in flags):
            faults.append("what was trained is trained no longer")
        if any(not p.requires_grad and p.grad is not None for p in self._parameters.values()):
            faults.append("a frozen parameter has a gradient")
        held = _held(self._inside, {name for stage in still_frozen for name in stage.modules})
        for asked in (False, True):
            self.model.train(asked)
            wrong = [
                name
                for name, module in self.modules.items()
                if module.training != (asked and name not in held)
            ]
            if wrong:
                faults.append(
                    f"after train({asked}), the mode of {wrong[0] or 'the model'} is wrong"
                )
        return faults


def _frozen(text: str) -> tuple[nn.Module, dict[str, bool], Frozen, bool]:
    """Build a model and its handle; one that comes without a classifier is asked for one.

    Returns:
        The model, its flags of before, its handle, and whether it was asked.
    """
    from freezekit import freeze_, load_backbone

    model = build(text)
    arrived = _flags(model)
    frozen = freeze_(model, "full")
    if any(s.parameters for s in frozen.backbone.stages if s.kind in ("head", "neck")):
        return model, arrived, frozen, False
    model = load_backbone(text, device="meta", num_classes=10)
    arrived = _flags(model)
    return model, arrived, freeze_(model, "full"), True


def _flags(model: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _groups(optimizer: torch.optim.Optimizer) -> list[tuple[str, float, list[int]]]:
    """Return what may never change: name, weight decay and parameters of each group."""
    return [
        (g["name"], g["weight_decay"], [id(p) for p in g["params"]]) for g in optimizer.param_groups
    ]


def _wrong_rates(optimizer: torch.optim.Optimizer, stages: Sequence[Stage]) -> list[str]:
    """Return the trained groups whose rate is not 2.6 times less for each stage back."""
    backward = [stage.name for stage in reversed(stages) if stage.kind in ("body", "stem")]
    wanted = {name: LR * DECAY**i for i, name in enumerate(backward, start=1)}
    found = []
    for group in optimizer.param_groups:
        if not any(parameter.requires_grad for parameter in group["params"]):
            continue  # a frozen stage gets its rate when it is thawed
        rate = wanted.get(group["name"].removesuffix(", no decay"), LR)
        if abs(group["lr"] - rate) > 1e-12 * LR:
            found.append(f"the rate of {group['name']} is {group['lr']:.3g}, expected {rate:.3g}")
    return found


def _held(modules: Mapping[str, Sequence[nn.Parameter]], claimed: set[str]) -> set[str]:
    """Return the modules that must be in eval mode.

    They are those that a frozen stage claims, those whose parameters are all frozen, and those
    without parameters inside of one of these.

    Args:
        modules: Each module with all parameters inside of it; parents come before their children.
        claimed: The modules of the frozen stages.
    """
    held: set[str] = set()
    for name, parameters in modules.items():
        is_inside = bool(name) and name.rpartition(".")[0] in held
        is_frozen = not any(parameter.requires_grad for parameter in parameters)
        if name in claimed or (is_frozen if parameters else is_inside):
            held.add(name)
    return held
