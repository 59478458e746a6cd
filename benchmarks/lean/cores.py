"""What lean costs with each of its cores: steps of stock, the core in Python and the native one.

    python -m benchmarks.lean.cores [--only PATTERN] [--fresh]
    python -m benchmarks.lean.cores --page    # the tables of the page about lean

Two sets of cases. `overhead`: small images, so that kernels cost little, and what is left is the
cost of lean's own calls. `step`: images of a usual size, where packing costs too. One thread; CPU
time, which other processes disturb less than the clock. All three arms are copies of one model in
one process and take turns in random order. A score is the median over the rounds of a block; blocks
build the models anew. The interval is a t-interval of the logarithms of the blocks' scores.

Each case is a process and a line in results/lean-cores.jsonl; the same command goes on where it
stopped.
"""

from __future__ import annotations

import copy
import json
import random
import statistics
import subprocess
import sys
import time
import warnings
from fnmatch import fnmatch
from math import exp, log
from pathlib import Path

import click
import torch
from scipy import stats

from benchmarks.lean.records import code_digest

FILE = Path(__file__).parents[1] / "results" / "lean-cores.jsonl"
ARMS = "stock", "python", "native"
SPECS = "full", "batch-norm", "norm-only", "bias-only", "surgical:stages=stem"
CASES = {
    "overhead": {
        "torchvision:resnet50": (64, 1),
        "timm:efficientnet_b0": (64, 1),
        "timm:mobilenetv3_large_100": (64, 1),
        "timm:vit_small_patch16_224": (224, 1),
    },
    "step": {
        "torchvision:resnet50": (160, 4),
        "timm:efficientnet_b0": (224, 4),
        "timm:mobilenetv3_large_100": (224, 4),
        "timm:vit_small_patch16_224": (224, 2),
    },
}
BLOCKS, ROUNDS, WARM = 4, {"overhead": 8, "step": 4}, 3


@click.command(help=__doc__)
@click.option("--only", default="*", metavar="PATTERN", help="Cases such as 'step *resnet50*'.")
@click.option("--fresh", is_flag=True, help="Start again, whatever the file holds.")
@click.option("--page", is_flag=True, help="Print the tables; measure nothing.")
@click.option("--one", hidden=True, nargs=3)
def main(only: str, fresh: bool, page: bool, one: tuple[str, str, str] | None) -> None:
    if one:
        print(json.dumps(measure(*one)))
        return
    if page:
        print(as_page())
        return
    if fresh:
        FILE.unlink(missing_ok=True)
    digest = code_digest()
    done = {key(line) for line in lines() if line["code"] == digest}
    for kind, models in CASES.items():
        for model in models:
            for spec in SPECS:
                if spec == "batch-norm" and "vit" in model:
                    continue  # it has none
                if (kind, model, spec) in done or not fnmatch(f"{kind} {model} {spec}", only):
                    continue
                line = in_process(kind, model, spec) | {"code": digest}
                with FILE.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                both = " -> ".join(told(line, arm) for arm in ARMS[1:])
                print(f"{kind} {model} {spec}: {both}", flush=True)


def in_process(*case: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.lean.cores", "--one", *case]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout)


def lines() -> list[dict]:
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []


def key(line: dict) -> tuple[str, str, str]:
    return line["kind"], line["model"], line["strategy"]


def measure(kind: str, name: str, spec: str) -> dict:
    from freezekit import load_backbone

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    size, batch = CASES[kind][name]
    torch.manual_seed(0)
    base = load_backbone(name)
    x = torch.randn(batch, 3, size, size)
    blocks = [block(base, spec, x, ROUNDS[kind]) for _ in range(BLOCKS)]
    result = {"kind": kind, "model": name, "strategy": spec, "size": size, "batch": batch}
    result["stock_seconds"] = statistics.median(s for b in blocks for s in b["stock"])
    for arm in ARMS[1:]:
        scores = [
            statistics.median(log(a / b) for a, b in zip(each[arm], each["stock"], strict=True))
            for each in blocks
        ]
        half = stats.t.ppf(0.975, BLOCKS - 1) * statistics.stdev(scores) / BLOCKS**0.5
        mean = statistics.mean(scores)
        result[arm] = [round(exp(v), 4) for v in (mean, mean - half, mean + half)]
    return result | {"equal_bits": all(b["equal"] for b in blocks), "seconds": blocks}


def block(base: torch.nn.Module, spec: str, x: torch.Tensor, rounds: int) -> dict:
    """Build the three arms anew and let them take turns; return the seconds of each step."""
    from freezekit import freeze_
    from freezekit.lean.native import core as cores

    cores._choice.clear()
    cores.prepare_core()
    native = cores.native_core()
    assert native is not None, cores.core_in_use()
    models = {}
    for arm in random.sample(ARMS, len(ARMS)):
        models[arm] = copy.deepcopy(base)
        freeze_(models[arm], spec, lean=arm != "stock")
        models[arm].train()

    def step(arm: str) -> float:
        cores._choice[:] = [(native if arm == "native" else None, "a benchmark")]
        models[arm].zero_grad()
        torch.manual_seed(1)
        start = time.process_time()
        models[arm](x).square().mean().backward()
        return time.process_time() - start

    for arm in ARMS:
        for _ in range(WARM):
            step(arm)
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(rounds):
        for arm in random.sample(ARMS, len(ARMS)):
            step(arm)  # not counted: caches hold another model
            seconds[arm].append(round(step(arm), 6))
    grads = {a: [p.grad for p in m.parameters() if p.grad is not None] for a, m in models.items()}
    equal = all(
        torch.equal(a, b)
        for arm in ARMS[1:]
        for a, b in zip(grads[arm], grads["stock"], strict=True)
    )
    return seconds | {"equal": equal}


def told(line: dict, arm: str) -> str:
    ratio, low, high = line[arm]
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}]"


def short(model: str) -> str:
    return model.partition(":")[2].partition("_patch")[0]


def as_page() -> str:
    """Return a table for each set of cases, in Markdown."""
    found = {key(line): line for line in lines()}
    tables = []
    for kind, models in CASES.items():
        heads = [f"{short(m)}, {size} px, batch {count}" for m, (size, count) in models.items()]
        rows = [f"| {kind} | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for spec in SPECS:
            cells = []
            for model in models:
                line = found.get((kind, model, spec))
                cells.append(f"{line['python'][0]:.2f} -> {told(line, 'native')}" if line else "-")
            rows.append(f"| `{spec}` | " + " | ".join(cells) + " |")
        tables.append("\n".join(rows))
    return "\n\n".join(tables)


if __name__ == "__main__":
    main()
