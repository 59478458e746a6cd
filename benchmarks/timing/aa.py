"""A/A: how often does the 95 % interval of a step-time ratio miss 1, where the truth is 1?

    python benchmarks/timing/aa.py

Each run is a process of its own, as in `freezekit bench`, and times `full` under several names; the
names make disjoint pairs, each a trial with a baseline and a copy of its own, judged beside the
run's control. At rest, some 70 seconds a run; a run that is in the file is not repeated,
so that Ctrl-C loses one run at most. Writes, to benchmarks/results/: FILE.jsonl (a line a run:
environment and every raw step) and FILE.json (the summary). `--runs 0` only summarises what there
is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from freezekit.bench.design import WARMUP_STEPS, Design, load_warning
from freezekit.bench.processes import PINNED_ALLOCATOR
from freezekit.bench.statistics import append_block, summarise
from freezekit.results.records import Raw, Workload
from freezekit.results.variant import Variant

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    args = arguments()
    if args.seed is None:
        measure(args)
    else:
        work(args)


def measure(args: argparse.Namespace) -> None:
    """Run what is missing, and write the summary after each run."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.with_suffix(".jsonl")
    runs = read_runs(lines)
    wanted = {
        "workload": to_builtins(workload(args)),
        "design": design(args).record(),
        "pairs": args.pairs,
        "threads": args.threads,
    }
    if any(run["settings"] != wanted for run in runs):
        sys.exit(f"{lines} was made with other settings; choose another -o")
    cores = len(os.sched_getaffinity(0))
    print(load_warning(args.threads, os.getloadavg()[0], cores) or "the machine is at rest")
    for seed in range(len(runs), args.runs):
        started = time.monotonic()
        load_before = os.getloadavg()
        raw = run_once(seed)
        run = {
            "seed": seed,
            "settings": wanted,
            "env": environment(args),
            "load": [load_before, os.getloadavg()],
            "seconds": round(time.monotonic() - started, 1),
            "raw": to_builtins(raw),
        }
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")
        runs.append(run)
        found = summary(runs, args.pairs)
        print(
            f"\rrun {seed + 1} of {args.runs}, {run['seconds']:.0f} s: {found['missed']} of "
            f"{found['trials']} intervals miss 1, rms error {found['rms_error']:.1%}",
            flush=True,
        )
    if not runs:
        sys.exit(f"nothing in {lines}")
    found = summary(runs, args.pairs) | {"settings": wanted, "env": runs[-1]["env"]}
    args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in found.items() if k not in ("settings", "env")}, indent=2))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=4, help="trials in a run")
    parser.add_argument("--model", default="torchvision:resnet18")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=Design.blocks)
    parser.add_argument("--rounds", type=int, default=Design.rounds)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "timing-aa-resnet18-cpu.json")
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)  # the worker of one run
    return parser.parse_args()


def workload(args: argparse.Namespace) -> Workload:
    return Workload(
        args.model, batch_size=args.batch_size, image_size=args.image_size, device=args.device
    )


def design(args: argparse.Namespace) -> Design:
    return Design(blocks=args.blocks, rounds=args.rounds, warmup=WARMUP_STEPS[args.device])


def pairs(count: int) -> list[tuple[str, str]]:
    return [(f"a{i}", f"b{i}") for i in range(count)]


def work(args: argparse.Namespace) -> None:
    """Be the worker of one run: events on stdout."""
    import torch

    from freezekit.bench.timing import run_timing

    torch.set_num_threads(args.threads)
    variants = {label: Variant("full") for pair in pairs(args.pairs) for label in pair}
    for event in run_timing(workload(args), variants, design=design(args), seed=args.seed):
        print(json.dumps(event), flush=True)


def run_once(seed: int) -> Raw:
    """Run a worker, show its progress, and return its raw steps."""
    command = [sys.executable, __file__, *sys.argv[1:], "--seed", str(seed)]
    environ = os.environ | PINNED_ALLOCATOR
    raw = Raw()
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert worker.stdout is not None
    for line in worker.stdout:
        event = json.loads(line)
        if event["event"] == "block":
            raw = append_block(raw, event)
        elif event["event"] == "progress":
            print(f"\rrun {seed + 1}: turn {event['done']} of {event['total']}  ", end="")
        elif event["event"] == "failed":
            worker.kill()
            sys.exit(f"\n{event['label']}: {event['error']}")
    if worker.wait():
        sys.exit(f"\nthe worker ended with code {worker.returncode}")
    return raw


def read_runs(lines: Path) -> list[dict[str, Any]]:  # Any: JSON
    if not lines.exists():
        return []
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def summary(runs: list[dict[str, Any]], count: int) -> dict[str, Any]:  # Any: JSON
    """Return what the trials say, the protocol's intervals beside flat ones over all steps."""
    ratios, widths, missed, claims, flat = [], [], 0, 0, 0
    for run in runs:
        raw = Raw(**run["raw"])
        for baseline, copy in pairs(count):
            found = summarise(raw, [baseline, copy]).times[copy]
            low, high = found.ratio_ci
            ratios.append(found.ratio)
            widths.append(math.log(high / low) / 2)
            missed += not low <= 1 <= high
            claims += found.verdict != "no difference shown"
            flat += flat_interval_misses(raw, baseline, copy)
    trials = len(ratios)
    return {
        "trials": trials,
        "runs": len(runs),
        "missed": missed,
        "missed_fraction": missed / trials,
        "missed_fraction_ci": proportion_ci(missed, trials),
        "claimed_different": claims,
        "rms_error": math.sqrt(statistics.fmean((r - 1) ** 2 for r in ratios)),
        "worst_error": max(abs(r - 1) for r in ratios),
        "median_half_width": statistics.median(widths),
        "flat_intervals_missed": flat,
        "ratios": ratios,
        "seconds": sum(run["seconds"] for run in runs),
    }


def flat_interval_misses(raw: Raw, baseline: str, copy: str) -> bool:
    """Take every pair of steps for independent, as a test on pooled steps does."""
    logs = [
        math.log(b / a)
        for rounds in raw.steps
        for turns in rounds
        for a, b in zip(turns[baseline][1:], turns[copy][1:], strict=True)
    ]
    half = 1.96 * statistics.stdev(logs) / math.sqrt(len(logs))
    return abs(statistics.fmean(logs)) > half


def proportion_ci(hits: int, trials: int) -> list[float]:
    from scipy.stats import binomtest

    interval = binomtest(hits, trials).proportion_ci(0.95, "wilson")
    return [interval.low, interval.high]


def environment(args: argparse.Namespace) -> dict[str, Any]:  # Any: facts
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "timm")},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": args.threads,
        "device": args.device,
        "allocator": PINNED_ALLOCATOR,
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
