"""What lean saves: eight models under every strategy, with stock PyTorch, a bound, and other ways.

    python -m benchmarks.lean.table [--model NAME]... [--fresh]    the static part
    python -m benchmarks.lean.table --compile [--fresh]            what torch.compile keeps
    python -m benchmarks.lean.table --markdown                     all tables, nothing counted
    python -m benchmarks.lean.table --page                         those of the page about lean

The static part is deterministic, under fake tensors. It counts saved activations and peak in stock
PyTorch, with `lean=True` and with `FrozenBatchNorm2d` (`frozen_batch_norm.py`), and the least that
the backward formulas need (`bound.py`). A row that the present code has counted is not counted
again. About 20 minutes on one core.

The compile phase runs each case in its own process, with the min-cut partitioner that inductor uses
(`compiled.py`). Its results depend on torch alone, so that known ones are not computed again. About
40 minutes on one core.

Both write benchmarks/results/lean-memory.json row by row, and may run at the same time. The exit
code is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.lean.bound import bound_of
from benchmarks.lean.cases import MODELS, SPECS
from benchmarks.lean.compile_phase import compile_all
from benchmarks.lean.frozen_batch_norm import frozen_batch_norm
from benchmarks.lean.records import OUT, Records, code_digest
from benchmarks.lean.sessions import fake_session
from benchmarks.lean.show import as_line, as_markdown, as_page
from benchmarks.lean.targets import checked
from freezekit.bench.memory import traced_memory
from freezekit.errors import FreezekitError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.results.records import Memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS, help="only these")
    parser.add_argument("--compile", action="store_true", help="the compile phase instead")
    parser.add_argument("--fresh", action="store_true", help="count known rows again")
    parser.add_argument("--markdown", action="store_true", help="print a table for each model")
    parser.add_argument("--page", action="store_true", help="print those of the page about lean")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # strategies warn that little is frozen
    records, models = Records(given.out), given.model or MODELS
    if given.markdown or given.page:
        print((as_page if given.page else as_markdown)(records.read()["rows"]))
        return
    if given.compile:
        compile_all(records, models, fresh=given.fresh)
    else:
        count_all(records, models, fresh=given.fresh)
    rows = records.read()["rows"]
    for row in rows:
        print(as_line(row))
    missed = 0
    for label, verdict in checked(rows):
        missed += verdict.startswith("MISSED")
        print(f"{label:76}{verdict}")
    sys.exit(bool(missed))


def count_all(records: Records, models: Iterable[str], *, fresh: bool = False) -> None:
    """Count the static part of each row that the present code has not counted, and write it."""
    code = code_digest()
    for model in models:
        for name in SPECS:
            row = records.row(model, name)
            if fresh or row.get("code") != code:
                row = records.put(model, name, code=code, **static_row(model, row["spec"]))
                print(as_line(row), flush=True)


def static_row(model: str, spec: str) -> dict[str, Any]:
    """Count one model under one spec; a model that refuses the strategy says so."""
    workload = MODELS[model]
    try:
        with fake_session(workload, spec) as session:
            shape = session.workload.input_shape
            stock, _ = traced_memory(session)
            bound = bound_of(session)
    except FreezekitError as error:
        return {"status": "refused", "error": str(error)}
    return {
        "status": "ok",
        "input_shape": shape,
        "stock": _figures(stock),
        "lean": _lean(model, spec),
        "bound_bytes": bound.bytes,
        "bound_of": dict(bound.kept.most_common()),
        "frozen_batch_norm": frozen_batch_norm(workload, spec),
    }


def _lean(model: str, spec: str) -> dict[str, Any]:
    try:
        with fake_session(MODELS[model], spec, lean=True) as session:
            memory, _ = traced_memory(session)
    except Exception as error:  # noqa: BLE001  # an error in lean becomes a row
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return _figures(memory)


def _figures(memory: Memory) -> dict[str, Any]:
    return {
        "saved_activations_bytes": memory.saved_activations_bytes,
        "peak_bytes": memory.tracker_peak_bytes,
    }


if __name__ == "__main__":
    main()
