"""What the compiled model of a case saves, told by Inductor's partitioner; nothing is generated.

    python -m benchmarks.lean.partition resnet50 bias-only [--stock]

It prints one line of JSON. Dynamo and AOTAutograd trace the model, Inductor's passes over the joint
graph run, and its partitioner divides the graph. There it ends, before kernels are generated. So a
case takes seconds, and the bytes are those of the graph that would run. They are counted by
storage, without parameters, buffers and images. The loss is outside of the graph, as in a training
loop.

A node in both graphs is computed again in the backward. Of these, the line has the functions, how
often they run, and the elements of their results; views are left out.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed
from torch._functorch.partitioners import get_default_op_list, min_cut_rematerialization_partition
from torch._inductor import config
from torch._inductor.custom_graph_pass import CustomPartitionerFn
from torch._ops import OpOverload

from benchmarks.lean.cases import MODELS, spec_of
from benchmarks.lean.sessions import real_session
from freezekit.errors import FreezekitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule, Node

MATRICES = "mm", "addmm", "bmm", "baddbmm", "convolution"
"""Operations that take most of the time of a step: nothing may compute them again."""


class Partitioned(Exception):  # noqa: N818  # no error: it ends the compilation
    """Carries the graphs of forward and backward out of the compilation."""

    def __init__(self, forward: GraphModule, backward: GraphModule, outputs: int) -> None:
        super().__init__("partitioned")
        self.forward, self.backward, self.outputs = forward, backward, outputs


class Stop(CustomPartitionerFn):
    """Inductor's partitioner, after which the compilation ends."""

    def __call__(
        self, gm: GraphModule, joint_inputs: Sequence[object], **kwargs: Any
    ) -> tuple[GraphModule, GraphModule]:
        """Divide the joint graph, and raise `Partitioned`."""
        forward, backward = min_cut_rematerialization_partition(gm, joint_inputs, **kwargs)
        raise Partitioned(forward, backward, kwargs["num_fwd_outputs"])

    def uuid(self) -> None:
        """Return no key: nothing is cached."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("spec")
    parser.add_argument("--stock", action="store_true", help="without lean")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(json.dumps(partition(given.model, given.spec, lean=not given.stock)))


def examine(job: dict[str, Any]) -> dict[str, Any]:
    """Return the line of one model and one strategy, for `benchmarks.zoo.sweep`."""
    model, name = job["name"], job["strategy"]
    try:
        return job | {"lean": partition(model, name)}
    except FreezekitError as error:
        return job | {"refused": str(error)}


def partition(model: str, name: str, *, lean: bool = True) -> dict[str, Any]:
    """Count what the compiled model of a case saves, and what it computes again."""
    start = time.perf_counter()
    session = real_session(MODELS[model], spec_of(name, model), lean=lean)
    found = partitioned(session.model, session.inputs)
    return {
        "saved_activations_bytes": saved_bytes(found),
        **again(found),
        "seconds": round(time.perf_counter() - start, 1),
    }


def partitioned(model: torch.nn.Module, inputs: tuple[Any, ...]) -> Partitioned:
    """Compile a model as far as to its two graphs.

    Raises:
        RuntimeError: The model has more than one graph.
    """
    torch._dynamo.reset()
    changes = {"custom_partitioner_fn": Stop(), "force_disable_caches": True}
    with config.patch(changes):
        try:
            torch.compile(model, fullgraph=True)(*inputs)
        except BackendCompilerFailed as error:
            if isinstance(error.inner_exception, Partitioned):
                return error.inner_exception
            raise
    raise RuntimeError("the model has no graph with a backward")


def saved_bytes(found: Partitioned) -> int:
    """Return the bytes that the forward hands to the backward, each storage once."""
    nodes = list(found.forward.graph.nodes)
    known = {_storage(n) for n in nodes if n.op == "placeholder" and _is_tensor(n)}
    handed = [n for n in nodes[-1].args[0][found.outputs :] if _is_tensor(n)]
    return sum({k: k.nbytes() for n in handed if (k := _storage(n)) not in known}.values())


def again(found: Partitioned) -> dict[str, Any]:
    """Tell which functions of the forward run once more in the backward."""
    forward = {n.name for n in found.forward.graph.nodes if n.op == "call_function"}
    types = get_default_op_list()
    nodes = [
        n
        for n in found.backward.graph.nodes
        if n.name in forward
        and _is_tensor(n)
        and isinstance(n.target, OpOverload)  # no part of a tuple
        and not types.is_view(n)
    ]
    names = Counter(n.target._opname for n in nodes)
    return {
        "again": dict(names.most_common()),
        "again_elements": sum(n.meta["val"].numel() for n in nodes),
        "again_matrices": sum(names[name] for name in MATRICES),
    }


def _is_tensor(node: Any) -> bool:  # Any: outputs may be None
    return isinstance(node, torch.fx.Node) and isinstance(node.meta.get("val"), Tensor)


def _storage(node: Node) -> Any:  # Any: torch's untyped storage
    return node.meta["val"].untyped_storage()


if __name__ == "__main__":
    main()
