"""What torch itself tells of a model: gradients that enter a frozen part, and its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from freezekit.model.nested import tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from tests.field.records import Structure


def set_flags(model: nn.Module, frozen: Collection[str]) -> None:
    """Set the flags by hand, as a user does."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(name not in frozen)


def leaks(structure: Structure, model: nn.Module, frozen: Collection[str]) -> list[str]:
    """Return modules and parameters of a frozen part through which a gradient passes.

    One forward in train mode is run with the flags as they are. A module leaks if all of its
    parameters are frozen and an output requires a gradient. A parameter leaks if an operation joins
    it with a tensor that some trained parameter made.
    """
    found: dict[str, None] = {}
    handles = []
    names = {id(p): name for name, p in model.named_parameters() if name in frozen}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if any(t.requires_grad for t in tensors(output)):
                found[name] = None

        return hook

    for name, module in model.named_modules():
        own = list(module.parameters())
        if name and own and all(id(p) in names for p in own):
            handles.append(module.register_forward_hook(watch(name)))

    class Joined(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:  # Any: torch's own protocol
            given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
            result = func(*args, **(kwargs or {}))
            if any(t.requires_grad and not t.is_leaf for t in given):
                made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
                if any(t.requires_grad for t in made):
                    found.update({names[id(t)]: None for t in given if id(t) in names})
            return result

    try:
        with Joined():
            structure.run(model.train())
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in found if not _begins(name, structure.reused)]


def _begins(name: str, beginnings: tuple[str, ...]) -> bool:
    return bool(beginnings) and name.startswith(beginnings)


def shape_of(model: nn.Module) -> dict[str, object]:
    """Return all of a model but its values: flags, modes, classes, hooks, keys."""
    modules = dict(model.named_modules())
    return {
        "flags": {n: p.requires_grad for n, p in model.named_parameters()},
        "modes": {n: m.training for n, m in modules.items()},
        "classes": {n: type(m) for n, m in modules.items()},
        "identities": {n: id(m) for n, m in modules.items()},
        "hooks": {
            n: [len(hooks) for key, hooks in vars(m).items() if key.endswith("_hooks")]
            for n, m in modules.items()
        },
        "keys": list(model.state_dict()),
        "left behind": [
            f"{n}.{key}"
            for n, m in modules.items()
            for key, value in vars(m).items()
            if type(value).__module__.startswith("freezekit.")
        ],
    }


def values_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers by name."""
    state = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in state}


def differing(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Return the names whose values differ in one bit or more; NaN is equal to NaN."""
    names = before.keys() & after.keys()
    return sorted(name for name in names if not _same(before[name], after[name]))


def same_bits(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> bool:
    """Tell whether two nests of tensors have the same shapes, types and bits."""
    return all(_same(a, b) for a, b in zip(ours, theirs, strict=True))


def _same(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def step(structure: Structure, model: nn.Module) -> dict[str, Tensor]:
    """Run one training step without an optimizer. Return loss, gradients and buffers by name."""
    torch.manual_seed(2)  # dropout draws the same numbers
    model.zero_grad()
    loss = loss_of(structure, structure.run(model.train()))
    loss.backward()
    found = {"loss": loss.detach()}
    found |= {f"grad {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found | {n: b.detach().clone() for n, b in model.named_buffers()}


def loss_of(structure: Structure, output: Any) -> Tensor:  # Any: whatever the model returns
    """Return the loss of an output: its own, or the mean square of all that has a gradient."""
    if structure.loss is not None:
        return structure.loss(output)
    live = [t for t in tensors(output) if t.requires_grad]
    return torch.stack([t.abs().float().square().mean() for t in live]).sum()
