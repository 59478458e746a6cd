"""How long `plan` and `freeze_` take, against the number of parameters.

    python benchmarks/freezing/scaling.py [-o benchmarks/results/freezing.json]

Finding stages runs a forward pass on shapes once per model; it is timed apart.
Models are on `meta`.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch

from freezekit import Backbone, freeze_, load_backbone, plan

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = ("resnet18", "resnet50", "vit_tiny_patch16_224", "vit_large_patch16_224", "resnet152")
SPECS = ("by-name:contains=blocks", "batch-norm", "first-n-stages:n=2", "head-only")


@click.command(help=__doc__)
@click.option("-o", "--output", default="benchmarks/results/freezing.json", type=click.Path())
@click.option("--runs", default=7)
def main(output: str, runs: int) -> None:
    rows = []
    for name in MODELS:
        model = load_backbone(f"timm:{name}", device="meta")
        count = sum(1 for _ in model.parameters())
        stages = statistics.median(_seconds(lambda m=model: Backbone(m).stages, runs))
        for spec in SPECS:
            backbone = Backbone(model)
            try:
                decided = plan(backbone, spec)  # stages are found here, once
            except Exception as error:  # noqa: BLE001  # a ViT has no batch norm
                click.echo(f"{name:<24} {spec:<26} {error}")
                continue
            planning = statistics.median(_seconds(lambda b=backbone, s=spec: plan(b, s), runs))
            freezing = statistics.median(_seconds(lambda m=model, d=decided: freeze_(m, d), runs))
            rows.append(
                {
                    "model": name,
                    "spec": spec,
                    "parameters": count,
                    "stages_seconds": stages,
                    "plan_seconds": planning,
                    "freeze_seconds": freezing,
                }
            )
            click.echo(
                f"{name:<24} {spec:<26} {count:>4} parameters  stages {stages * 1e3:6.1f} ms  "
                f"plan {planning * 1e3:6.2f} ms  freeze {freezing * 1e3:6.2f} ms"
            )
    Path(output).write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


def _seconds(action: Callable[[], object], runs: int) -> list[float]:
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return found


if __name__ == "__main__":
    main()
