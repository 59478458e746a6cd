"""What a frozen model carries with it: modules held in eval mode, and how to undo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from freezekit.freezing.plan import FreezePlan
    from freezekit.lean import Lean

RECORD = "_freezekit_record"


class HeldInEval:
    """Stands in for one module's `train` method and keeps that module in eval mode.

    It is an attribute of the module instance, not a hook, a subclass or a swapped module: keys of
    the state dict, types and hooks stay, and deepcopy and pickle carry it along with the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.wanted = module.training
        self.before = module.__dict__.get("train")  # somebody's own, as the `disabled_train` trick

    def __call__(self, mode: bool = True) -> nn.Module:
        """Do what `module.train(mode)` does, except for the module's own mode."""
        self.wanted = mode
        self._train_itself(False)
        for child in self.module.children():
            child.train(mode)
        return self.module

    def hold(self) -> None:
        """Put the module in eval mode and keep it there."""
        self._train_itself(False)
        self.module.__dict__["train"] = self

    def release(self) -> None:
        """Let go: the module takes the mode that was last asked for."""
        del self.module.__dict__["train"]
        if self.before is not None:
            self.module.__dict__["train"] = self.before
        self._train_itself(self.wanted)

    def _train_itself(self, mode: bool) -> None:
        """Set the module's own mode as its class does, and leave the modules inside as they are."""
        if type(self.module).train is not nn.Module.train:  # it may switch more than a flag
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


@dataclass
class Record:
    """What a frozen model remembers, in its `__dict__`: enough to undo, copies included."""

    plan: FreezePlan
    trainable_before: dict[str, bool] = field(default_factory=dict)
    lean: Lean | None = None


def carried(model: nn.Module) -> frozenset[str]:
    """Return the names of the modules that carry a record or are held, "" for the model itself."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if RECORD in vars(module) or isinstance(vars(module).get("train"), HeldInEval)
    )
