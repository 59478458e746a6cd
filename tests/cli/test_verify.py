"""freezekit verify."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from freezekit.cli import main

if TYPE_CHECKING:
    from pathlib import Path

MODELS = """
import torch
from torch import nn
from torchvision.models import resnet18

def by_name(**kwargs):
    model = resnet18(num_classes=5)
    for name, parameter in model.named_parameters():
        if "bn" in name:
            parameter.requires_grad = False
    return model

class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.stem.requires_grad_(False)
    def forward(self, x):
        raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        print("built")
        self.embed, self.mix, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.example_input = torch.ones(2, 7, dtype=torch.int64)
    def forward(self, tokens):
        return {"classes": self.head(self.mix(self.embed(tokens)).mean(1)).argmax(1),
                "energy": self.head(self.mix(self.embed(tokens)))}

def energy(output):
    return output["energy"].square().mean()

class Interrupted(Greedy):
    def forward(self, x):
        raise KeyboardInterrupt

class Leaving(Greedy):
    def forward(self, x):
        raise SystemExit(0)
"""


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ("verify", *args))


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return str(path)


def test_a_strategy_is_proved_within_80_columns() -> None:
    result = run("timm:test_resnet", "-s", "first-n-stages:n=1", "--image-size", "64")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "timm:test_resnet, first-n-stages:n=1"
    assert (
        lines[2] == "ok    frozen-weights          15 frozen parameters kept every bit in 3 steps"
    )
    assert lines[-1] == "proved on 3 steps of SGD, input (2, 3, 64, 64)"


def test_a_model_frozen_by_hand_fails(models: str) -> None:
    result = run(f"{models}:by_name", "--image-size", "64")
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines[1:])) <= 80  # the first holds a path
    assert lines[0].endswith("models.py:by_name, as its factory left it")
    assert "        bn1.running_mean" in lines
    assert lines[-1] == "2 of 5 checks failed on 3 steps of SGD, input (2, 3, 64, 64)"


def test_a_model_that_calls_sys_exit_is_not_proved(models: str) -> None:
    result = run(f"{models}:Leaving", "--image-size", "8")
    assert result.exit_code == 2, result.output
    assert "the code of the model or of a plugin left with sys.exit(0)" in result.stderr


def test_json_and_warnings_do_not_mix() -> None:
    args = ("--json", "--image-size", "64", "--num-classes", "4", "--steps", "2")
    result = run("torchvision:resnet18", "-s", "by-name:contains=bn", *args)
    data = json.loads(result.stdout)
    assert data["passed"] is True
    assert data["steps"] == 2
    assert [check["name"] for check in data["checks"]][-1] == "undo"
    assert "warning: the pattern looks like a norm's, but 3 of 20" in result.stderr


def test_the_proof_is_made_of_the_lean_model() -> None:
    args = ("timm:test_resnet", "-s", "batch-norm", "--image-size", "32")
    lean = run(*args, "--lean")
    assert lean.exit_code == 0, lean.output
    assert lean.stdout.startswith("timm:test_resnet, batch-norm [lean]\n")
    found = json.loads(run(*args, "--lean", "--json").stdout)
    assert (found["lean"], found["passed"], found["strategy"]) == (True, True, "batch-norm")


def test_a_module_that_says_what_it_takes_and_a_loss_of_its_own(models: str) -> None:
    loss = ("--loss", models + ":energy")
    result = run(f"{models}:Tokens", "-s", "head-only", "--batch-size", "3", "--json", *loss)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"]
    assert result.stderr == "built\n"
    text = run(f"{models}:Tokens", "-s", "head-only", *loss).stdout
    assert "input (2, 7)" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("timm:test_vit",), "nothing in 'timm:test_vit' is frozen: say what to freeze with -s"),
        (("timm:test_vit", "--lean"), "--lean needs -s SPEC"),
        (("timm:test_vit", "-s", "headonly"), "unknown strategy 'headonly', did you mean"),
        (("timm:test_vit", "-s", "head-only", "--image-size", "90"), "try another image size"),
        (("timm:test_vti", "-s", "head-only"), "did you mean 'test_vit'"),
    ],
)
def test_errors_are_one_line_and_exit_2(args: tuple[str, ...], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_want_of_memory_is_said_in_words(models: str) -> None:
    result = run(f"{models}:Greedy")
    assert result.exit_code == 2
    assert "out of memory with" in result.stderr
    assert "try a smaller --image-size" in result.stderr


def test_an_interrupt_exits_130(models: str) -> None:
    result = run(f"{models}:Interrupted")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_steps_must_be_positive() -> None:
    assert run("timm:test_vit", "--steps", "0").exit_code == 2


def test_help_imports_no_torch() -> None:
    script = (
        "import sys; from freezekit.cli import main\n"
        "try: main(['verify', '--help'])\n"
        "except SystemExit as end: code = end.code\n"
        "assert code == 0 and 'torch' not in sys.modules, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
