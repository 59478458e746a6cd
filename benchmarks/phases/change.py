"""What does a change of plan cost, and a step of a schedule that changes nothing?

    python -m benchmarks.phases.change [-o benchmarks/results/phases-change.json]

A change: timm's `vit_large_patch16_224` with random weights, and the same with fewer and more
blocks, between "last-n-stages:n=2" and "full", with one SGD optimizer of all phases and a
scheduler. Beside it the bare loop that sets `requires_grad` of each parameter. A step:
`optimizer.step()` with `run.step()` of each built-in schedule that observes no step, less the bare
`optimizer.step()`, on `meta`, where no time goes into the parameters. Each is a median of repeats,
interleaved with the bare loop, in wall time and in CPU time of the process. One thread.
"""

from __future__ import annotations

import gc
import os
import time
import warnings
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import torch

from benchmarks.facts import environment, write_whole
from benchmarks.phases.training import SCHEDULES
from freezekit import freeze_, load_backbone, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

VIT_LARGE_BLOCKS = 24
BLOCKS = (6, 12, VIT_LARGE_BLOCKS, 48)
STEPPED = ("vit_tiny_patch16_224", "vit_large_patch16_224")
OBSERVING = ("auto-rgn", "plasticity")
CALLS = 200
"""Of a step in a repeat."""

Times = dict[str, dict[str, float]]


def interleaved(actions: Mapping[str, Callable[[], object]], repeats: int) -> list[Times]:
    """Return wall and CPU seconds of each action in each repeat; the first repeat is a warm-up."""
    found: list[Times] = []
    for _ in range(repeats + 1):
        times: Times = {}
        for name, action in actions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            action()
            times[name] = {
                "wall": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
            }
        found.append(times)
    return found[1:]


def change(blocks: int, repeats: int) -> dict[str, Any]:  # Any: JSON
    """Return the seconds of a change of a ViT-L of so many blocks."""
    torch.manual_seed(0)
    model = load_backbone("timm:vit_large_patch16_224", depth=blocks)
    frozen = freeze_(model, "full")
    optimizer = torch.optim.SGD(frozen.param_groups(0.01, 0.05, all_phases=True), momentum=0.9)
    schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)]
    late, full = (plan(frozen.backbone, spec) for spec in ("last-n-stages:n=2", "full"))
    parameters = list(model.parameters())

    def by_hand() -> None:
        for flag in (False, True):
            for parameter in parameters:
                parameter.requires_grad_(flag)
            model.train()

    def by_plan() -> None:
        for each in (late, full):
            frozen.change_(each, optimizer, schedulers)

    def by_spec() -> None:
        for spec in ("last-n-stages:n=2", "full"):
            frozen.change_(spec, optimizer, schedulers)

    actions = {"flags by hand": by_hand, "plan": by_plan, "spec": by_spec}
    repeated = interleaved(actions, repeats)
    return {
        "blocks": blocks,
        "parameters": len(parameters),
        "elements": sum(parameter.numel() for parameter in parameters),
        "change_seconds": {
            name: {clock: median(r[name][clock] for r in repeated) / 2 for clock in ("wall", "cpu")}
            for name in actions
        },
        "repeats": [{name: r[name]["wall"] / 2 for name in actions} for r in repeated],
    }


def step(name: str, schedule: str, repeats: int) -> dict[str, Any]:  # Any: JSON
    """Return the seconds that a schedule adds to a step in which it changes no plan."""
    model = load_backbone(f"timm:{name}", device="meta")
    frozen = freeze_(model, "full")
    bare, followed = (
        torch.optim.SGD(frozen.param_groups(0.01, all_phases=schedule)) for _ in range(2)
    )
    run = frozen.follow(schedule, followed, epochs=10, steps_per_epoch=100_000)

    def without() -> None:
        for _ in range(CALLS):
            bare.step()

    def with_it() -> None:
        for _ in range(CALLS):
            followed.step()
            run.step()

    repeated = interleaved({"bare": without, "followed": with_it}, repeats)
    added = [
        {clock: (r["followed"][clock] - r["bare"][clock]) / CALLS for clock in ("wall", "cpu")}
        for r in repeated
    ]
    return {
        "model": name,
        "schedule": schedule,
        "transitions": len(run.transitions),
        "bare_seconds": median(r["bare"]["cpu"] for r in repeated) / CALLS,
        "added_seconds": {clock: median(a[clock] for a in added) for clock in ("wall", "cpu")},
        "repeats": added,
    }


def slope(rows: Sequence[Mapping[str, Any]], way: str) -> tuple[float, float]:  # Any: JSON
    """Return the power of the number of parameters that the CPU time grows with, and R² of the fit.

    The fit is a line through logarithms; 1 is linear.
    """
    x = torch.tensor([float(row["parameters"]) for row in rows]).log()
    y = torch.tensor([row["change_seconds"][way]["cpu"] for row in rows]).log()
    x, y = x - x.mean(), y - y.mean()
    power = (x @ y) / (x @ x)
    return float(power), float(1 - (y - power * x).square().sum() / y.square().sum())


@click.command(help=__doc__)
@click.option("--repeats", default=15, show_default=True)
@click.option(
    "-o",
    "--output",
    default="benchmarks/results/phases-change.json",
    type=click.Path(path_type=Path),
)
def main(repeats: int, output: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    facts = {**environment(), "repeats": repeats, "load_before": os.getloadavg()[0]}
    changes: list[dict[str, Any]] = []
    for blocks in BLOCKS:
        row = change(blocks, repeats)
        changes.append(row)
        gc.collect()
        click.echo(
            f"{blocks:>3} blocks  {row['parameters']:>4} parameters  "
            + "  ".join(
                f"{way} {1e3 * s['wall']:.2f} ms (CPU {1e3 * s['cpu']:.2f})"
                for way, s in row["change_seconds"].items()
            )
        )
    powers = {way: slope(changes, way) for way in changes[0]["change_seconds"]}
    for way, (power, fit) in powers.items():
        click.echo(f"{way}: CPU time grows with parameters to the power {power:.2f}, R² {fit:.3f}")
    steps = []
    for name in STEPPED:
        for key, schedule in SCHEDULES.items():
            if key in OBSERVING:
                continue
            steps.append(found := step(name, schedule, repeats))
            click.echo(
                f"{name:<22} {key:<20} adds {1e6 * found['added_seconds']['wall']:.1f} us "
                f"(CPU {1e6 * found['added_seconds']['cpu']:.1f}) to a step; "
                f"bare {1e6 * found['bare_seconds']:.1f}"
            )
    facts["load_after"] = os.getloadavg()[0]
    write_whole(output, {**facts, "changes": changes, "powers": powers, "steps": steps})


if __name__ == "__main__":
    main()
