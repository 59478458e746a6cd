"""freezekit bench --schedule: a whole training, beside one of `full`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from freezekit.results.store import load
from tests.fork_server import run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Invoke = Callable[..., subprocess.CompletedProcess[str]]

TINY = ("timm:test_resnet", "--image-size", "32", "--batch-size", "2", "--threads", "1")
TEXT = "full then head-only at 1ep then full at 50%"
ROW = f"{TEXT} @ 1ep"


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return run("bench", *TINY, "--optimizer", "adamw", *args)


def test_a_training_is_measured_reported_judged_and_resumed(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    outputs = [word for kind in ("json", "md", "csv", "html") for word in ("-o", f"r.{kind}")]
    outputs = [str(tmp_path / word) if word.startswith("r.") else word for word in outputs]
    gates = ("--fail-if", f"strategy == '{ROW}' and peak_bytes > full", "--budget", "1")
    run = ("--schedule", TEXT, "-s", "head-only", "--epochs", "4", "--steps-per-epoch", "10")
    first = bench(*run, *outputs, *gates)
    assert first.returncode == 0, first.stderr
    assert "(2 of 2 rows)" in first.stdout, "head-only, and the phase that it is not"

    (result,) = load(path)
    assert [row.label for row in result.rows] == ["full", "head-only", ROW]
    full, head, phase = result.rows
    (found,) = result.schedules
    assert [p.row for p in found.phases] == ["full", ROW, "full"]
    assert [(p.begins, p.steps) for p in found.phases] == [("0ep", 10), ("1ep", 10), ("2ep", 20)]
    assert phase.memory.optimizer_bytes == full.memory.optimizer_bytes, "the moments stay"
    assert phase.memory.gradients_bytes == head.memory.gradients_bytes
    assert phase.flops == head.flops
    assert found.peak_bytes == full.memory.peak_bytes
    assert found.peak_method == "measured"
    assert full.flops is not None
    assert head.flops is not None
    of_full, of_head = (row.forward + row.backward for row in (full.flops, head.flops))
    assert found.flops == 30 * of_full + 10 * of_head
    assert found.time is not None
    assert found.time.ratio_ci is not None
    assert found.time.verdict is not None

    lines = first.stdout.splitlines()
    assert f"{TEXT}: 4 epochs of 10 steps" in lines
    assert any(line.startswith("2: head-only") for line in lines)
    assert any(line.startswith("whole run: 40 steps; highest peak ") for line in lines)
    assert [line for line in lines if len(line) > 80 and not line.startswith("pass: ")] == []
    assert "| `2: head-only` | 1ep | 10 |" in (tmp_path / "r.md").read_text()
    assert f"{TEXT},2,1ep,10" in (tmp_path / "r.csv").read_text()
    page = (tmp_path / "r.html").read_text()
    assert f"<h3>{TEXT}: 4 epochs of 10 steps</h3>" in page
    assert "<p>whole run: 40 steps; highest peak " in page

    again = bench(*run, "--resume", "-o", str(path))
    assert again.returncode == 0, again.stderr
    assert "nothing is left to measure" in again.stdout
    assert load(path) == (result,)


def test_lean_without_a_run(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    done = bench("--schedule", "head-only", "--lean", "both", "--static", "-o", str(path))
    assert done.returncode == 0, done.stderr
    (result,) = load(path)
    names = ["head-only @ 0ep", "head-only @ 0ep [lean]"]
    assert [row.label for row in result.rows] == ["full", "full [lean]", *names]
    assert [(one.lean, one.phases[0].row) for one in result.schedules] == [
        (False, names[0]),
        (True, names[1]),
    ]
    assert [one.peak_method for one in result.schedules] == ["predicted", "predicted"]
    assert result.schedules[0].steps == 1000, "10 epochs of 100 steps, if nothing is said"
    assert "head-only [lean]: 10 epochs of 100 steps" in done.stdout


def test_a_schedule_that_does_not_fit_the_model_is_told_first(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    text = "head-only then first-n-stages:n=9 at 50%"
    done = bench("--schedule", text, "--static", "-o", str(path))
    assert done.returncode == 2
    assert f"Error: the schedule '{text}': " in done.stderr
    assert "first-n-stages:n=9" in done.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "3"), "without --schedule there is no run: leave out --epochs"),
        (("--steps-per-epoch", "3"), "leave out --steps-per-epoch"),
        (("--schedule", "auto-rgn"), "'auto-rgn' observes gradients of a training"),
        (("--schedule", "lp-tf"), "did you mean 'lp-ft'"),
        (("--schedule", "head-only then full"), "phase 'full' has no time"),
        (("--schedule", TEXT, "--fail-if", "strategy == 'lp-ft @ 1ep' and lean"), "no row has"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_measured(
    options: tuple[str, ...], message: str, invoke: Invoke
) -> None:
    done = invoke("bench", *TINY, *options)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())


def test_the_file_says_what_a_phase_is(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    done = bench("--schedule", "lp-ft", "--epochs", "2", "--static", "-o", str(path))
    assert done.returncode == 0, done.stderr
    data = json.loads(path.read_text())
    phases = [row["phase"] for row in data["rows"]]
    assert phases[:2] == [
        None,
        {"schedule": "lp-ft", "index": 1, "begins": "0ep", "steps": 40},
    ]
    assert data["schema_version"] == 1
    assert data["schedules"][0]["moments"] == "keep"
    assert data["rows"][1]["plugin"]["name"] == "lp-ft"
