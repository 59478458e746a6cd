"""Did a part of a model stay as it was? The same question to freezekit and to all others.

This shares no code with `freezekit.verify`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LEARNING_RATE = 1e-3
TOLERANCE = 1e-4
"""Of outputs, relative to the largest: kernels differ by less, other statistics by far more."""


def outermost(names: Sequence[str]) -> list[str]:
    """Leave out the modules that lie in others of the list.

    Example:
        >>> outermost(["layer1.0.conv1", "conv1", "layer1"])
        ['conv1', 'layer1']
    """
    known = set(names)

    def inside(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:i]) in known for i in range(1, len(parts)))

    return sorted(name for name in known if not inside(name))


def after_training(
    model: nn.Module,
    inputs: tuple[Any, ...],
    loss: Callable[[Any], Tensor],
    modules: Sequence[str],
    *,
    trained: Callable[[], object] = lambda: None,
    optimizer: Any = None,
    steps: int = 3,
) -> dict[str, Any]:
    """Train a few steps and tell what of the frozen modules stayed.

    Any: models take and return what they like; the result is JSON.

    Args:
        model: A frozen model, which is changed.
        inputs: Arguments of its forward.
        loss: From its output to a scalar.
        modules: Names of the modules that are meant to be frozen, outermost.
        trained: Called after each `model.train()`, where a tool asks for that.
        optimizer: The tool's own; by default SGD with momentum and weight decay on what requires
            grad.
        steps: Training steps.

    Returns:
        weights, statistics: whether parameters, buffers of the modules kept every bit; same:
        whether the modules answer alike after `train()` and `eval()`; moved: the first few that
        did not.
    """
    wanted = [p for p in model.parameters() if p.requires_grad]
    if optimizer is None:
        optimizer = torch.optim.SGD(wanted, lr=LEARNING_RATE, momentum=0.9, weight_decay=0.05)
    parts = {name: model.get_submodule(name) for name in modules}
    weights = {f"{m}.{n}" for m, part in parts.items() for n, _ in part.named_parameters()}
    before = {n: t.detach().clone() for n, t in _kept(parts).items()}
    for _ in range(steps):
        model.train()
        trained()
        loss(model(*inputs)).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = _kept(parts)
    moved = [n for n, tensor in before.items() if n not in after or _moved(after[n], tensor)]
    model.train()
    trained()
    differing = _differing(model, inputs, modules, trained)
    return {
        "weights": weights.isdisjoint(moved),
        "statistics": weights.issuperset(moved),
        "same": not differing,
        "moved": [*moved[:3], *differing[:3]],
    }


def _kept(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return what the state dict keeps; what models cache besides is no statistic."""
    return {f"{m}.{n}": t for m, part in parts.items() for n, t in part.state_dict().items()}


def _moved(tensor: Tensor, before: Tensor) -> bool:
    if tensor.shape != before.shape or tensor.dtype != before.dtype:
        return True
    return not torch.equal(tensor.nan_to_num(), before.nan_to_num())


def _differing(
    model: nn.Module,
    inputs: tuple[Any, ...],
    modules: Sequence[str],
    trained: Callable[[], object],
) -> list[str]:
    """Return those of the modules whose outputs differ between `train()` and `eval()`."""
    calls = _calls(model, inputs, modules)
    outputs: list[list[Tensor]] = []
    for mode in (True, False):
        model.train(mode)
        if mode:
            trained()
        found: list[Tensor] = []
        with torch.no_grad():
            for name, (args, kwargs) in calls.items():
                args, kwargs = tree_map_only(Tensor, torch.clone, (args, kwargs))
                answer = tree_leaves(model.get_submodule(name)(*args, **kwargs))
                found.append(
                    torch.cat([t.reshape(-1).double() for t in answer if isinstance(t, Tensor)])
                )
        outputs.append(found)
    pairs = zip(calls, *outputs, strict=True)
    return [name for name, one, other in pairs if distance(one, other) > TOLERANCE]


def _calls(
    model: nn.Module, inputs: tuple[Any, ...], modules: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """Return the arguments of the first call of each module; of a list, of what is in it."""
    seen: dict[str, tuple[Any, Any]] = {}
    handles = []
    inner = {
        f"{name}.{n}" if n else name
        for name in modules
        for n, _ in model.get_submodule(name).named_modules()
    }
    for name in inner:

        def enter(_module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            copied = tree_map_only(Tensor, lambda t: t.detach().clone(), (args, kwargs))
            seen.setdefault(name, copied)

        module = model.get_submodule(name)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: seen[name] for name in outermost(list(seen))}


def distance(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, relative to the largest value; infinity for other shapes.

    Example:
        >>> distance(torch.tensor([2.0, 4.0]), torch.tensor([2.0, 3.0]))
        0.25
    """
    if one.shape != other.shape:
        return float("inf")
    if not one.numel():
        return 0.0
    scale = max(float(one.abs().max()), 1e-12)
    return float((one - other).abs().max()) / scale
