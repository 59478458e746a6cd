"""What `activation_memory_budget` of torch.compile saves and costs, for the table of budgets.

    python -m benchmarks.lean.activation_budget [--model NAME]...    what is missing
    python -m benchmarks.lean.activation_budget --steps --model NAME    and the step times

The models, strategies and images are those of `budget.py`, which prints the table. The option is a
share: 1 saves what the partitioner saves by itself, 0 saves next to nothing. The last arm is a lean
model without the option.

Saved bytes are those that the forward graph hands to the backward graph. FLOPs are those of both
graphs. Bits are those of the graphs run operator by operator for two steps, compared with the model
that is compiled without the option. There is no drop path here: a graph that is run so draws anew
what it computes again. For step times, Inductor generates the kernels, which takes minutes for each
arm. All arms take turns in one process with the model that is not compiled.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch import config as functorch_config
from torch._inductor.compile_fx import compile_fx, partition_fn
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_utils import count_flops_fx

from benchmarks.facts import environment
from benchmarks.lean.budget import (
    CASES,
    COMPILED,
    ROUNDS,
    SPECS,
    Case,
    read,
    same,
    step_seconds,
    train,
)
from benchmarks.lean.compare_compiled import as_it_is
from benchmarks.lean.partition import Partitioned, saved_bytes
from freezekit import freeze_

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import GraphModule


class Arm(NamedTuple):
    """One way to compile a model."""

    name: str
    share: float
    lean: bool = False


ARMS = (
    Arm("compiled", 1.0),
    *(Arm(f"compiled, share {share}", share) for share in (0.75, 0.5, 0.25, 0.0)),
    Arm("compiled, lean", 1.0, lean=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=[case.model for case in CASES])
    parser.add_argument("--steps", action="store_true", help="generate kernels and time steps")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=COMPILED)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for case in CASES:
        for spec in SPECS:
            if given.model and case.model not in given.model:
                continue
            rows = read(given.out)
            mine = [row for row in rows if (row["model"], row["strategy"]) == (case.model, spec)]
            if not mine:
                mine = counted(case, spec)
            if given.steps and "ratios" not in mine[0]:
                for row, ratios in zip(mine, timed(case, spec, given.rounds), strict=True):
                    row["ratios"] = ratios
            others = [row for row in rows if (row["model"], row["strategy"]) != (case.model, spec)]
            given.out.write_text("".join(json.dumps(row) + "\n" for row in [*others, *mine]))
            print(*map(json.dumps, mine), sep="\n", flush=True)


def counted(case: Case, spec: str) -> list[dict[str, Any]]:
    """Return a row for each arm: bytes, FLOPs, and whether the bits are those of the first."""
    rows: list[dict[str, Any]] = []
    first: list[Tensor] = []
    for arm in ARMS:
        model, images = made(case, spec, arm)
        found: list[dict[str, int]] = []
        compile_with(model, arm, graphs_as_they_are(found))
        bits = train(model, images)
        first = first or bits
        (graphs,) = found  # one graph, compiled once
        rows.append(
            {
                **{"model": case.model, "image_size": case.image_size, "batch": case.batch},
                **{"strategy": spec, "arm": arm.name, **graphs},
                "same_bits": same(bits, first),
                "environment": environment(),
            }
        )
    for row in rows:
        row["stock_flops"] = rows[0]["flops"]
    return rows


def timed(case: Case, spec: str, rounds: int) -> list[list[float]]:
    """Return each arm's step times as ratios to those of the model that is not compiled."""
    eager, images = made(case, spec, ARMS[0])
    models = [eager]
    for arm in ARMS:
        model, _ = made(case, spec, arm)
        compile_with(model, arm, compile_fx)
        model(images).square().mean().backward()
        models.append(model)
    base, *others = step_seconds(models, images, rounds)
    return [[mine / theirs for mine, theirs in zip(s, base, strict=True)] for s in others]


def made(case: Case, spec: str, arm: Arm) -> tuple[nn.Module, Tensor]:
    """Return a frozen model in train mode, and its images; the same in each arm."""
    torch.manual_seed(0)
    model = timm.create_model(case.model, num_classes=10, **case.options)
    images = torch.randn(case.batch, 3, case.image_size, case.image_size)
    freeze_(model, spec, lean=arm.lean)
    return model.train(), images


def compile_with(model: nn.Module, arm: Arm, backend: Callable[..., Any]) -> None:
    """Compile a model with a share. The option is read while it compiles, in its first step."""
    torch._dynamo.reset()

    def compiled(graph: GraphModule, inputs: list[Tensor]) -> Any:  # Any: torch's callable
        with functorch_config.patch(activation_memory_budget=arm.share):
            return backend(graph, inputs)

    model.compile(backend=compiled)


def graphs_as_they_are(found: list[dict[str, int]]) -> Callable[..., Any]:
    """Return a backend that divides a graph as Inductor does, counts both parts and runs them."""

    def divide(*args: Any, **kwargs: Any) -> tuple[GraphModule, GraphModule]:
        forward, backward = partition_fn(*args, **kwargs)
        parts = Partitioned(forward, backward, kwargs["num_fwd_outputs"])
        flops = sum(flops_of(graph) for graph in (forward, backward))
        found.append({"saved_bytes": saved_bytes(parts), "flops": flops})
        return forward, backward

    return aot_autograd(
        fw_compiler=as_it_is,
        bw_compiler=as_it_is,
        partition_fn=divide,
        decompositions=select_decomp_table(),
        keep_inference_input_mutations=True,
    )


def flops_of(graph: GraphModule) -> int:
    return sum(count_flops_fx(node) or 0 for node in graph.graph.nodes)


if __name__ == "__main__":
    main()
