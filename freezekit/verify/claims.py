"""What must hold of a frozen model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from freezekit.errors import FreezeError, ModelError
from freezekit.freezing.wrapped import scripted_part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


@dataclass(frozen=True)
class Claims:
    """What must hold of a frozen model.

    Attributes:
        frozen: Names of the parameters that must not change.
        trained: Names of all other parameters that can be trained.
        eval_modules: Names of the modules that keep their statistics and draw no random numbers.
        lr_scales: Multipliers of learning rates that the optimizer must follow; 1 where a name is
            missing.
    """

    frozen: frozenset[str]
    trained: tuple[str, ...]
    eval_modules: frozenset[str]
    lr_scales: Mapping[str, float] = field(default_factory=dict)

    def wholly_held(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """Return the modules held in eval mode whose inner modules are all held too."""
        return {
            name: module
            for name, module in model.named_modules()
            if name in self.eval_modules
            and all(
                f"{name}.{inner}" in self.eval_modules
                for inner, _ in module.named_modules()
                if inner
            )
        }


def claims_of_plan(backbone: Backbone, plan: FreezePlan) -> Claims:
    """Return what a plan in force claims."""
    return Claims(
        plan.frozen,
        _trained(backbone.model, plan.frozen),
        plan.eval_modules or frozenset(),
        plan.lr_scales,
    )


def claims_of_flags(backbone: Backbone) -> Claims:
    """Return what the `requires_grad` flags of a model claim.

    A module whose parameters are all frozen is also claimed to be held in eval mode.

    Raises:
        FreezeError: Nothing is frozen, or nothing is trained.
    """
    model = backbone.model
    parameters = dict(model.named_parameters())
    frozen = frozenset(name for name, p in parameters.items() if not p.requires_grad)
    if not frozen:
        raise FreezeError(
            f"nothing in this {type(model).__name__} is frozen, so there is nothing to verify: "
            "freeze it with freeze_(), or set requires_grad of what is to be frozen to False"
        )
    trained = _trained(model, frozen)
    if not trained:
        raise FreezeError(
            f"all {len(frozen)} parameters of this {type(model).__name__} are frozen: nothing is "
            "left to train, so nothing can be proved; leave some of them trainable"
        )
    return Claims(frozen, trained, backbone.wholly_frozen(frozen))


def check_values(model: nn.Module) -> None:
    """Raise where no copy of a model can be trained.

    Raises:
        ModelError: A parameter or buffer is on "meta", or a part is scripted.
    """
    if (part := scripted_part(model)) is not None:
        name = type(model).__name__
        raise ModelError(
            f"{f'{part!r} in this {name}' if part else name} is a ScriptModule of torch.jit. "
            "Verification trains a copy, and torch makes no copy of such a module that can be "
            "trained: freeze and verify the model before it is scripted"
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise ModelError(
                f"{name!r} of this {type(model).__name__} is on 'meta', which holds shapes only; "
                "verification trains a copy, which needs values: build the model on 'cpu' or 'cuda'"
            )


def _trained(model: nn.Module, frozen: frozenset[str]) -> tuple[str, ...]:
    return tuple(
        name
        for name, p in model.named_parameters()
        if name not in frozen and (p.is_floating_point() or p.is_complex())
    )
