"""What a terminal shows while a run goes on, and what a full disk leaves of its files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from freezekit.bench.base_run import ProgressUpdate
from freezekit.cli import result_files
from freezekit.cli.progress import progress
from freezekit.cli.sweep_progress import sweep_progress
from freezekit.errors import OutputError
from freezekit.results.files import UNCHANGED
from freezekit.results.records import Parameters, Result, Row, Workload
from freezekit.results.store import load
from freezekit.sweep.asking import SweepProgress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LONG = "first-n-stages:n=2 + discriminative-lr:decay=0.8,freeze_below=0.1"


@pytest.mark.parametrize("columns", [60, 80])
def test_a_long_spec_leaves_room_for_the_time(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress("timm:resnet18") as show:
        show(ProgressUpdate("timing steps", LONG, 1, 10))
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    line = next(line for line in re.split(r"[\r\n]", seen) if line.startswith("first-n-stages"))
    assert len(line.rstrip()) <= columns
    assert re.search(r"\.\.\. +\S+ 0:00:00 phase left: (--:--|\d\d:\d\d)\s*$", line)


def _run(model: str, *, complete: bool = True) -> Result:
    rows = (Row("full", parameters=Parameters(9, 9, "a")),)
    return Result("0.1.0", Workload(model), {}, rows, complete=complete)


def test_a_disk_that_is_full_midway_tells_what_the_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "r.json")
    writer = result_files.ResultFiles([path])
    first, second, third = _run("timm:a"), _run("timm:b", complete=False), _run("timm:c")
    writer.write([first, second], draw=True)

    def fail(results: Sequence[Result], formats: object, path: str) -> None:
        raise OutputError(f"cannot write {path!r}: no space left on device{UNCHANGED}")

    monkeypatch.setattr(result_files, "write", fail)
    writer.write([first, second, third], draw=True)
    (error,) = writer.failed
    assert str(error) == (
        f"cannot write {path!r}: no space left on device; it holds timm:a, timm:b in part; "
        "free some space, then the same command with --resume continues"
    )
    assert load(path) == (first, second)


def test_a_disk_that_is_full_at_once_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(results: Sequence[Result], formats: object, path: str) -> None:
        raise OutputError(f"cannot write {path!r}: no space left on device{UNCHANGED}")

    monkeypatch.setattr(result_files, "write", fail)
    writer = result_files.ResultFiles([str(tmp_path / "r.json")])
    writer.write([_run("timm:a")], draw=True)
    assert str(writer.failed[0]).endswith("the file that was there is unchanged")


def test_a_sweep_in_a_log_says_every_minute_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("freezekit.cli.sweep_progress.LOG_SECONDS", 0)
    with sweep_progress() as show:
        show(SweepProgress("training 2 candidates", 0, 20))
        show(SweepProgress("training 2 candidates", 7, 20, ("full, seed 0 (7 of 10)",)))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["training 2 candidates", "  0 of 20 epochs", "  7 of 20 epochs"]
