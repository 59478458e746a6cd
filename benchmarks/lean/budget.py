"""What a memory budget costs, beside stock, lean alone and checkpointing of every block.

    python -m benchmarks.lean.budget [--model NAME]... [--rounds N] [--out FILE.jsonl]
    python -m benchmarks.lean.budget --page       # the table of the page about lean

One row for each model, strategy and arm. The arms are stock, lean, budgets between what lean takes
and the least that can be had, and stock with `torch.utils.checkpoint` on every block, as timm's
`set_grad_checkpointing` sets it. Peak and FLOPs are those of a step on fake tensors. Saved bytes
are those that a real forward leaves. Bits are compared with stock's: losses, gradients and buffers
of two steps, with drop path. Step times are CPU seconds of one thread, of all arms in turn in one
process, as ratios to stock in the same round.

The table has the arms of `activation_budget.py` too: the same models compiled, with and without the
option `activation_memory_budget` of torch.compile.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
import warnings
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from benchmarks.facts import environment
from freezekit import freeze_
from freezekit.budget.decide import decide
from freezekit.budget.fake_step import FakeStep
from freezekit.memory.tracker import StorageTracker

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT = Path(__file__).parents[1] / "results" / "lean-budget.jsonl"
COMPILED = OUT.with_name("lean-activation-budget.jsonl")
SPECS = "full", "bias-only"
PARTS = 0.75, 0.5, 0.25, 0.0
"""Budgets, between the least that can be had (0) and what lean alone takes (1)."""
ROUNDS = 7
MIB = 2**20


class Case(NamedTuple):
    """A model and its images."""

    model: str
    image_size: int
    batch: int
    options: dict[str, Any]


CASES = (
    Case("vit_tiny_patch16_224", 160, 16, {"img_size": 160}),
    Case("vit_small_patch16_224", 96, 16, {"img_size": 96}),
    Case("swin_tiny_patch4_window7_224", 112, 8, {"img_size": 112}),
    Case("convnext_tiny", 96, 16, {}),
    Case("resnet50", 96, 16, {}),
)


class Arm(NamedTuple):
    """One way to train the model."""

    name: str
    model: nn.Module
    budget_bytes: int | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=[case.model for case in CASES])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--page", action="store_true", help="print the table, run nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.page:
        print(as_page(read(OUT), read(COMPILED)))
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # budgets that do not fit are rows
    rows = []
    if given.model:
        rows = [row for row in read(given.out) if row["model"] not in given.model]
    for case in CASES:
        if not given.model or case.model in given.model:
            for spec in SPECS:
                for row in run(case, spec, given.rounds):
                    print(as_line(row), flush=True)
                    rows.append(row)
                given.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sys.exit(not all(row["same_bits"] for row in rows if "checkpoint" not in row["arm"]))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(case: Case, spec: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of all arms of one case."""
    torch.manual_seed(0)
    model = timm.create_model(case.model, num_classes=10, drop_path_rate=0.1, **case.options)
    images = torch.randn(case.batch, 3, case.image_size, case.image_size)
    arms = list(arms_of(model, images, spec))
    bits = [train(copy.deepcopy(arm.model), images) for arm in arms]
    seconds = step_seconds([arm.model for arm in arms], images, rounds)
    stock = FakeStep(arms[0].model, (images,), {}).predict()
    for arm, found, times in zip(arms, bits, seconds, strict=True):
        step = FakeStep(without_budget(arm), (images,), {}).predict(chosen(arm))
        ratios = [mine / theirs for mine, theirs in zip(times, seconds[0], strict=True)]
        yield {
            **{"model": case.model, "image_size": case.image_size, "batch": case.batch},
            **{"strategy": spec, "arm": arm.name, "budget_bytes": arm.budget_bytes},
            "modules": len(chosen(arm)),
            "names": chosen(arm),
            "peak_bytes": step.peak_bytes,
            "saved_bytes": saved_bytes(arm.model, images),
            "flops": step.flops,
            "stock_flops": stock.flops,
            "same_bits": same(found, bits[0]),
            "ratios": ratios,
            "seconds": times,
            "environment": environment(),
        }


