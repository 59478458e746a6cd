"""A lower bound of what autograd must keep between forward and backward of a frozen model.

    python -m benchmarks.lean.bound resnet50 surgical:stages=stem

The bound is counted on the stock model under fake tensors, from autograd's graph alone and without
the code of `freezekit.lean`. Each node's formula says what it needs of what it saved (`needs.py`),
given which of its inputs require a gradient. The bound assumes:

- A gradient is computed by torch's own formula for each operation. What the formulas need:
  - convolution, matrix product: a factor, where the gradient of the other factor is wanted;
  - batch norm: its input, where it uses batch statistics or its weight is trained;
  - layer norm, group norm: input and statistics;
  - ReLU, ReLU6, leaky ReLU, hard sigmoid, dropout: a bit per element;
  - max pooling: the position in the window, ceil(log2(positions)) bits for each pooled element;
  - average pooling, padding, sums, means, views, copies: nothing;
  - SiLU, GELU, hardswish, mish: the input;
  - softmax: the result;
  - all others, such as attention and sigmoid: all that they save.
- A storage is kept once. It is kept whole if any formula needs all of it, or a view of it; then its
  bits cost nothing more.
- The output of a cheap operation (activation functions, layer norm, elementwise products, copies
  that only move elements) is not kept where all of its inputs are needed whole anyway, or can be
  computed again in the same way. Nothing is kept only to compute something else. Convolutions,
  matrix products, batch norms, attention, sums and concatenations run once. A method that runs
  them twice can be below the bound, as `torch.compile` does with batch norms.
- Parameters, buffers, inputs and labels exist anyway.
"""

from __future__ import annotations

import argparse
import gc
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmarks.lean.cases import MODELS, spec_of
from benchmarks.lean.needs import (
    VIEWS,
    MaskStorages,
    Need,
    all_saved,
    base_name,
    needs,
    saved,
    storage_key,
)
from benchmarks.lean.sessions import fake_session
from freezekit.memory.tracker import StorageTracker

if TYPE_CHECKING:
    from torch.autograd.graph import Node

    from freezekit.bench.workload import Session

_CHEAP: dict[str, tuple[str, ...]] = {  # operation to the names under which it saves its inputs
    **dict.fromkeys(("Silu", "Gelu", "Hardswish", "Mish", "Hardsigmoid", "Hardtanh"), ("self",)),
    **dict.fromkeys(("Relu", "LeakyRelu", "Roll", "Clone", "ConstantPadNd", "Repeat"), ("self",)),
    "NativeLayerNorm": ("input",),
    "Mul": ("self", "other"),
}


WHOLE = 99  # bits: more than any formula needs, so that whole tensors are counted first


@dataclass
class Bound:
    """What must be kept, and what stock PyTorch keeps.

    Attributes:
        bytes: The bound.
        stock_bytes: What autograd saved, by unique storage.
        kept: Bytes of the bound for each operation that needs them.
    """

    bytes: int = 0
    stock_bytes: int = 0
    kept: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, size: int) -> None:
        """Count bytes that an operation needs."""
        self.bytes += size
        self.kept[name] += size


def bound_of(session: Session) -> Bound:
    """Count a session's bound; its model must be stock, and its mode of fake tensors active."""
    tracker, masks = StorageTracker(session.workload.device), MaskStorages()
    model = session.model
    leaves = tree_leaves([*model.parameters(), *model.buffers(), session.inputs])
    tracker.add(leaf for leaf in leaves if isinstance(leaf, Tensor))
    with tracker:
        session.loss()  # the first call draws the labels
    gc.collect()
    known = set(tracker.snapshot())
    with masks:
        loss = session.loss()
    assert loss.grad_fn is not None
    return Graph(loss.grad_fn, known, masks.storages).bound()


