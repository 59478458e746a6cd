"""What the README says, tried: its code, its commands, its length."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from freezekit.plugins.registering import default_registry

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
READ_IN_TWO_MINUTES = 520  # words, at 260 a minute


def test_freezing_in_five_lines_runs(capsys: pytest.CaptureFixture[str]) -> None:
    python = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    code = next(block for block in python if "freeze_" in block)
    names: dict[str, object] = {}
    exec(code.replace("pretrained=True", "pretrained=False"), names)
    assert "layer4" in capsys.readouterr().out
    assert isinstance(names["optimizer"], torch.optim.AdamW)


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", TEXT, re.MULTILINE)
    assert targets == ["bench", "docs", "test"]
    for target in targets:
        assert f"\n{target}:" in makefile


def test_it_counts_the_strategies() -> None:
    offered = default_registry().strategies.values()
    built_in = [one for one in offered if one.plugin.distribution == "freezekit"]
    assert f"[{len(built_in)} strategies]" in TEXT


def test_it_is_read_in_two_minutes() -> None:
    prose = re.sub(r"\]\([^)]*\)", "]", TEXT)
    assert len(prose.split()) <= READ_IN_TWO_MINUTES
