"""`--compile` of bench, fit and verify, as a person runs it. To compile takes seconds a row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Invoke = Callable[..., subprocess.CompletedProcess[str]]

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.body, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)
    def forward(self, x):
        x = torch.relu(self.bn(self.stem(x)))
        return self.head(torch.relu(self.body(x)).mean((2, 3)))
"""
SIZE = ("--image-size", "48", "--batch-size", "2")
SPEC = "by-name:regex=^(body|bn)"


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(MODEL)
    return f"{path}:Net"


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "freezekit", *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80", **env},
    )


def rows(path: Path) -> dict[tuple[bool, bool], dict[str, Any]]:
    found = json.loads(path.read_text())["rows"]
    return {(row["lean"], row["compiled"]): row for row in found}


@pytest.mark.slow
def test_a_whole_run_of_eager_and_compiled_rows(tmp_path: Path, model: str) -> None:
    out, page = tmp_path / "r.json", tmp_path / "r.html"
    both = ("--lean", "both", "--compile", "both", "--budget", "1", "--threads", "1")
    files = ("-o", str(out), "-o", str(page))
    done = run("bench", model, *SIZE, "-s", "full", *both, *files)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "to compile took" in done.stdout
    assert "compiling, and measuring memory" in done.stderr
    assert "compiled (a square)" in page.read_text()

    found = rows(out)
    kinds = [(False, False), (False, True), (True, False), (True, True)]
    assert list(found) == kinds, "stock eager, stock compiled, lean eager, lean compiled"
    for (lean, compiled), row in found.items():
        assert (row["compilation"] is not None) == compiled
        assert row["memory"]["peak_method"] == "measured"
        assert (row["memory"]["predicted_peak_bytes"] is None) == compiled
        assert (row["time"]["ratio_to_stock"] is not None) == lean
        assert not any("recompiled" in text for text in row["warnings"])
        if compiled:
            assert row["compilation"]["compile_seconds"] > 10 * row["time"]["step_seconds"]["p90"]
            assert row["compilation"]["ratio_to_eager"] is not None
            eager = found[lean, False]
            assert row["flops"] == eager["flops"]
            for name in ("parameters", "buffers", "inputs", "gradients", "optimizer"):
                assert row["memory"][f"{name}_bytes"] == eager["memory"][f"{name}_bytes"]
    stock, lean_row = found[False, True]["memory"], found[True, True]["memory"]
    assert 0 < lean_row["saved_activations_bytes"] < stock["saved_activations_bytes"]
    assert stock["peak_bytes"] < found[False, False]["memory"]["peak_bytes"]


@pytest.mark.slow
def test_without_a_compiler_the_eager_rows_stand(tmp_path: Path, model: str) -> None:
    out = tmp_path / "r.json"
    asked = ("-s", "full", "--compile", "on", "--budget", "1", "--threads", "1", "-o", str(out))
    done = run("bench", model, *SIZE, *asked, CXX="/no/such/compiler")
    assert done.returncode == 4, done.stderr
    found = rows(out)
    assert found[False, False]["time"] is not None
    assert found[False, True]["status"] == "error"
    error = found[False, True]["error"]
    assert error.startswith("torch.compile does not work on this machine: ")
    assert "needs a C++ compiler such as g++" in error
    assert "or leave out --compile" in error
    assert "\n" not in error


@pytest.mark.slow
@pytest.mark.exhaustive
def test_what_fits_compiled_is_measured(tmp_path: Path, model: str) -> None:
    out = tmp_path / "f.json"
    asked = ("-s", SPEC, "--lean", "on", "--compile", "on", "--memory", "1GiB", "-o", str(out))
    done = run("fit", model, *SIZE, *asked)
    assert done.returncode == 0, done.stderr
    eager, compiled = json.loads(out.read_text())["rows"]
    assert (eager["compiled"], compiled["compiled"]) == (False, True)
    assert eager["memory"]["peak_method"] == "predicted"
    assert compiled["memory"]["peak_method"] == "measured"
    assert compiled["measured_peak_bytes"] == compiled["memory"]["peak_bytes"] > 0
    assert (compiled["tried"], compiled["search_seconds"] > 0) == (1, True)
    assert "those of compiled rows are of real steps" in " ".join(done.stdout.split())
    assert "1 batch was compiled and run in" in " ".join(done.stdout.split())


@pytest.mark.slow
@pytest.mark.exhaustive
def test_lean_is_verified_beside_stock_when_both_are_compiled(model: str) -> None:
    done = run("verify", model, *SIZE, "-s", SPEC, "--lean", "--compile", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["compiled"] is True
    assert found["conditions"].endswith(", compiled")
    passed = {check["name"]: check["passed"] for check in found["checks"]}
    assert passed["frozen-weights"]
    assert passed["fixed-statistics"]
    assert passed["same-as-stock"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("bench", "--static", "--compile", "on"), "leave out --static or --compile"),
        (("bench", "--static", "--compile", "both"), "leave out --static or --compile"),
        (("bench", "--compile", "yes"), "'yes' is not one of 'off', 'on', 'both'"),
        (("bench", "--fail-if", "time.compile_seconds > 60"), "--compile both measures both"),
        (
            ("verify", "timm:test_resnet", "--schedule", "lp-ft", "--compile"),
            "leave out --compile, or verify each strategy with -s SPEC --compile",
        ),
    ],
)
def test_bad_usage(args: tuple[str, ...], message: str, invoke: Invoke) -> None:
    done = invoke(*args)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