class Graph:
    """Autograd's graph of one forward, and which storages its formulas need.

    Args:
        root: The loss's node.
        known: Storages that exist anyway, and are not counted.
        masks: Storages that hold random masks, as dropout draws them.
    """

    def __init__(self, root: Node, known: set[int], masks: set[int]) -> None:
        self.known = known
        self.nodes = reachable(root)
        self.needs: list[tuple[Node, Need]] = []
        self.producers: dict[int, set[Node]] = {}
        self.results: dict[Node, int] = {}
        self.stock: dict[int, int] = {}
        for node in self.nodes:
            for tensor in all_saved(node):
                self._note(tensor)
            self.needs += [(node, need) for need in needs(node, masks)]
        whole = (need.tensor for _, need in self.needs if need.bits is None)
        self.whole = {storage_key(t) for t in whole}
        self._available: dict[Node, bool] = {}

    def bound(self) -> Bound:
        """Add up what is needed and cannot be computed again."""
        total = Bound(stock_bytes=sum(self.stock.values()))
        done: set[int] = set(self.known)
        for node, need in sorted(self.needs, key=lambda pair: -(pair[1].bits or WHOLE)):
            key = storage_key(need.tensor)
            if key in done or key not in self.stock:
                continue
            if need.bits is None and not self._can_be_computed(key):
                total.add(base_name(node), self.stock[key])
            elif need.bits is not None and not self._gives_bits(node, need):
                total.add(base_name(node), -(-need.tensor.numel() * need.bits // 8))
            done.add(key)
        return total

    def _note(self, tensor: Tensor) -> None:
        key = storage_key(tensor)
        if key not in self.known:
            self.stock[key] = tensor.untyped_storage().nbytes()
        node = tensor.grad_fn
        while node is not None and base_name(node) in VIEWS:
            node = node.next_functions[0][0]
        if node is not None:
            self.producers.setdefault(key, set()).add(node)
            self.results[node] = key

    def _can_be_computed(self, key: int) -> bool:
        """Tell whether a storage can be computed again."""
        return any(self._from_inputs(node) for node in self.producers.get(key, ()))

    def _gives_bits(self, node: Node, need: Need) -> bool:
        """Tell whether the bits follow from something that is kept anyway."""
        key = storage_key(need.tensor)
        return (
            key in self.whole or self._can_be_computed(key) or (need.in_result and self._has(node))
        )

    def _has(self, node: Node) -> bool:
        """Tell whether a node's result is kept, or can be computed again."""
        if node not in self._available:
            kept = self.results.get(node) in self.whole
            self._available[node] = kept or self._from_inputs(node)
        return self._available[node]

    def _from_inputs(self, node: Node) -> bool:
        name = base_name(node)
        edges = [edge for edge, _ in node.next_functions]
        if name in VIEWS or not edges:  # a leaf's node has no edges
            return all(self._has(edge) for edge in edges if edge is not None)
        if name not in _CHEAP:
            return False
        return all(
            self._exists(node, saved_name) or (edge is not None and self._has(edge))
            for edge, saved_name in zip(edges, _CHEAP[name], strict=False)
        )

    def _exists(self, node: Node, name: str) -> bool:
        """Tell whether an input, as the node saved it, is a number or exists anyway.

        An operation in place saves a copy of its input, which no other node refers to.
        """
        tensor = saved(node, name)
        if not isinstance(tensor, Tensor) or not tensor.ndim:
            return tensor is not None
        return storage_key(tensor) in self.known | self.whole


def reachable(root: Node) -> list[Node]:
    """Return all nodes of a graph, each once."""
    found: dict[Node, None] = {}
    todo = [root]
    while todo:
        node = todo.pop()
        if node not in found:
            found[node] = None
            todo += [edge for edge, _ in node.next_functions if edge is not None]
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("spec")
    given = parser.parse_args()
    with fake_session(MODELS[given.model], spec_of(given.spec, given.model)) as session:
        bound = bound_of(session)
    print(
        f"stock {bound.stock_bytes / 2**20:.2f} MiB, bound {bound.bytes / 2**20:.2f} MiB, of which"
    )
    for name, size in bound.kept.most_common(12):
        print(f"{size / 2**20:10.2f} MiB  {name}")


if __name__ == "__main__":
    main()
