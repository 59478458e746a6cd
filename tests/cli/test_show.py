"""freezekit show, and what all commands share."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from freezekit.cli import main


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def test_show_tells_each_stage_within_80_columns() -> None:
    result = run("show", "torchvision:resnet50", "-s", "first-n-stages:n=2")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "ResNet: 24,112,104 of 25,557,032 parameters trained (94.3 %)"
    rows = {line.split()[0]: line.split() for line in lines[1:] if line.strip()}
    assert rows["layer2"][1:] == ["1,219,584", "0", "1,219,584", "all", "-"]
    assert rows["head"][1:] == ["2,049,000", "2,049,000", "0", "-", "x", "1"]


def test_show_params_prints_what_the_loop_prints() -> None:
    result = run("show", "torchvision:resnet18", "-s", "by-name:contains=bn", "--params")
    lines = result.stdout.splitlines()
    assert lines[:3] == ["conv1.weight: True", "bn1.weight: False", "bn1.bias: False"]
    assert len(lines) == 62
    assert "3 of 20 norm layers have other names" in result.stderr


def test_show_json() -> None:
    result = run("show", "timm:resnet18", "-s", "head-only", "--json", "--num-classes", "3")
    data = json.loads(result.stdout)
    assert data["stages"][-1]["trainable"] == 3 * 512 + 3
    assert data["trained"]["fc.weight"] is True
    assert "layer4" in data["plan"]["fixed"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("torchvision:resnet18", "-s", "batchnorm"), "unknown strategy 'batchnorm', did you mean"),
        (("torchvision:resnet81", "-s", "full"), "did you mean 'resnet18'"),
        (("torchvision:resnet18", "-s", "first-n-stages:n=9"), "give n from 0 to 4"),
        (("torchvision:resnet18", "-s", "by-name:glob=*"), "nothing is left to train"),
        (("torchvision:vit_b_16", "-s", "batch-norm"), "has no batch norm"),
        (("torchvision:resnet18", "-s", ""), "the spec is empty"),
    ],
)
def test_errors_are_one_line_and_exit_2(args: tuple[str, ...], message: str) -> None:
    result = run("show", *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_verbose_shows_the_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "freezekit", "-v", "show", "nothing", "-s", "full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("command", [("--help",), ("bench", "--help"), ("strategies",)])
def test_help_imports_no_torch(command: tuple[str, ...]) -> None:
    script = (
        "import sys; from freezekit.cli import main\n"
        f"try: main({list(command)!r})\n"
        "except SystemExit as end: code = end.code\n"
        "assert code == 0 and 'torch' not in sys.modules, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
