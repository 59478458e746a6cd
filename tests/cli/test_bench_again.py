"""freezekit bench against files that are there: gates, a baseline, --resume, two runs at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from freezekit.results.locking import locked
from freezekit.results.store import load
from tests.fork_server import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Invoke = Callable[..., subprocess.CompletedProcess[str]]

TINY = ("timm:test_resnet", "--image-size", "32", "--batch-size", "2", "--threads", "1")
COMMAND = [sys.executable, "-m", "freezekit", "bench"]


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return run("bench", *args)


def labels(path: Path) -> list[list[str]]:
    return [[row.label for row in result.rows] for result in load(path)]


def test_gates_and_a_baseline(tmp_path: Path, earlier_run: str) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    changed = json.loads(earlier_run)
    changed["rows"][1]["memory"]["peak_bytes"] -= 1
    old.write_text(json.dumps(changed))
    gates = ("peak_bytes > baseline", "peak_bytes > full * 2")
    options = [word for gate in gates for word in ("--fail-if", gate)]
    baseline = ("--baseline", str(old), "-o", str(new))
    done = bench(*TINY, "-s", "head-only", "--static", *baseline, *options)
    assert done.returncode == 1, done.stderr
    assert "FAIL: peak_bytes > baseline: head-only: " in done.stderr
    assert "pass: peak_bytes > baseline (1 of 2 rows)" in done.stdout
    assert "pass: peak_bytes > full * 2 (1 of 1 rows)" in done.stdout
    assert "bytes (+1)" in done.stdout, "the comparison with the baseline"
    assert len(load(new)[0].rows) == 2, "a failed gate loses nothing"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fail-if", "peak_byte > 1"), "unknown figure 'peak_byte', did you mean 'peak_bytes'"),
        (("--fail-if", "peak_bytes > baseline"), "give the earlier result: --baseline FILE.json"),
        (("--fail-if", "peak_bytes > stock"), "concerns no row: it compares lean rows with stock"),
        (("-s", "full", "--fail-if", "peak_bytes > full"), "and there is no other; name another"),
        (("--static", "--fail-if", "time.ratio > 1"), "needs step times, which --static leaves"),
        (
            ("-s", "head-only", "--fail-if", "strategy == 'haed-only' and peak_bytes > 1"),
            "there are 'full', 'head-only', did you mean 'head-only'?",
        ),
        (("--fail-if", "peak_bytes > 60%"), "did you mean 'full * 0.6'"),
        (("--baseline", ""), "cannot read ''"),
        (("--baseline", "missing.json"), "cannot read 'missing.json'"),
        (("--resume",), "--resume continues a result file: name it with -o FILE.json"),
        (("--resume", "-o", "x.bencher.json"), "name it with -o FILE.json"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_measured(
    options: tuple[str, ...], message: str, invoke: Invoke
) -> None:
    done = invoke("bench", *TINY, *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_baseline_of_another_workload_is_refused_first(tmp_path: Path, earlier_run: str) -> None:
    old = tmp_path / "old.json"
    old.write_text(earlier_run)
    done = bench(*TINY[:4], "8", "-s", "full", "--baseline", str(old))
    assert done.returncode == 2
    assert "timm:test_resnet was measured with another batch_size (2 -> 8)" in done.stderr


def test_resume_measures_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    asked = (*TINY, "--static", "-o", str(path), "-o", str(tmp_path / "r.md"), "--resume")
    assert bench(*asked, "-s", "head-only").returncode == 0, "no file yet: nothing to go on with"
    first = load(path)
    done = bench(*asked, "-s", "head-only", "-s", "bias-only")
    assert done.returncode == 0, done.stderr
    assert labels(path) == [["full", "head-only"], ["full", "bias-only"]]
    assert load(path)[0] == first[0]
    assert "head-only" in (tmp_path / "r.md").read_text(), "other files hold all of it too"
    before = path.read_bytes()
    done = bench(*asked, "-s", "bias-only", "-s", "head-only")
    assert (done.returncode, path.read_bytes()) == (0, before)
    assert "timm:test_resnet: nothing is left to measure" in done.stdout
    page = tmp_path / "r.csv"
    done = bench(*asked, "-s", "head-only", "-o", str(page), "--fail-if", "peak_bytes > 1GB")
    assert (done.returncode, path.read_bytes()) == (0, before)
    assert "bias-only" in page.read_text(), "what is asked for is written though nothing is left"
    assert "pass: peak_bytes > 1GB (1 of 1 rows)" in done.stdout, "bias-only was not asked for"
    gates = ("--fail-if", "strategy == 'bias-only' and peak_bytes > 1")
    done = bench(*asked, "-s", "bias-only", "-s", "norm-only", *gates)
    assert done.returncode == 1, done.stderr
    assert "FAIL: strategy == 'bias-only' and peak_bytes > 1: bias-only: " in done.stderr
    assert "(1 of 2 rows)" in done.stdout, "stored and new ones, each once"
    other = ("--batch-size", "3", "-s", "head-only")
    assert bench(*asked, *other).returncode == 0
    assert labels(path)[3:] == [["full", "head-only"]], "another batch is another workload"


def test_a_run_out_of_date_is_not_judged(tmp_path: Path, earlier_run: str) -> None:
    path = tmp_path / "r.json"
    asked = (*TINY, "--static", "-s", "head-only", "-o", str(path), "--resume")
    changed = json.loads(earlier_run)
    changed["env"]["torch"] = "1.0.0"
    changed["rows"][1]["memory"]["peak_bytes"] *= 1000
    path.write_text(json.dumps(changed))
    done = bench(*asked, "--fail-if", "peak_bytes > full")
    assert done.returncode == 0, done.stderr
    assert "pass: peak_bytes > full (1 of 1 rows)" in done.stdout
    assert len(load(path)) == 2, "it stays in the file"


def test_a_changed_model_file_is_measured_again(tmp_path: Path) -> None:
    path, model, helper = tmp_path / "r.json", tmp_path / "own.py", tmp_path / "layers.py"
    model.write_text(
        "from layers import head\nfrom torch import nn\ndef build():\n"
        "    pool = nn.AdaptiveAvgPool2d(1)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.Flatten(), head())\n"
    )
    helper.write_text("from torch import nn\ndef head(): return nn.Linear(4, 2)\n")
    asked = (f"{model}:build", "--image-size", "8", "-s", "head-only", "--static", "--resume")
    done = bench(*asked, "--threads", "1", "-o", str(path))
    assert done.returncode == 0, done.stderr
    again = bench(*asked, "--threads", "1", "-o", str(path))
    assert "nothing is left to measure" in again.stdout
    helper.write_text("from torch import nn\ndef head(): return nn.Linear(4, 3)\n")
    done = bench(
        *asked, "--threads", "1", "-o", str(path), "--fail-if", "parameters.trainable > 14"
    )
    assert "FAIL: parameters.trainable > 14: head-only: " in done.stderr, done.stderr
    old, new = load(path)
    assert [r.rows[0].parameters.total for r in (old, new) if r.rows[0].parameters] == [122, 127]


def test_a_model_named_twice_is_measured_once(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    done = bench(TINY[0], *TINY, "--static", "-s", "head-only", "-o", str(path))
    assert done.returncode == 0, done.stderr
    assert labels(path) == [["full", "head-only"]]


def test_a_broken_file_is_not_resumed_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"schema_version": 1, "freez')
    done = bench(*TINY, "--static", "-o", str(path), "--resume")
    assert done.returncode == 2
    assert "is cut off" in done.stderr
    assert path.read_text() == '{"schema_version": 1, "freez'


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("mine")
    (tmp_path / "link.json").symlink_to(path)
    with locked([str(path)]):
        done = bench(*TINY, "--static", "-o", str(tmp_path / "link.json"))
    assert done.returncode == 2
    assert "another run is writing" in done.stderr
    assert path.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.json", "r.json"]


def test_what_another_tool_wrote_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "package.json"
    path.write_text('{"name": "mine"}')
    done = bench(*TINY, "--static", "-s", "head-only", "-o", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "name another file, or remove it first" in done.stderr
    assert path.read_text() == '{"name": "mine"}'


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    models = ("timm:test_resnet", "timm:test_vit")
    asked = (*models, *TINY[1:], "--budget", "1", "-s", "head-only", "-o", str(path), "--resume")
    with subprocess.Popen(
        [*COMMAND, *asked], stderr=subprocess.PIPE, start_new_session=True
    ) as killed:
        while not (path.exists() and len(load(path)) == 2):  # whole at any moment
            assert killed.poll() is None
            time.sleep(0.1)
        os.killpg(killed.pid, signal.SIGKILL)
    assert [result.complete for result in load(path)] == [True, False]
    first = load(path)[0]
    with subprocess.Popen(
        [*COMMAND, *asked], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as killed:
        assert killed.stderr is not None
        next(
            line
            for line in killed.stderr
            if "timm:test_vit (model 2 of 2): measuring memory" in line
        )
        os.killpg(killed.pid, signal.SIGKILL)
    assert [result.complete for result in load(path)] == [True, False], "killed twice, there once"
    done = bench(*asked)
    assert done.returncode == 0, done.stderr
    assert "timm:test_resnet: nothing is left to measure" in done.stdout
    assert "timm:test_vit (model 2 of 2): timing steps" in done.stderr
    assert load(path)[0] == first
    assert [result.complete for result in load(path)] == [True, True]
    assert all(row.time for result in load(path) for row in result.rows)
