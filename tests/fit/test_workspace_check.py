"""The rules for workspace, compared with the allocator where `fit` runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from freezekit.fit.margin import COUNTED_MARGIN, UNCHECKED_MARGIN
from freezekit.fit.workspace_check import CONVOLUTIONS, TOLERANCE, check_workspace

if TYPE_CHECKING:
    from pathlib import Path

ASKED = ("timm:test_resnet", "--image-size", "32", "--memory", "20MB", "-s", "full")
CHECK = (
    "from freezekit.fit.workspace_check import check_workspace as check\n"
    "import msgspec\nprint(msgspec.json.encode(check()).decode())"
)
CPU = torch.backends.cpu.get_cpu_capability()
has_avx512 = pytest.mark.skipif(CPU != "AVX512", reason="needs a CPU with AVX-512")


def run(*command: str, **env: str) -> str:
    """Return what a Python process prints that begins with this environment."""
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80", **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(CPU not in ("AVX2", "AVX512"), reason="needs a CPU with AVX2 or AVX-512")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_rules_hold_where_they_were_read_off(threads: str) -> None:
    found = json.loads(run("-c", CHECK, OMP_NUM_THREADS=threads))
    assert found["operators"] == 2 * len(CONVOLUTIONS) + 1
    assert found["differing"] == []
    assert abs(found["largest_error"]) <= TOLERANCE


@has_avx512
def test_they_hold_on_avx2() -> None:
    limits = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    found = json.loads(run("-c", CHECK, OMP_NUM_THREADS="1", **limits))
    assert (found["cpu_capability"], found["differing"]) == ("AVX2", [])


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # set_flags sets all flags
def test_without_onednn_they_do_not_hold() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        found = check_workspace()
    assert not found.holds
    assert found.largest_error > 1
    assert "forward of a 3x3 convolution, 64 to 64 channels" in found.differing


@has_avx512
@pytest.mark.parametrize("margin", [(), ("--margin", "1")])
def test_fit_leaves_more_where_they_do_not_hold(tmp_path: Path, margin: tuple[str, ...]) -> None:
    path = tmp_path / "fit.json"
    asked = (*ASKED, "--lean", "off", "--threads", "1", "-o", str(path), *margin)
    run("-m", "freezekit", "fit", *asked)
    before = json.loads(path.read_text())
    assert before["workspace_check"]["differing"] == []
    text = " ".join(run("-m", "freezekit", "fit", *asked, ONEDNN_MAX_CPU_ISA="SSE41").split())
    after = json.loads(path.read_text())
    assert after["workspace_check"]["differing"]
    assert "predictions are less exact here" in text
    if margin:
        assert before["margin"] == after["margin"] == 0.01
        assert "so a larger margin is left" not in text
    else:
        assert (before["margin"], after["margin"]) == (COUNTED_MARGIN, UNCHECKED_MARGIN)
        assert "20 % of the peak is left free" in text
        assert "so a larger margin is left" in text
        assert after["rows"][0]["batch_size"] < before["rows"][0]["batch_size"]
