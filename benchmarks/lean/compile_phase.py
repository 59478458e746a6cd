"""The compile phase of `table.py`: one process per case; known results are not computed again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.lean.cases import COMPILED_SPECS, MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.lean.records import Records

LIMIT_SECONDS = 900
# On the CPU, inductor copies weights and inputs of convolutions to another layout, and keeps both.
CHECKS = {
    "aot_eager_decomp_partition": {},
    "inductor": {},
    "inductor, layouts as they are": {"TORCHINDUCTOR_LAYOUT_OPTIMIZATION": "0"},
}
CHECKED = "resnet18"


def compile_all(records: Records, models: Iterable[str] = MODELS, *, fresh: bool = False) -> None:
    """Compile every case that has no figures yet, and write each when it is known."""
    for model in models:
        for name in COMPILED_SPECS:
            if not fresh and "compiled" in records.row(model, name):
                continue
            figures = case(model, name)
            records.put(model, name, compiled=figures)
            print(f"{model:32}{name:28}{figures}", flush=True)
    if fresh or not records.read()["inductor"]:
        records.put_apart("inductor", check_inductor())


def check_inductor() -> list[dict[str, Any]]:
    """Compare the backend of `compiled.py` with inductor itself, on one small model."""
    rows = []
    for name in ("full", "batch-norm", "surgical:stages=stem"):
        for label, settings in CHECKS.items():
            figures = case(CHECKED, name, label.partition(",")[0], settings)
            rows.append({"model": CHECKED, "strategy": name, "backend_as": label, **figures})
            print(f"{CHECKED:32}{name:28}{label}: {figures}", flush=True)
    return rows


def case(
    model: str, name: str, backend: str | None = None, settings: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run one case in its own process; a process that dies gives an error row."""
    command = [sys.executable, "-m", "benchmarks.lean.compiled", model, name]
    command += ["--backend", backend] if backend else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(settings or {})}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": f"more than {LIMIT_SECONDS} seconds"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["died"])[-1][:300]}
    return json.loads(lines[-1])  # type: ignore[no-any-return]
