"""What the README says, tried: its code, its commands, its table, its output."""

from __future__ import annotations

import io
import re
import shlex
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from freezekit import Backbone, FreezePlan, load_backbone
from freezekit.cli import main
from freezekit.plugins.registry import default_registry
from freezekit.report.table import print_result
from freezekit.results.store import load
from freezekit.spec.options import option_infos

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = TEXT) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [text for said, text in fenced if said == language]


def test_freezing_in_five_lines_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = next(block for block in blocks("python") if "freeze_" in block)
    names: dict[str, object] = {}
    exec(code.replace("pretrained=True", "pretrained=False"), names)
    assert "layer4" in capsys.readouterr().out
    assert isinstance(names["optimizer"], torch.optim.AdamW)


def test_the_plugin_in_ten_lines_works() -> None:
    code = next(block for block in blocks("python") if "hookimpl" in block)
    module = types.ModuleType("my_strategies")
    exec(code, module.__dict__)
    (cls,) = module.freezekit_strategies()
    assert option_infos(cls) == ()
    decided = cls().plan(Backbone(load_backbone("torchvision:resnet18", device="meta")))
    assert isinstance(decided, FreezePlan)
    assert "fc.bias" in decided.frozen


def test_a_training_under_a_schedule_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "guides" / "schedules.md").read_text()
    names: dict[str, object] = {}
    for block in blocks("python", page):
        exec(block, names)
    assert "8 step(s), 2 of 2 epoch(s), 1 change(s) of plan" in capsys.readouterr().out
    checkpoint = names["checkpoint"]
    assert isinstance(checkpoint, dict)
    assert checkpoint.keys() == {"model", "optimizer", "rates", "run"}


@pytest.mark.filterwarnings("ignore::freezekit.FreezekitWarning")  # of what the code is about
def test_trainings_from_a_cache_run(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    for code in blocks("python", (ROOT / "docs" / "guides" / "cache.md").read_text()):
        exec(code, scope)
    assert repr(scope["cached"]) == "CachedDataset(images again)"
    assert "16 samples, features of avgpool, 2 KiB each, 32 KiB in all" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:`isinstance\\(treespec")
@pytest.mark.filterwarnings("ignore:the plan now trains a part whose features were cached")
def test_trainings_of_trainers_run(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {"__name__": "trainers"}
    for code in blocks("python", (ROOT / "docs" / "guides" / "lightning.md").read_text()):
        exec(code, scope)
    assert "8 step(s), 2 of 2 epoch(s), 1 change(s) of plan" in capsys.readouterr().out
    assert scope["callback"].run.progress.step == 8


def test_every_command_exists_with_its_options() -> None:
    names = ("ci.md", "schedules.md", "extract.md")
    pages = [TEXT, *((ROOT / "docs" / name).read_text() for name in names)]
    lines = [line for page in pages for block in blocks("", page) for line in block.splitlines()]
    commands = [line.split("#")[0] for line in lines if line.startswith("freezekit ")]
    assert len(commands) >= 5
    for command in commands:
        _, name, *args = shlex.split(command)
        main.commands[name].make_context(name, args, resilient_parsing=False).close()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("kind", ["strategies", "schedules"])
def test_the_table_lists_all_that_are_built_in(kind: str) -> None:
    offered = getattr(default_registry(), kind)
    built_in = {
        n: o.cls.summary for n, o in offered.items() if o.plugin.distribution == "freezekit"
    }
    section = TEXT.partition(f"\n## {kind.capitalize()}\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", section, re.MULTILINE)
    assert dict(table) == built_in
    assert len(table) == len(built_in)


def test_the_output_shown_is_that_of_the_result_file() -> None:
    (result,) = load(ROOT / "benchmarks" / "results" / "readme-bench.json")
    out = io.StringIO()
    print_result(result, Console(file=out, width=80))
    (shown,) = [block for block in blocks("") if block.startswith("torchvision:resnet18")]
    assert shown == out.getvalue(), "whole, untrimmed"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
