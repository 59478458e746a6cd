"""Is the verdict of `freezekit bench` right where the truth is known, on a noisy machine?

    python benchmarks/timing/coverage.py [--runs 40] [-o FILE.json]

Each run is one `freezekit bench` of `repeated_block.py` at the default budget, with two strategies:
one that changes nothing (the truth is 1) and one with which the model runs 21 equal blocks instead
of 20 (the truth is 1.05, less the little that is not blocks). Right after it the same is timed as
timm's benchmark scripts do: one configuration after the other, each in a process of its own, the
mean of 40 steps after 10 of warm-up. A run that is in the file is not repeated: Ctrl-C loses one
run at most. Writes FILE.jsonl, a line a run with all raw steps, and FILE.json, the summary;
`--runs 0` only summarises.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
MODEL = f"{HERE / 'repeated_block.py'}:build"
SAME, SLOWED = "by-name:contains=twin", "by-name:contains=more"
TRUTH = {SAME: 1.0, SLOWED: 1.05}
WARMUP, STEPS = 10, 40
Data = dict[str, Any]  # Any: JSON


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "timing-coverage.json")
    parser.add_argument("--sequential", metavar="SPEC", help=argparse.SUPPRESS)  # one process of it
    given = parser.parse_args()
    if given.sequential:
        print(json.dumps(time_alone(given.sequential)))
        return
    lines = given.out.with_suffix(".jsonl")
    for number in range(len(read(lines)), given.runs):
        run = {"run": number, **bench(number), "sequential": sequential()}
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")
        write_summary(read(lines), given.out)
    write_summary(read(lines), given.out)


def bench(number: int) -> Data:
    """Return rows, control and raw steps of one bench run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        options = ["--threads", "1", "--image-size", "32", "--batch-size", "4"]
        options += ["--seed", str(number), "-s", SAME, "-s", SLOWED, "-o", str(path)]
        started = time.monotonic()
        command = [sys.executable, "-m", "freezekit", "bench", MODEL, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        result = json.loads(path.read_text())
    return {
        "seconds": round(time.monotonic() - started, 1),
        "env": result["env"],
        "design": result["timing_design"],
        "control": result["control"],
        "times": {row["strategy"]: row["time"] for row in result["rows"]},
        "raw": result["raw"],
    }


def sequential() -> dict[str, list[float]]:
    """Return the steps of each configuration, timed one after the other."""
    found = {}
    for spec in ("full", SAME, SLOWED):
        command = [sys.executable, __file__, "--sequential", spec]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[spec] = json.loads(done.stdout)
    return found


def time_alone(spec: str) -> list[float]:
    import torch

    from freezekit.bench.workload import build
    from freezekit.results.records import Workload

    torch.set_num_threads(1)
    session = build(Workload(MODEL, batch_size=4, image_size=32), spec)
    seconds = []
    for _ in range(WARMUP + STEPS):
        started = time.perf_counter()
        session.step()
        seconds.append(time.perf_counter() - started)
    return seconds[WARMUP:]


def read(lines: Path) -> list[Data]:
    if not lines.exists():
        return []
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def write_summary(runs: list[Data], path: Path) -> None:
    if not runs:
        sys.exit("no run yet")
    found = {
        "runs": len(runs),
        "truth": TRUTH,
        "load": statistics.median(run["env"]["load_before"] for run in runs),
        "noise_floor": statistics.median(
            max(abs(end - 1) for end in run["control"]["ratio_ci"]) for run in runs
        ),
        "freezekit": {spec: in_blocks(runs, spec) for spec in TRUTH},
        "one after the other": {spec: one_by_one(runs, spec) for spec in TRUTH},
        "env": runs[-1]["env"],
    }
    text = json.dumps(found, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")
    shown = {k: v for k, v in found.items() if k != "env"}
    print(json.dumps(shown, indent=2), flush=True)
    print(f"load now {os.getloadavg()[0]:.1f}", flush=True)


def in_blocks(runs: list[Data], spec: str) -> Data:
    times = [run["times"][spec] for run in runs]
    right = "no difference shown" if TRUTH[spec] == 1 else "slower"
    return {
        **spread([time["ratio"] for time in times], TRUTH[spec]),
        "interval_misses": sum(
            not time["ratio_ci"][0] <= TRUTH[spec] <= time["ratio_ci"][1] for time in times
        ),
        "verdict_right": sum(time["verdict"] == right for time in times),
        "verdicts": {
            v: sum(t["verdict"] == v for t in times) for v in {t["verdict"] for t in times}
        },
    }


def one_by_one(runs: list[Data], spec: str) -> Data:
    """Return the spread of ratios of means, and how often Welch's test takes equals for unequal."""
    from scipy.stats import ttest_ind

    pairs = [(run["sequential"]["full"], run["sequential"][spec]) for run in runs]
    ratios = [statistics.fmean(b) / statistics.fmean(a) for a, b in pairs]
    tests = [float(ttest_ind(a, b, equal_var=False).pvalue) for a, b in pairs]
    slower = [p < 0.05 and r > 1 for p, r in zip(tests, ratios, strict=True)]
    right = sum(p >= 0.05 for p in tests) if TRUTH[spec] == 1 else sum(slower)
    return {**spread(ratios, TRUTH[spec]), "verdict_right": right}


def spread(ratios: list[float], truth: float) -> Data:
    errors = [ratio / truth - 1 for ratio in ratios]
    return {
        "rms_error": statistics.fmean(e * e for e in errors) ** 0.5,
        "worst_error": max(map(abs, errors)),
        "median": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


if __name__ == "__main__":
    main()
