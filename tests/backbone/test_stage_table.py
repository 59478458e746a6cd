"""Stages as a table of plain text."""

from __future__ import annotations

import pytest
from torch import nn

from freezekit import Backbone, Stage, load_backbone
from freezekit.backbone.stage_rows import StageRow, contents, norm_stages, stage_rows
from freezekit.backbone.stage_table import stage_table


def conv(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


def named(names: list[str]) -> Backbone:
    """Return a model of one convolution and norm for each name."""
    net = nn.Module()
    for name in names:
        net.add_module(name, conv(4))
    stages = [
        Stage(
            name,
            "stem" if name == names[0] else "head" if name == names[-1] else "body",
            tuple(f"{name}.{p}" for p, _ in net.get_submodule(name).named_parameters()),
            tuple(f"{name}.{b}" for b, _ in net.get_submodule(name).named_buffers()),
            (name, *(f"{name}.{at}" for at in range(3))),
        )
        for name in names
    ]
    return Backbone(net, stager=lambda _: stages)


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("length", [3, 12, 40, 200])
def test_no_line_is_wider_than_asked_and_no_name_is_lost(width: int, length: int) -> None:
    names = [f"{letter}{'_long_name' * length}"[:length] + letter for letter in "abc"]
    lines = stage_table(named(names), width).splitlines()
    assert max(map(len, lines)) <= width
    first = "".join(line.split("  ")[0].strip() for line in lines[3:])
    assert all(name in first for name in names)


def test_an_unknown_resolution_and_no_norms_are_dashes() -> None:
    lines = stage_table(named(["a", "b"])).splitlines()
    assert lines[3].split() == ["a", "stem", "a", "156", "50.0", "%", "-", "1", "batch"]


def row(modules: list[str], tensors: list[str]) -> StageRow:
    return StageRow("stage", "body", tuple(modules), tuple(tensors))


def test_what_a_stage_contains_in_few_words() -> None:
    assert contents(row(["conv1", "bn1", "relu"], ["conv1.weight", "bn1.weight"])) == [
        "conv1",
        "bn1",
    ]
    assert contents(row(["0", "1", "2"], ["0.weight"])) == ["0-2"]  # the model is a Sequential
    assert contents(row(["a.9", "a.10", "b.11"], ["a.10.weight", "b.11.w"])) == ["a.9-10", "b.11"]
    assert contents(row(["patch"], ["cls_token", "patch.proj.weight"])) == ["patch", "cls_token"]
    assert contents(row([], ["pos.0", "pos.1", "pos.2"])) == ["pos.0-2"]
    assert contents(row(["pool", "flatten"], [])) == ["pool", "flatten"]
    assert contents(row([], [])) == []


def test_norms_are_counted_where_they_are() -> None:
    rows = stage_rows(Backbone(load_backbone("timm:coatnet_0_224", device="meta")))
    assert [row.norms for row in rows if row.kind in ("stem", "body")] == [
        {"batch": 1},
        {"batch": 6},
        {"batch": 9},
        {"layer": 10},
        {"layer": 4},
    ]


def test_a_norm_in_no_stage_is_told_so() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.InstanceNorm1d(2), nn.Linear(2, 2))
    stages = [
        Stage("stem", "stem", ("0.weight", "0.bias"), modules=("0",)),
        Stage("head", "head", ("2.weight", "2.bias"), modules=("2",)),
    ]
    assert norm_stages(Backbone(net, stager=lambda _: stages)) == {"1": None}
