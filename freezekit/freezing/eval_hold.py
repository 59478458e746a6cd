"""The state inside a frozen model: modules held in eval mode, and the record for `undo`.

A saved model (`torch.save(model)`) contains these classes and a `FreezePlan`. Their names and
the names of their modules must stay, so that later versions can load it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from freezekit.freezing.statistics_hold import keep_statistics, release_statistics
from freezekit.freezing.wrapped import refuse_script
from freezekit.model.norms import statistics_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.freezing.arrival import Arrivals
    from freezekit.freezing.plan import FreezePlan
    from freezekit.lean import Lean

RECORD = "_freezekit_record"
SCRIPT = "__prepare_scriptable__"


class HeldInEval:
    """Replaces the `train` method of one module and keeps that module in eval mode.

    It is an attribute of the module instance. It is not a hook, a subclass or another module: the
    keys of the state dict, types and hooks stay, and deepcopy and pickle copy it with the module.

    Attributes:
        module: The module that is held.
        wanted: The mode that the last `train()` or `eval()` asked for.
        before: An earlier `train` of the instance (the `disabled_train` trick), or None.
        statistics: The names of its running statistics. Models saved by an older version lack it.
    """

    statistics: tuple[str, ...] = ()

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.wanted: bool = module.training
        self.before: Any = module.__dict__.get("train")  # Any: whatever somebody put there
        self.statistics = statistics_of(module)

    def __call__(self, mode: bool = True) -> nn.Module:
        """Do what `module.train(mode)` does, but leave the mode of the module itself."""
        self.wanted = mode
        self._train_itself(False)
        for child in self.module.children():
            child.train(mode)
        return self.module

    def hold(self) -> None:
        """Set the module to eval mode and hold it there, with its statistics."""
        self._train_itself(False)
        self.module.__dict__["train"] = self
        keep_statistics(self.module)
        # torch.jit.script asks a module for a substitute, and would copy everything but the hold.
        self.module.__dict__[SCRIPT] = partial(refuse_script, type(self.module).__name__)

    def release(self) -> None:
        """End the hold. The module takes the mode that was last asked for."""
        clear(self.module)
        del self.module.__dict__["train"]
        if self.before is not None:
            self.module.__dict__["train"] = self.before
        self._train_itself(self.wanted)

    def _train_itself(self, mode: bool) -> None:
        """Set the mode of the module itself as its class does, and restore the modules inside."""
        if type(self.module).train is not nn.Module.train:  # it may change more than the flag
            inside = [(module, module.training) for module in self.module.modules()]
            held = {
                module: module.__dict__.pop("train")
                for module, _ in inside
                if isinstance(module.__dict__.get("train"), HeldInEval)
            }
            type(self.module).train(self.module, mode)
            for module, training in inside:
                module.training = training
            for module, holder in held.items():
                module.__dict__["train"] = holder
        self.module.training = mode


def clear(module: nn.Module) -> None:
    """Remove from a module all that a hold put there beside `train`."""
    release_statistics(module)
    refusal = module.__dict__.get(SCRIPT)
    if isinstance(refusal, partial) and refusal.func is refuse_script:
        del module.__dict__[SCRIPT]


@dataclass
class Record:
    """The record in the `__dict__` of a frozen model. It lets a copy of the model be undone too.

    Attributes:
        plan: The plan in force.
        trainable_before: Each parameter's `requires_grad` before `freeze_`, by name.
        lean: The lean mode of the model, or None.
        arrivals: The same flags by parameter and by module. None in models saved by an older
            version.
    """

    plan: FreezePlan
    trainable_before: dict[str, bool] = field(default_factory=dict)
    lean: Lean | None = None
    arrivals: Arrivals | None = None


def arrival_flags(model: nn.Module) -> dict[str, bool]:
    """Return `requires_grad` of each parameter as it was before freezekit froze the model.

    A parameter that came later has the flag that it has now.

    Example:
        >>> model = nn.Linear(1, 1).requires_grad_(False)
        >>> arrival_flags(model)
        {'weight': False, 'bias': False}
    """
    now = {name: p.requires_grad for name, p in model.named_parameters()}
    record: Record | None = model.__dict__.get(RECORD)
    if record is None:
        return now
    if record.arrivals is None:
        return {name: record.trainable_before.get(name, flag) for name, flag in now.items()}
    return now | record.arrivals.flags(model, record.trainable_before)


def asked_modes(model: nn.Module) -> dict[nn.Module, bool]:
    """Return for each held module the mode that it takes when it is thawed.

    A trainer that sets modes one by one after a validation, and does not call `train()`, sets those
    of held modules to what they were: eval. What was asked for before must be kept beside.

    Example:
        >>> from freezekit import freeze_
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        >>> _ = freeze_(net, "by-name:glob=0.*")
        >>> list(asked_modes(net.eval()).values()), list(asked_modes(net.train()).values())
        ([False], [True])
    """
    held = ((module, module.__dict__.get("train")) for module in model.modules())
    return {module: hold.wanted for module, hold in held if isinstance(hold, HeldInEval)}


def ask_modes(modes: Mapping[nn.Module, bool]) -> None:
    """Let modules that are still held take these modes when they are thawed."""
    for module, mode in modes.items():
        if isinstance(hold := module.__dict__.get("train"), HeldInEval):
            hold.wanted = mode


def carried(model: nn.Module) -> frozenset[str]:
    """Return the names of the modules that have a record or are held. "" is the model itself."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if RECORD in vars(module) or isinstance(vars(module).get("train"), HeldInEval)
    )
