"""What a terminal shows while a run goes on."""

from __future__ import annotations

import re

import pytest

from freezekit.bench.run import Doing
from freezekit.cli.screen import progress

LONG = "first-n-stages:n=2 + discriminative-lr:decay=0.8,freeze_below=0.1"


@pytest.mark.parametrize("columns", [60, 80])
def test_a_long_spec_leaves_room_for_the_time(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress("timm:resnet18") as show:
        show(Doing("timing steps", LONG, 1, 10))
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    line = next(line for line in re.split(r"[\r\n]", seen) if line.startswith("first-n-stages"))
    assert len(line.rstrip()) <= columns
    assert re.search(r"\.\.\. +\S+ 0:00:00 left: (--:--|\d\d:\d\d)\s*$", line)