def arms_of(model: nn.Module, images: Tensor, spec: str) -> Iterator[Arm]:
    """Yield the arms; the models are frozen, in train mode, and have run once."""

    def frozen(lean: bool | str) -> nn.Module:
        copied = copy.deepcopy(model)
        freeze_(copied, spec, lean=lean)
        copied.train()(images)
        return copied

    yield Arm("stock", frozen(False))
    checkpointed = copy.deepcopy(model)
    checkpointed.set_grad_checkpointing()
    freeze_(checkpointed, spec)
    yield Arm("checkpoint", checkpointed.train())
    lean = frozen(True)
    yield Arm("lean", lean)
    choice = decide(lean, (images,), {}, 1)
    assert choice is not None
    least, most = choice.step.peak_bytes, choice.plain.peak_bytes
    for part in PARTS:
        budget = int(least + part * (most - least))
        yield Arm(f"budget {part:.0%}", frozen(f"budget:{budget}"), budget)


def chosen(arm: Arm) -> list[str]:
    """Return the names of the modules that are computed again."""
    record = arm.model.__dict__["_freezekit_record"]
    return list(record.lean.recomputed) if record.lean else []


def without_budget(arm: Arm) -> nn.Module:
    """Return the model, or a lean copy of one with a budget: its segments are given apart."""
    if arm.budget_bytes is None:
        return arm.model
    copied = copy.deepcopy(arm.model)
    freeze_(copied, copied.__dict__["_freezekit_record"].plan, lean=True)
    return copied.train()


def train(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Return what two steps compute: losses, gradients, buffers and the random state."""
    found: list[Tensor] = []
    torch.manual_seed(1)
    for _ in range(2):
        model.zero_grad()
        loss = model(images).square().mean()
        loss.backward()
        found += [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
    return [*found, *(b.clone() for b in model.buffers()), torch.get_rng_state()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def step_seconds(models: list[nn.Module], images: Tensor, rounds: int) -> list[list[float]]:
    """Return the CPU seconds of steps, which take turns; the first round is left out."""
    found: list[list[float]] = [[] for _ in models]
    for number in range(rounds + 1):
        for model, seconds in zip(models, found, strict=True):
            began = time.process_time()
            model.zero_grad()
            model(images).square().mean().backward()
            if number:
                seconds.append(time.process_time() - began)
    return found


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Return what a forward leaves for the backward pass."""
    with StorageTracker("cpu") as tracker:
        tracker.add([*model.parameters(), *model.buffers(), images])
        before = tracker.current_bytes
        graph = model(images).sum().grad_fn
        found = tracker.current_bytes - before
        del graph
    return found


def as_line(row: dict[str, Any]) -> str:
    flops = row["flops"] / row["stock_flops"] - 1
    return (
        f"{row['model']} {row['strategy']} {row['arm']}: peak {row['peak_bytes'] / MIB:.1f} MiB, "
        f"saved {row['saved_bytes'] / MIB:.1f} MiB, FLOPs {flops:+.1%}, "
        f"time {statistics.median(row['ratios']):.2f}, {row['modules']} modules, "
        f"{'same bits' if row['same_bits'] else 'other bits'}"
    )


def as_page(rows: list[dict[str, Any]], compiled: list[dict[str, Any]]) -> str:
    """Return the table as Markdown: the arms of each case, then those that are compiled."""
    head = "model, strategy", "arm", "peak, MiB", "saved, MiB", "FLOPs", "step time", "modules"
    lines = [f"| {' | '.join(head)} | same bits |", "|---" * (len(head) + 1) + "|"]
    for case, eager in groupby(rows, key=_case):
        lines += map(_as_row, eager)
        lines += map(_as_row, (row for row in compiled if _case(row) == case))
    return "\n".join(lines)


def _case(row: dict[str, Any]) -> tuple[str, str]:
    return row["model"], row["strategy"]


def _as_row(row: dict[str, Any]) -> str:
    first = row["arm"] == "stock"
    name = f"{row['model'].split('_patch')[0]}, `{row['strategy']}`" if first else ""
    flops = row["flops"] / row["stock_flops"] - 1
    cells = (
        name,
        row["arm"],
        f"{row['peak_bytes'] / MIB:.0f}" if "peak_bytes" in row else "",
        f"{row['saved_bytes'] / MIB:.1f}",
        "" if first else f"{100 * flops:+.0f} %",
        "" if first or "ratios" not in row else f"{statistics.median(row['ratios']):.2f}",
        row.get("modules") or "",
        "yes" if row["same_bits"] else "**no**",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
