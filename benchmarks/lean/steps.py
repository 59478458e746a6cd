"""What lean costs: step times of lean and stock, in one interleaved run for each model.

    python -m benchmarks.lean.steps [--model NAME]... [--budget SECONDS]
    python -m benchmarks.lean.steps --page       # the tables of the page about lean

Runs `freezekit bench MODEL -s SPEC... --lean both`. Its rows hold the ratio to the stock row of the
same strategy, with a 95 % interval. Writes benchmarks/results/lean-steps-MODEL.json with all raw
steps. Target: the upper end of each interval is at most 1.05. Takes a quarter of an hour for each
model, on an idle machine of two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
MOST = 1.05
MODELS = {
    "resnet50": ("torchvision:resnet50", 224),
    "efficientnet_b0": ("timm:efficientnet_b0", 224),
    "vit_small": ("timm:vit_small_patch16_224", 224),
}
SPECS = (
    "full",
    "batch-norm",
    "norm-only",
    "bias-only",
    "surgical:stages=stem",
    "first-n-stages:n=2",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS, help="only these")
    parser.add_argument("--budget", default="900", help="seconds for each; 0: the full protocol")
    parser.add_argument("--page", action="store_true", help="print the table, measure nothing")
    given = parser.parse_args()
    if given.page:
        print(as_page())
        return
    for name in given.model or MODELS:
        measure(name, given.budget)
        show(name)


def measure(name: str, budget: str) -> None:
    file = RESULTS / f"lean-steps-{name}.json"
    model, size = MODELS[name]
    refused = "batch-norm" if name == "vit_small" else None  # it has none
    specs = [word for spec in SPECS if spec != refused for word in ("-s", spec)]
    options = ["--image-size", str(size), "--lean", "both", "--budget", budget, "-o", str(file)]
    command = [sys.executable, "-m", "freezekit", "bench", model, *specs, *options]
    subprocess.run(command, check=True)


def lean_times(name: str) -> dict[str, tuple[float, float, float]]:
    """Return the measured ratio of lean to stock with its interval, by strategy."""
    file = RESULTS / f"lean-steps-{name}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    return {
        row["strategy"]: (row["time"]["ratio_to_stock"], *row["time"]["ratio_to_stock_ci"])
        for row in rows
        if row["lean"]
    }


def show(name: str) -> None:
    for strategy, (ratio, low, high) in lean_times(name).items():
        verdict = "ok" if high <= MOST else f"above {MOST}"
        print(f"{name:18}{strategy:24}{ratio:6.3f} [{low:.3f}, {high:.3f}]  {verdict}")


def as_page() -> str:
    """Return the table of the page about lean."""
    times = {name: lean_times(name) for name in MODELS}
    lines = [f"| lean / stock | {' | '.join(MODELS)} |", "|---" * (len(MODELS) + 1) + "|"]
    for spec in SPECS:
        cells = (_cell(found.get(spec)) for found in times.values())
        lines.append(f"| `{spec}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: tuple[float, float, float] | None) -> str:
    return "refused" if found is None else f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]"


if __name__ == "__main__":
    main()
