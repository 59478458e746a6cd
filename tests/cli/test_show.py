"""freezekit show, and what all commands share."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from freezekit.cli import main
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from pathlib import Path


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
    assert "layer4" in data["plan"]["eval_modules"]


@pytest.mark.parametrize(
    "model",
    [
        "torchvision:resnet50",
        "timm:vit_small_patch16_224",
        exhaustive("timm:vit_large_patch16_224"),
        exhaustive("timm:hrnet_w18"),
        exhaustive("timm:efficientnet_b0"),
        exhaustive("timm:coatnet_0_224"),
        "torchvision:r3d_18",
        exhaustive("torchvision:raft_small"),
        exhaustive("torchvision:inception_v3"),
        pytest.param("torchvision:fasterrcnn_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
def test_stages_fit_80_columns_and_add_up(model: str) -> None:
    result = run("show", model)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == [
        "stage", "kind", "modules", "parameters", "share", "output", "norms",
        *(() if "rcnn" in model else ("cache",)),
    ]  # fmt: skip
    total = next(line.split()[1] for line in lines if line.startswith("total"))
    assert f": {total} parameters in " in lines[0]
    cells = [re.search(r"  ([\d,]+)  +([\d.]+) %", line) for line in lines[3:]]
    figures = [int(found[1].replace(",", "")) for found in cells if found]
    assert sum(figures[:-1]) == figures[-1] == int(total.replace(",", ""))


def test_show_tells_the_stages_of_resnet50() -> None:
    lines = run("show", "torchvision:resnet50").stdout.splitlines()
    assert lines[0] == "ResNet: 25,557,032 parameters in 6 stages"
    stem, layer1 = (re.split("  +", line) for line in lines[3:5])
    assert stem == ["stem", "stem", "conv1, bn1", "9,536", "0.0 %", "56x56", "1 batch", "784 KiB"]
    assert layer1 == [
        "layer1",
        "body",
        "layer1",
        "215,808",
        "0.8 %",
        "56x56",
        "10 batch",
        "3.06 MiB",
    ]
    head, total = (re.split("  +", line) for line in (lines[8], lines[10]))
    assert (head[0], head[-1]) == ("head", "-")
    assert total == ["total", "25,557,032", "100.0 %", "53 batch"]


def test_show_stages_json() -> None:
    data = json.loads(run("show", "timm:vit_tiny_patch16_224", "--json").stdout)
    assert list(data) == ["model", "stages", "norms", "caches"]
    assert [found["bytes_per_sample"] for found in data["caches"]] == [197 * 192 * 4] * 13 + [None]
    assert data["caches"][0]["boundary"] == ["norm_pre"]
    stem, *_, head = data["stages"]
    assert list(stem) == [
        "name", "kind", "modules", "parameters", "buffers", "elements", "share", "resolution",
        "norms",
    ]  # fmt: skip
    assert "cls_token" in stem["parameters"]
    assert "patch_embed" in stem["modules"]
    assert stem["resolution"] == [197]
    assert (head["resolution"], head["norms"]) == ([], {"layer": 1})
    assert sum(stage["share"] for stage in data["stages"]) == pytest.approx(1)
    assert len(data["norms"]) == 25
    assert data["norms"][0] == {
        "name": "blocks.0.norm1",
        "kind": "layer",
        "type": "LayerNorm",
        "stage": "blocks.0",
    }


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            "head-only",
            "cache: 2 KiB a sample, the output of avgpool; skips 99.97 % of the FLOPs of a",
        ),
        (
            "batch-norm",
            "no cache: no call of a module comes before all that is trained, so that nothing",
        ),
    ],
)
def test_show_tells_what_a_cache_of_a_plan_keeps(spec: str, text: str) -> None:
    result = run("show", "torchvision:resnet18", "-s", spec)
    assert text in result.stdout.splitlines()
    assert max(map(len, result.stdout.splitlines())) <= 80
    data = json.loads(run("show", "torchvision:resnet18", "-s", spec, "--json").stdout)
    assert data["cache"]["bytes_per_sample"] == (2048 if spec == "head-only" else None)


def test_show_params_without_a_strategy_tells_the_stage_of_each() -> None:
    lines = run("show", "torchvision:resnet18", "--params").stdout.splitlines()
    assert len(lines) == 62
    assert lines[0] == "conv1.weight: stem"
    assert "layer1.0.conv1.weight: layer1" in lines


@pytest.mark.parametrize(
    "model",
    [
        "torchvision:resnet50",
        exhaustive("timm:vit_small_patch16_224"),
        "timm:hrnet_w18",
        exhaustive("torchvision:densenet121"),
        pytest.param("torchvision:fasterrcnn_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
def test_explain_says_why_within_80_columns(model: str) -> None:
    result = run("show", model, "--explain")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.fullmatch(r"\w+: why it has these \d+ stages", lines[0])
    assert "Units, in the order of use" in lines
    assert any(line.startswith("  It begins with ") for line in lines)
    assert any(line.startswith("  It ends with ") for line in lines)


def test_explain_json_is_the_same_as_data() -> None:
    data = json.loads(run("show", "torchvision:resnet18", "--explain", "--json").stdout)
    assert list(data) == ["model", "explanation"]
    told = data["explanation"]
    assert told["units"][0] == {
        "name": "conv1",
        "kind": "layer",
        "elements": 9408,
        "output": [112, 112],
        "stage": "stem",
        "joined": [],
        "absorbed": [],
        "because": "",
    }
    assert told["body_begin"] == "layer1 is the first list of blocks"
    assert [group["name"] for group in told["groups"]] == told["stages"]
    assert (told["source"], told["openings"], told["merges"]) == ("rules", [], [])


@pytest.mark.parametrize("option", [("-s", "full"), ("--params",)])
def test_explain_is_not_for_plans_and_parameters(option: tuple[str, ...]) -> None:
    result = run("show", "torchvision:resnet18", "--explain", *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--explain is about the stages of a model: leave out {option[0]}" in result.stderr


@pytest.mark.parametrize(
    ("model", "size", "resolution"),
    [
        ("torchvision:resnet18", 64, [16, 16]),
        ("timm:vit_tiny_patch16_224", 160, [101]),  # built for that size
        ("torchvision:r3d_18", 32, [16, 16, 16]),
        exhaustive(("torchvision:raft_small", 128, [64, 64])),
    ],
)
def test_image_size_is_what_is_built_and_observed(
    model: str, size: int, resolution: list[int]
) -> None:
    given = run("show", model, "--image-size", str(size))
    assert given.stdout.splitlines()[0].endswith(f"stages, observed with {size} pixels")
    data = json.loads(run("show", model, "--image-size", str(size), "--json").stdout)
    assert data["stages"][0]["resolution"] == resolution
    planned = run("show", model, "--image-size", str(size), "-s", "head-only")
    assert planned.exit_code == 0, planned.output


def test_what_cannot_be_staged_is_told_by_its_parameters(tmp_path: Path) -> None:
    source = tmp_path / "own.py"
    source.write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Dropout())\n"
        "        self.b, self.fc = nn.Conv2d(3, 3, 3), nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        return self.a[1](self.fc(self.b(self.a[0](x)).mean((2, 3))))\n"
    )
    result = run("show", f"{source}:Net")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "what it uses first depends on what it uses last" in result.stderr
    assert "'a.0.weight', 'a.0.bias'" in result.stderr
    explained = run("show", f"{source}:Net", "--explain")
    assert explained.exit_code == 2
    assert explained.stdout.startswith("Net: how far its staging came\n")
    assert "It begins with b: no unit between" in explained.stdout
    assert "what it uses first depends on what it uses last" in explained.stderr
    planned = run("show", f"{source}:Net", "-s", "by-name:contains=a.")
    assert planned.exit_code == 0
    assert "listed by top-level module" in planned.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("torchvision:resnet18", "-s", "batchnorm"), "unknown strategy 'batchnorm', did you mean"),
        (("torchvision:resnet81", "-s", "full"), "did you mean 'resnet18'"),
        (("torchvision:resnet18", "-s", "first-n-stages:n=9"), "give n from 0 to 4"),
        (("torchvision:resnet18", "-s", "by-name:glob=*"), "nothing is left to train"),
        (("torchvision:vit_b_16", "-s", "batch-norm"), "has no batch norm"),
        (("torchvision:resnet18", "-s", ""), "the spec is empty"),
        (("torchvision:resnet81",), "did you mean 'resnet18'"),
        (("torchvision:vit_b_16", "--image-size", "100"), "could not build"),
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
