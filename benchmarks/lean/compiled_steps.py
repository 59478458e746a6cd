"""Compile time and step time of a small model: eager and compiled, stock and lean.

    python -m benchmarks.lean.compiled_steps torchvision:resnet18 bias-only --arm stock
    python -m benchmarks.lean.compiled_steps torchvision:resnet18 bias-only --arm lean
    python -m benchmarks.lean.compiled_steps torchvision:resnet18 bias-only

With `--arm`, one model is compiled from nothing, and the user CPU time is told, of g++ too. Without
it, all four arms take turns in one process, with what the commands before have left in Inductor's
cache on the disk. Each prints a line of JSON. One thread, so that CPU time is the work.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch._inductor import config

from benchmarks.lean.sessions import real_session
from freezekit.results.records import Workload

if TYPE_CHECKING:
    from freezekit.bench.workload import Session

ARMS = "stock eager", "lean eager", "stock compiled", "lean compiled"
WARM_STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("spec")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--arm", choices=["stock", "lean"], help="compile this one alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    workload = Workload(given.model, batch_size=given.batch, image_size=given.size)
    line = {"model": given.model, "strategy": given.spec, "size": given.size, "batch": given.batch}
    if given.arm:
        line |= compile_alone(workload, given.spec, given.arm)
    else:
        line |= take_turns(workload, given.spec, given.steps)
    print(json.dumps(line))


def compile_alone(workload: Workload, spec: str, arm: str) -> dict[str, Any]:
    """Compile one model in this process, without threads or processes of Inductor's own."""
    session = real_session(workload, spec, lean=arm == "lean")
    session.loss().backward()
    session.model.compile()
    before = _user_seconds()
    with config.patch(compile_threads=1, fx_graph_cache=True):
        session.loss().backward()
    return {"arm": arm, "compile_user_seconds": round(_user_seconds() - before, 1)}


def take_turns(workload: Workload, spec: str, steps: int) -> dict[str, Any]:
    """Time steps of the four arms, one after another; ratios are medians of those of each turn."""
    sessions = {name: real_session(workload, spec, lean="lean" in name) for name in ARMS}
    for name, session in sessions.items():
        if "compiled" in name:
            session.model.compile()
        for _ in range(WARM_STEPS):
            _step(session)
    seconds = {name: [] for name in ARMS}  # type: dict[str, list[float]]
    for _ in range(steps):
        for name, session in sessions.items():
            seconds[name].append(_step(session))
    stock = seconds["stock compiled"]
    return {
        "median_seconds": {name: round(statistics.median(s), 5) for name, s in seconds.items()},
        "of_stock_compiled": {
            name: round(statistics.median(a / b for a, b in zip(s, stock, strict=True)), 3)
            for name, s in seconds.items()
        },
    }


def _step(session: Session) -> float:
    session.optimizer.zero_grad(set_to_none=True)
    start = time.process_time()
    session.loss().backward()
    return time.process_time() - start


def _user_seconds() -> float:
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(resource.getrusage(kind).ru_utime for kind in kinds)


if __name__ == "__main__":
    main()
