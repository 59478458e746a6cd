"""Which parameters the output of each module depends on, as autograd has it.

One forward with every parameter trainable tells for every set of frozen ones what requires grad: a
tensor does where a trainable parameter is reachable from it. `tests/test_zoo.py` holds this against
the flags set for real.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Node = Any  # torch has no public type for the nodes of its graph


@dataclass(frozen=True)
class Reach:
    """What was seen in one forward in train mode.

    Attributes:
        names: Parameters, in registration order; number i is bit i of a mask.
        outputs: For each module that was called, the parameters that any of its outputs needs.
    """

    names: tuple[str, ...]
    outputs: Mapping[str, int]

    def mask(self, names: Iterable[str]) -> int:
        """Return the bits of some parameters."""
        bit = {name: 1 << i for i, name in enumerate(self.names)}
        return sum(bit[name] for name in set(names) & bit.keys())


def observe_reach(model: nn.Module, inputs: tuple[Any, ...]) -> Reach:
    """Run a model once, in train mode with every parameter trainable, and look at its graph.

    Args:
        model: A copy that nobody else needs: flags and mode change.
        inputs: Arguments of its forward.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
        >>> observe_reach(net, (torch.ones(1, 2),))
        Reach(names=('0.weight', '0.bias', '1.weight'), outputs={'0': 3, '1': 7, '': 7})
    """
    model.train()
    bits: dict[int, int] = {}
    names: list[str] = []
    for name, parameter in model.named_parameters():
        bits[id(parameter)] = 1 << len(names)
        names.append(name)
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    seen: list[tuple[str, Node]] = []
    handles = []
    for name, module in model.named_modules():

        def look(_module: nn.Module, _args: Any, output: Any, name: str = name) -> None:
            # The node of this moment: what later changes the tensor in place gives it another.
            tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
            seen.extend((name, tensor.grad_fn) for tensor in tensors)

        handles.append(module.register_forward_hook(look))
    try:
        with torch.enable_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    known: dict[int, int] = {}
    alive: list[Node] = []  # a node that is gone could lend its id to another
    outputs: dict[str, int] = {}
    for name, node in seen:
        outputs[name] = outputs.get(name, 0) | _leaves(node, bits, known, alive)
    return Reach(tuple(names), outputs)


def _leaves(node: Node, bits: Mapping[int, int], known: dict[int, int], alive: list[Node]) -> int:
    """Return the parameters below a node, those of every node below it noted in `known`."""
    if node is None:
        return 0
    waiting = [node]
    while waiting:
        top = waiting[-1]
        if id(top) in known:
            waiting.pop()
            continue
        below = [n for n, _ in top.next_functions if n is not None]
        missing = [n for n in below if id(n) not in known]
        if missing:
            waiting += missing
            continue
        mask = bits.get(id(getattr(top, "variable", None)), 0)
        for child in below:
            mask |= known[id(child)]
        known[id(top)] = mask
        alive.append(top)
        waiting.pop()
    return known[id(node)]


def unclean(
    model: nn.Module,
    reach: Reach,
    parts: Sequence[Sequence[str]],
    modules: Sequence[Sequence[str]] = (),
) -> list[tuple[int, str]]:
    """Return (n, module) where, with the first n parts frozen, a frozen module requires grad.

    A module is frozen with its last parameter; one that has none, with the module around it, or
    with the part that claims it. The model itself is the last to be frozen and never counts.

    Args:
        model: The model.
        reach: Of that model.
        parts: Names of parameters, part by part in order.
        modules: Modules that each part claims for its own.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> seen = observe_reach(net, (torch.ones(1, 2),))
        >>> unclean(net, seen, [["0.weight", "0.bias"], ["1.weight", "1.bias"]])
        []
        >>> unclean(net, seen, [["1.weight", "1.bias"], ["0.weight", "0.bias"]])
        [(1, '1')]
    """
    frozen_with = _frozen_with(model, parts)
    for at, names in enumerate(modules):
        for name in names:
            frozen_with[name] = min(frozen_with.get(name, at), at)
    masks = [reach.mask(names) for names in parts]
    found = []
    for name, at in frozen_with.items():
        needed = reach.outputs.get(name, 0)
        last = max((i for i, mask in enumerate(masks) if mask & needed), default=0)
        found += [(n, name) for n in range(at + 1, last + 1)]
    return sorted(found)


def _frozen_with(model: nn.Module, parts: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return the last part that each module needs frozen; what is trained for ever is missing."""
    part_of = {name: at for at, names in enumerate(parts) for name in names}
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    needs: dict[str, set[int | None]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        at = part_of.get(first[id(parameter)])
        for around in _around(name):
            needs.setdefault(around, set()).add(at)
    frozen: dict[str, int] = {}
    for name, _ in model.named_modules():  # parents come before their children
        parent = name.rpartition(".")[0]
        if name in needs:
            ats = [at for at in needs[name] if at is not None]
            if len(ats) == len(needs[name]):
                frozen[name] = max(ats)
        elif parent in frozen:
            frozen[name] = frozen[parent]
    return frozen


def _around(name: str) -> list[str]:
    """Return the modules around a parameter: "a.b.weight" gives ["a", "a.b"]."""
    names = name.split(".")[:-1]
    return [".".join(names[: i + 1]) for i in range(len(names))]
