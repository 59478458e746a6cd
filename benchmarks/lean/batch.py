"""The largest batch that trains in a fixed memory, lean against stock.

    python -m benchmarks.lean.batch [--model NAME]... [--out FILE.json]
    python -m benchmarks.lean.batch --page       # the tables of the page about lean

The peak is that of live storages under fake tensors. The search is that of `freezekit fit`, for 4
and 8 GiB. The result holds the batch that fits and the next one, which does not fit. Workspace and
rounding of the allocator are left out, for lean and stock alike.

For each model, one prediction is compared with a real step of the lean model at a small batch: the
tracker must see the same peak. About 30 minutes on one core. The exit code is 1 where a check
fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from benchmarks.facts import environment
from benchmarks.lean.cases import MODELS
from benchmarks.lean.sessions import fake_session, real_session
from freezekit.bench.memory import traced_memory
from freezekit.errors import FreezekitError
from freezekit.fit.search import largest_batch

if TYPE_CHECKING:
    from collections.abc import Callable

OUT = Path(__file__).parents[1] / "results" / "lean-batch.json"
NAMES = "resnet50", "efficientnet_b0", "vit_small_patch16_224", "swin_tiny_patch4_window7_224"
SPECS = "full", "batch-norm", "norm-only", "bias-only", "surgical:stages=stem"
GIB = 2**30
LIMITS = 4 * GIB, 8 * GIB
CHECKED_SPEC, CHECKED_BATCH = "bias-only", 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=NAMES, help="only these")
    parser.add_argument("--page", action="store_true", help="print the table, search nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.page:
        print(as_page())
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # strategies warn that little is frozen
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
            columns[column] = {str(limit): around(peak, limit) for limit in LIMITS}
        except FreezekitError as error:
            return {"model": model, "strategy": spec, "status": "refused", "error": str(error)}
        except Exception as error:  # noqa: BLE001  # an error in lean becomes a row
            columns[column] = {"error": f"{type(error).__name__}: {error}"[:300]}
    return {"model": model, "strategy": spec, "status": "ok", **columns}


def around(peak: Callable[[int], int], limit: int) -> dict[str, int | None]:
    """Return the largest batch whose peak is within a limit, and both peaks around it.

    Args:
        peak: From a batch size to bytes; cached.
        limit: In bytes.

    Example:
        >>> around(lambda batch: 100 + 7 * batch, 1000)
        {'batch': 128, 'peak_bytes': 996, 'next_peak_bytes': 1003}
    """
    found = largest_batch(peak, limit)
    peak_at = peak(found.batch) if found.batch else 0
    return {
        "batch": found.batch,
        "peak_bytes": peak_at,
        "next_peak_bytes": found.next_peak_bytes,
    }


def peak_bytes(model: str, spec: str, batch: int, *, lean: bool) -> int:
    workload = msgspec.structs.replace(MODELS[model], batch_size=batch)
    with fake_session(workload, spec, lean=lean) as session:
        memory, _ = traced_memory(session)
    assert memory.tracker_peak_bytes
    return memory.tracker_peak_bytes


def real_peak(model: str) -> dict[str, Any]:
    """Compare the predicted peak of a lean model with the peak of its real step."""
    predicted = measured = None
    try:
        predicted = peak_bytes(model, CHECKED_SPEC, CHECKED_BATCH, lean=True)
        workload = msgspec.structs.replace(MODELS[model], batch_size=CHECKED_BATCH)
        memory, _ = traced_memory(real_session(workload, CHECKED_SPEC, lean=True))
        measured = memory.tracker_peak_bytes
    except Exception as error:  # noqa: BLE001  # an error in lean fails the check
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


def as_page() -> str:
    """Return the table of the page about lean."""
    heads = (f"stock, {limit // GIB} GiB | lean" for limit in LIMITS)
    lines = [f"| model | strategy | {' | '.join(heads)} |", "|---|---" + "|---:|---:" * 2 + "|"]
    for row in json.loads(OUT.read_text())["rows"]:
        if row["status"] == "ok":
            cells = (row[c][str(limit)]["batch"] for limit in LIMITS for c in ("stock", "lean"))
            start = f"| {row['model']} | `{row['strategy']}` | "
            lines.append(start + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
