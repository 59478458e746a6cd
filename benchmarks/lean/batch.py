"""The largest batch that trains in a fixed memory, lean against stock.

    python -m benchmarks.lean.batch [--model NAME]... [--out FILE.json]

By the peak of live storages under fake tensors, for 4 and 8 GiB: the peak is nearly a straight line
in the batch, so that the line through two batches is followed, and what it promises is counted,
until one batch fits and the next does not. Both of these are in the result. What the allocator
needs besides, workspace and rounding, is left out, for lean and stock alike.

One prediction for each model is held against a real step of the lean model at a small batch: the
tracker must see the same peak. About 30 minutes on a core. Exits with 1 where a check fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.lean.cases import MODELS
from benchmarks.lean.records import environment
from benchmarks.lean.sessions import fake_session, real_session
from freezekit.bench.memory import traced_memory
from freezekit.errors import FreezekitError

if TYPE_CHECKING:
    from collections.abc import Callable

OUT = Path(__file__).parents[1] / "results" / "lean-batch.json"
NAMES = "resnet50", "efficientnet_b0", "vit_small_patch16_224", "swin_tiny_patch4_window7_224"
SPECS = "full", "batch-norm", "norm-only", "bias-only", "surgical:stages=stem"
GIB = 2**30
LIMITS = 4 * GIB, 8 * GIB
FIRST_TRIED = 8, 32
CHECKED_SPEC, CHECKED_BATCH = "bias-only", 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=NAMES, help="these alone")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of strategies, that little is frozen
    result: dict[str, Any] = {"environment": environment(), "rows": [], "checks": []}
    for model in given.model or NAMES:
        result["checks"].append(real_peak(model))
        print(result["checks"][-1], flush=True)
        for spec in SPECS:
            result["rows"].append(row(model, spec))
            print(as_line(result["rows"][-1]), flush=True)
            given.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(not all(check["agrees"] for check in result["checks"]))


def row(model: str, spec: str) -> dict[str, Any]:
    """Find the largest batches of one model under one spec."""
    columns: dict[str, Any] = {}
    for column in ("stock", "lean"):
        peak = cache(lambda batch, lean=column == "lean": peak_bytes(model, spec, batch, lean=lean))
        try:
            columns[column] = {str(limit): largest_batch(peak, limit) for limit in LIMITS}
        except FreezekitError as error:
            return {"model": model, "strategy": spec, "status": "refused", "error": str(error)}
        except Exception as error:  # noqa: BLE001  # a fault of lean is a row, not the end
            columns[column] = {"error": f"{type(error).__name__}: {error}"[:300]}
    return {"model": model, "strategy": spec, "status": "ok", **columns}


def largest_batch(peak: Callable[[int], int], limit: int) -> dict[str, int]:
    """Return the largest batch whose peak is within a limit, and both peaks around it.

    Args:
        peak: From a batch size to bytes; grows with it.
        limit: In bytes.

    Example:
        >>> largest_batch(lambda batch: 100 + 7 * batch, 1000)
        {'batch': 128, 'peak_bytes': 996, 'next_peak_bytes': 1003}
    """
    tried = {batch: peak(batch) for batch in FIRST_TRIED}
    while True:
        fits = max((batch for batch, size in tried.items() if size <= limit), default=0)
        over = min((batch for batch, size in tried.items() if size > limit), default=None)
        if over == fits + 1:
            return {"batch": fits, "peak_bytes": tried.get(fits, 0), "next_peak_bytes": tried[over]}
        guess = max(_on_the_line(tried, limit), fits + 1)
        guess = guess if over is None else min(guess, over - 1)
        tried[guess] = peak(guess)


def _on_the_line(tried: dict[int, int], limit: int) -> int:
    """Return the batch that meets the limit on the line through the two that are nearest to it."""
    (one, low), (other, high) = sorted(tried.items(), key=lambda item: abs(item[1] - limit))[:2]
    return one + int((limit - low) * (other - one) // (high - low))


def peak_bytes(model: str, spec: str, batch: int, *, lean: bool) -> int:
    workload = dataclasses.replace(MODELS[model], batch_size=batch)
    with fake_session(workload, spec, lean=lean) as session:
        memory, _ = traced_memory(session)
    assert memory.tracker_peak_bytes
    return memory.tracker_peak_bytes


def real_peak(model: str) -> dict[str, Any]:
    """Hold a predicted peak of a lean model against the one that its real step has."""
    predicted = measured = None
    try:
        predicted = peak_bytes(model, CHECKED_SPEC, CHECKED_BATCH, lean=True)
        workload = dataclasses.replace(MODELS[model], batch_size=CHECKED_BATCH)
        memory, _ = traced_memory(real_session(workload, CHECKED_SPEC, lean=True))
        measured = memory.tracker_peak_bytes
    except Exception as error:  # noqa: BLE001  # a fault of lean is a check that fails
        return {"model": model, "agrees": False, "error": f"{type(error).__name__}: {error}"[:300]}
    return {
        "model": model,
        "strategy": CHECKED_SPEC,
        "batch": CHECKED_BATCH,
        "predicted_peak_bytes": predicted,
        "measured_peak_bytes": measured,
        "agrees": measured is not None and abs(measured / predicted - 1) < 1e-3,
    }


def as_line(row: dict[str, Any]) -> str:
    start = f"{row['model']:30}{row['strategy']:24}"
    if row["status"] != "ok":
        return start + row["error"]
    cells = []
    for limit in map(str, LIMITS):
        batches = [row[c].get(limit, {}).get("batch", "failed") for c in ("stock", "lean")]
        cells.append(f"{int(limit) // GIB} GiB: {batches[0]:>6} -> {batches[1]:>6}")
    return start + "   ".join(cells)


if __name__ == "__main__":
    main()
