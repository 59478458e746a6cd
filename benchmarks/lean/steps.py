"""What lean costs: step times of lean against stock, in one interleaved run for each model.

    python -m benchmarks.lean.steps [--model NAME]... [--budget SECONDS]

Runs `freezekit bench MODEL -s SPEC... --lean both`, whose rows carry the ratio to the stock row of
the same strategy with its 95 % interval, and writes benchmarks/results/lean-steps-MODEL.json with
all raw steps. To reach: the upper end of each interval at most 1.05. On a quiet machine, without a
budget: some ten minutes for each model on two cores.
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
    parser.add_argument("--model", action="append", choices=MODELS, help="these alone")
    parser.add_argument("--budget", default="0", help="seconds for each; 0: the full protocol")
    given = parser.parse_args()
    for name in given.model or MODELS:
        file = RESULTS / f"lean-steps-{name}.json"
        measure(name, file, given.budget)
        show(name, file)


def measure(name: str, file: Path, budget: str) -> None:
    model, size = MODELS[name]
    refused = "batch-norm" if name == "vit_small" else None  # it has none
    specs = [word for spec in SPECS if spec != refused for word in ("-s", spec)]
    options = ["--image-size", str(size), "--lean", "both", "--budget", budget, "-o", str(file)]
    command = [sys.executable, "-m", "freezekit", "bench", model, *specs, *options]
    subprocess.run(command, check=True)


def show(name: str, file: Path) -> None:
    result = json.loads(file.read_text())
    for row in result["rows"]:
        if not row["lean"]:
            continue
        time = row["time"]
        low, high = time["ratio_to_stock_ci"]
        verdict = "ok" if high <= MOST else f"above {MOST}"
        print(
            f"{name:18}{row['strategy']:24}{time['ratio_to_stock']:6.3f}"
            f" [{low:.3f}, {high:.3f}]  {verdict}"
        )


if __name__ == "__main__":
    main()
