"""Is `freezekit fit`'s batch the one that really fits?

    python -m benchmarks.fit [--at-once 2] [--only MODEL] [-o FILE.json]

Eight models by four strategies at 64 px. The memory of a case is chosen so that its batch lies
between 4 and 64: the predicted peak of a batch drawn from there, and a drawn share of the way to
the next batch's, so that no case sits on a boundary by design. The truth is found by bisection over
real steps between a batch of 2 and twice the drawn one, without asking `fit`: each in a fresh
process, its peak by the allocator's own events. Then the batch that `fit` answered and the next one
are run too, so that a peak that does not grow with the batch would show.

Real peaks are kept in the file by model, strategy and batch, and not measured again: Ctrl-C loses
one step at most. `--predict` asks `fit` anew and measures only what that makes necessary.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.facts import environment, write_whole
from freezekit.bench.processes import Workers, job_for
from freezekit.fit.run import FitOptions, FitRun
from freezekit.results.records import Workload
from freezekit.results.variant import Variant

OUT = Path(__file__).parent / "results" / "fit.json"
MODELS = (
    "torchvision:resnet18",
    "torchvision:resnet50",
    "torchvision:mobilenet_v3_small",
    "torchvision:efficientnet_b0",
    "torchvision:densenet121",
    "timm:regnety_002",
    "timm:convnext_atto",
    "timm:vit_tiny_patch16_224",
)
VARIANTS = (
    Variant("full"),
    Variant("head-only"),
    Variant("first-n-stages:n=2"),
    Variant("bias-only", lean=True),
)
LEAST, MOST, PIXELS = 4, 64, 64
Data = dict[str, Any]  # Any: JSON


class File:
    """The result file, written whole after each step."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        known = json.loads(path.read_text()) if path.exists() else {}
        self.cases: dict[str, Data] = known.get("cases", {})

    def case(self, name: str) -> Data:
        """Return what is known of a case, to be added to."""
        return self.cases.setdefault(name, {"real": {}})

    def write(self) -> None:
        """Write all cases, or leave what was there."""
        with self._lock:
            data = {"environment": environment(), "summary": summary(self.cases)}
            data["cases"] = dict(sorted(self.cases.items()))
            write_whole(self._path, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--at-once", type=int, default=2, help="processes")
    parser.add_argument("--only", action="append", choices=MODELS, help="these models alone")
    parser.add_argument("--predict", action="store_true", help="ask `fit` anew")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    given = parser.parse_args()
    file = File(given.out)
    cases = [(m, v) for m in given.only or MODELS for v in VARIANTS]
    with Workers() as workers, ThreadPoolExecutor(given.at_once) as pool:
        for line in pool.map(lambda case: run(*case, file, workers, given.predict), cases):
            print(line, flush=True)
    print(json.dumps(summary(file.cases), indent=1))


def run(model: str, variant: Variant, file: File, workers: Workers, predict: bool) -> str:
    """Do what is left to do of a case; return a line on it."""
    name = f"{model} {variant.label}"
    case = file.case(name)
    workload = Workload(model, image_size=PIXELS)

    def real(batch: int) -> int | None:
        if str(batch) not in case["real"]:
            case["real"][str(batch)] = measured(workload, variant, batch, workers)
            file.write()
        return case["real"][str(batch)].get("peak_bytes")

    if "memory_bytes" not in case:
        case.update(draw(workload, variant, name))
    limit = case["memory_bytes"]
    if "error" in case:
        return f"{name}: {case['error']}"
    if "truth" not in case:
        case["truth"] = bisect(real, limit, 2, 2 * case["drawn_batch"])
    if predict or "fit" not in case:
        case["fit"] = ask(workload, variant, limit)
    answer = case["fit"].get("batch_size")
    for batch in (answer, answer + 1) if answer else ():
        real(batch)
    case["verdict"] = verdict(case)
    file.write()
    return f"{name}: fit {answer}, truth {case['truth']}: {case['verdict']}"


def draw(workload: Workload, variant: Variant, name: str) -> Data:
    """Choose the memory of a case."""
    drawn = random.Random(name)
    batch = round(math.exp(drawn.uniform(math.log(LEAST), math.log(MOST))))
    peaks = [asked(workload, variant, batch + more) for more in (0, 1)]
    if None in peaks:
        return {"memory_bytes": 0, "error": "no prediction"}
    low, high = peaks
    return {"drawn_batch": batch, "memory_bytes": low + int(drawn.random() * (high - low))}


def asked(workload: Workload, variant: Variant, batch: int) -> int | None:
    how = FitOptions((variant,), 2**40, batch_size=batch, threads=1)
    (row,) = FitRun(workload, how, lambda _: None).find().rows
    return row.memory.peak_bytes


def ask(workload: Workload, variant: Variant, limit: int) -> Data:
    """Return what `fit` says, and how long it took."""
    start = time.monotonic()
    asking = FitRun(workload, FitOptions((variant,), limit, threads=1), lambda _: None)
    (row,) = asking.find().rows
    seconds = round(time.monotonic() - start, 1)
    return {**msgspec.to_builtins(row), "margin": asking.result.margin, "seconds": seconds}


def bisect(real: Any, limit: int, fits: int, over: int) -> int | None:  # Any: a function
    """Return the largest batch whose real peak is within the limit; 1 where not even two are."""
    if (real(fits) or math.inf) > limit:
        return 1
    while (real(over) or math.inf) <= limit:
        fits, over = over, 2 * over
    while over - fits > 1:
        middle = (fits + over) // 2
        fits, over = (middle, over) if (real(middle) or math.inf) <= limit else (fits, middle)
    return fits


def measured(workload: Workload, variant: Variant, batch: int, workers: Workers) -> Data:
    job = job_for("memory", msgspec.structs.replace(workload, batch_size=batch), [variant], (), 1)
    for event in workers.events(job):
        if event["event"] == "memory":
            names = ("peak_bytes", "tracker_peak_bytes", "workspace_bytes", "process_bytes")
            return {name: event["memory"][name] for name in names}
        return {"error": event["error"]}
    return {"error": "the process said nothing"}


def verdict(case: Data) -> str:
    answer, truth = case["fit"].get("batch_size"), case["truth"]
    if answer is None:
        return "failed"
    if answer > truth:
        return "too large"
    return {0: "exact", 1: "one below"}.get(truth - answer, "further below")


def summary(cases: dict[str, Data]) -> Data:
    done = [case for case in cases.values() if "verdict" in case]
    shares = [
        step["workspace_bytes"] / step["tracker_peak_bytes"]
        for case in cases.values()
        for step in case["real"].values()
        if "peak_bytes" in step
    ]
    errors = [
        case["real"][str(batch)]["peak_bytes"] / predicted - 1
        for case in done
        if (batch := case["fit"].get("batch_size"))
        and (predicted := case["fit"]["memory"]["peak_bytes"])
        and "peak_bytes" in case["real"][str(batch)]
    ]
    counts = collections.Counter(case["verdict"] for case in done)
    lean = [c["verdict"] for n, c in cases.items() if "verdict" in c and n.endswith("[lean]")]
    seconds = [case["fit"]["seconds"] for case in done]
    return {
        "cases": len(done),
        **dict(sorted(counts.items())),
        "of_lean": dict(collections.Counter(lean)),
        "seconds_median": statistics.median(seconds) if seconds else None,
        "workspace_of_the_peak": spread(shares),
        "real_over_predicted_less_one": spread(errors),
    }


def spread(values: list[float]) -> Data | None:
    if not values:
        return None
    return {"least": min(values), "median": statistics.median(values), "most": max(values)}


if __name__ == "__main__":
    main()
