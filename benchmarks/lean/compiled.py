"""What `torch.compile` keeps between forward and backward of a frozen model in stock PyTorch.

    python -m benchmarks.lean.compiled resnet18 full [--backend inductor]

One case per process, on real tensors; it prints one line of JSON. The second forward is measured,
because the first one compiles. Memory is counted in two ways. `saved_by_hooks` counts what the
compiled functions pass to autograd, by unique storage, without parameters, buffers and inputs.
`allocated` counts all that the allocator gave out in the forward and did not get back while the
graph existed, so that nothing is missed. The second is the figure.

The backend uses inductor's min-cut partitioner and inductor's decompositions to decide what to keep
and what to compute again. Then it runs the graph as it is, without compiling C++. On resnet18,
inductor itself keeps the same bytes (`compile_phase.py`) if its change of layouts is off. With that
change, which is the default, it also keeps copies of the convolutions' weights and of the images.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from benchmarks.lean.cases import MODELS, spec_of
from benchmarks.lean.sessions import real_session
from freezekit.errors import FreezekitError
from freezekit.results.records import Workload

if TYPE_CHECKING:
    from freezekit.bench.workload import Session

BACKEND = "aot_eager_decomp_partition"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("spec")
    parser.add_argument("--backend", default=BACKEND)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(json.dumps(compiled_memory(given.model, given.spec, given.backend)))


def compiled_memory(model: str, spec: str, backend: str) -> dict[str, Any]:
    """Compile the model of a case and count what its second forward keeps."""
    small = Workload("torchvision:resnet18", batch_size=4, image_size=64)
    start = time.perf_counter()
    try:
        session = real_session(MODELS.get(model, small), spec_of(spec, model))
    except FreezekitError as error:
        return {"refused": str(error)}
    stock_bytes = saved_by_hooks(session)
    session.model.compile(backend=backend)
    session.loss()
    counters = torch._dynamo.utils.counters
    return {
        "backend": backend,
        "saved_activations_bytes": allocated(session),
        "saved_by_hooks_bytes": saved_by_hooks(session),
        "stock_by_hooks_bytes": stock_bytes,
        "graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": sum(counters["graph_break"].values()),
        "seconds": round(time.perf_counter() - start, 1),
    }


def allocated(session: Session) -> int:
    """Return the bytes that stay allocated after a forward, while only its graph is held."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        graph = session.loss().grad_fn
        gc.collect()
    assert record.profiler is not None
    assert record.profiler.kineto_results is not None
    del graph
    events = record.profiler.kineto_results.events()
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


def saved_by_hooks(session: Session) -> int:
    """Return the bytes of storages that autograd saves and that did not exist before."""
    model = session.model
    known = [*model.parameters(), *model.buffers(), *tree_leaves(session.inputs)]
    before = {t.untyped_storage().data_ptr() for t in known if isinstance(t, Tensor)}
    packed: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        packed[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output with its graph would keep itself alive

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = session.loss().grad_fn
    del graph
    return sum(size for address, size in packed.items() if address not in before)


if __name__ == "__main__":
    main()
