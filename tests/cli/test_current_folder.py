"""What lies in the current folder runs where the user names it, and not otherwise."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from freezekit.results.records import Parameters, Result, Row, Workload
from freezekit.results.store import load, to_json
from tests.sampled import sampled

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = (
    *(
        "altair",
        "click",
        "filelock",
        "jinja2",
        "msgspec",
        "mpmath",
        "networkx",
        "numpy",
        "packaging",
    ),
    *("PIL", "pluggy", "pygments", "rich", "safetensors", "scipy", "sympy", "timm", "torch"),
    *("torchvision", "typing_extensions", "yaml"),
)
OWN = """
import helpers
from helpers import layers
from torch import nn

def build():
    import late
    return nn.Sequential(*layers(), late.head())

def loss(output):
    return output.square().mean()
"""
HELPERS = """
from torch import nn
def layers(): return nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
def head(): return nn.Linear(4, 2)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module for each library that freezekit or its libraries import."""
    inside = tmp_path / "downloads"
    inside.mkdir()
    for name in LIBRARIES:
        trap = f"open({str(inside / 'RAN')!r}, 'a').write({name!r})\nraise RuntimeError\n"
        (inside / f"{name}.py").write_text(trap)
    return inside


@pytest.fixture
def as_script(tmp_path: Path) -> list[str]:
    """A command like the console script: its own folder is first on the path."""
    script = tmp_path / "bin" / "freezekit"
    script.parent.mkdir()
    script.write_text("import sys\nfrom freezekit.cli import main\nsys.exit(main())\n")
    return [sys.executable, str(script)]


AS_MODULE = [sys.executable, "-m", "freezekit"]


def run(command: list[str], *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *args], capture_output=True, text=True, check=False, cwd=cwd, timeout=300
    )


def test_commands_that_need_no_code_of_the_user_run_none(
    folder: Path, as_script: list[str]
) -> None:
    row = Row("full", parameters=Parameters(9, 9, "a"))
    (folder / "r.json").write_text(to_json([Result("0.1.0", Workload("timm:a"), {}, (row,))]))
    for command, *args in (
        (as_script, "compare", "r.json", "r.json"),
        (AS_MODULE, "compare", "r.json", "r.json"),
        ([sys.executable, "-um", "freezekit"], "report", "r.json", "-o", "r.md", "-o", "r.html"),
        (as_script, "strategies"),
        (AS_MODULE, "plugins"),
        (as_script, "show", "torchvision:squeezenet1_0", "--params"),
    ):
        done = run(command, *args, cwd=folder)
        assert done.returncode == 0, (args, done.stderr)
    assert not (folder / "RAN").exists()


@pytest.mark.parametrize("commands", sampled(["bench", "show and verify"], every=2))
def test_ones_own_module_is_found_there_and_nothing_else(
    folder: Path, as_script: list[str], commands: str
) -> None:
    (folder / "own.py").write_text(OWN)
    (folder / "helpers.py").write_text(HELPERS)
    (folder / "late.py").write_text(HELPERS)
    size = ("--image-size", "8")
    static = ("-s", "head-only", "--static")
    of_bench = (
        (AS_MODULE, "bench", "own:build", *static, "-o", "r.json"),
        (as_script, "bench", "own.py:build", *static, "--loss", "own.py:loss"),
    )
    others = (
        (as_script, "show", "own:build"),
        (as_script, "verify", "own.py:build", "-s", "head-only", "--loss", "own:loss"),
    )
    for command, *args in of_bench if commands == "bench" else others:
        done = run(command, *args, *size, cwd=folder)
        assert done.returncode == 0, (args, done.stderr)
    if commands == "bench":
        assert [row.status for row in load(folder / "r.json")[0].rows] == ["ok", "ok"]
    assert not (folder / "RAN").exists()


def test_ones_own_modules_go_before_installed_ones_of_their_name(
    folder: Path, as_script: list[str]
) -> None:
    """`python file.py` has it so. Even where the name is that of a library."""
    (folder / "test.py").write_text("import scipy\nfrom helpers import *\nbuild = head\n")
    (folder / "helpers.py").write_text(HELPERS)
    done = run(as_script, "show", "test:build", cwd=folder)
    assert done.returncode == 2
    assert "importing 'test' failed: RuntimeError" in done.stderr
    assert (folder / "RAN").read_text() == "scipy"
