"""`freezekit show MODEL --schedule TEXT`: the phases of a run."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from freezekit import Backbone, load_backbone, load_registry
from freezekit.cli import main
from freezekit.cli.phase_table import phase_table
from freezekit.cli.phases import Cost, Followed
from freezekit.schedules.preview import preview

if TYPE_CHECKING:
    from pathlib import Path

RESNET = ("timm:test_resnet", "--image-size", "64")
VIT = ("timm:test_vit", "--image-size", "160")


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["show", *args])


def phases_of(*args: str) -> dict[str, Any]:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of each table, by rows."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [
        [re.split(r"\s{2,}", line.strip()) for line in lines if set(line) != {"─"}]
        for lines in blocks
        if any(set(line) == {"─"} for line in lines)
    ]


def test_phases_of_a_timeline_in_text() -> None:
    text = "head-only then first-n-stages:n=1 at 1ep then full at 50%"
    result = run(*RESNET, "--schedule", text, "--epochs", "4", "--steps-per-epoch", "25")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["ResNet: 3 phases in 4 epochs of 25 steps", text]
    assert max(map(len, lines)) <= 80
    listed, grid = tables(result.stdout)
    assert listed[0] == [
        "phase",
        "begins",
        "steps",
        "plan",
        "trained",
        "peak MiB",
        "GFLOP",
        "cache",
    ]
    assert [row[7] for row in listed[1:]] == ["384 B", "32 KiB", "-"]
    assert [row[:4] for row in listed[1:]] == [
        ["1", "0ep", "25", "head-only"],
        ["2", "1ep", "25", "first-n-stages:n=1"],
        ["3", "2ep", "50", "full"],
    ]
    assert listed[3][4].endswith("(100%)")
    peaks = [float(row[5]) for row in listed[1:]]
    assert peaks == sorted(peaks)
    assert grid[0] == ["stage", "1", "2", "3"]
    cells = {row[0]: row[1:] for row in grid[1:]}
    assert cells["stem"] == ["-", "-", "train"]
    assert cells["head"] == ["train"] * 3
    assert "-: frozen;" in result.stdout
    assert "Under fully_shard, shard each stage on its own" in result.stdout
    assert "--steps-per-epoch" not in result.stdout


@pytest.mark.parametrize("model", [RESNET, VIT], ids=lambda args: args[0])
def test_phases_of_several_models_as_data(model: tuple[str, ...]) -> None:
    text = "gradual-unfreeze:every=1ep,decay=0.5"
    data = phases_of(*model, "--schedule", text, "--epochs", "2", "--steps-per-epoch", "5")
    assert (data["model"], data["schedule"]) == (model[0], "gradual-unfreeze:decay=0.5")
    assert (data["epochs"], data["steps_per_epoch"], data["observes"]) == (2, 5, [])
    phases = data["phases"]
    assert [phase["begins"] for phase in phases] == [
        {"step": 5 * epoch, "epoch": epoch, "position": epoch} for epoch in range(2)
    ]
    assert [phase["steps"] for phase in phases] == [5, 5]
    for one, other in pairwise(phases):
        assert one["peak_bytes"] < other["peak_bytes"]
        assert one["flops"]["backward"] <= other["flops"]["backward"]
        assert set(one["plan"]["frozen"]) > set(other["plan"]["frozen"])
    for phase in phases:
        assert phase["problem"] == ""
        trained = {stage["name"] for stage in phase["stages"] if stage["trainable"]}
        assert set(phase["rates"]) & trained == trained - {
            stage["name"] for stage in phase["stages"] if stage["kind"] in ("head", "neck")
        }
    assert phases[0]["reason"].startswith("0 of ")


def test_without_steps_an_epoch_has_a_hundred_and_the_text_says_so() -> None:
    result = run(*RESNET, "--schedule", "head-only then full at 50%", "--epochs", "5")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("ResNet: 2 phases in 5 epochs\n")
    listed, _ = tables(result.stdout)
    assert "steps" not in listed[0]
    assert [row[1] for row in listed[1:]] == ["0ep", "2.5ep"]
    assert "Reckoned with 100 steps per epoch; --steps-per-epoch sets the number." in result.stdout
    data = phases_of(*RESNET, "--schedule", "full")
    assert (data["epochs"], data["steps_per_epoch"]) == (10, None)
    (phase,) = data["phases"]
    assert (phase["steps"], phase["begins"]["step"]) == (None, None)


def test_the_peak_counts_the_momentum_that_earlier_phases_left() -> None:
    first, second = (
        phases_of(*RESNET, "--schedule", text)["phases"]
        for text in ("head-only", "full then head-only at 50%")
    )
    (alone,), (_, later) = first, second
    left = sum(stage["parameters"] - stage["trainable"] for stage in alone["stages"])
    assert later["peak_bytes"] - alone["peak_bytes"] == pytest.approx(4 * left, rel=0.01)


def table_of(schedule: str, backbone: Backbone, epochs: int = 10) -> list[list[list[str]]]:
    """Return the tables at 80 columns, without what steps cost."""
    registry = load_registry()
    made = registry.schedule(schedule)
    phases = preview(made, backbone, registry, epochs=epochs, steps_per_epoch=20)
    followed = Followed(schedule, epochs, 20, (), phases, (Cost(),) * len(phases), 8)
    text = phase_table(followed, backbone, width=80)
    assert max(map(len, text.splitlines())) <= 80
    return tables(text)


@pytest.mark.parametrize("schedule", ["freeze-out", "one-cycle-unfreeze", "chain-thaw"])
@pytest.mark.parametrize("model", ["torchvision:resnet18", "timm:vit_tiny_patch16_224"])
def test_no_cell_is_folded_at_80_columns(schedule: str, model: str) -> None:
    backbone = Backbone(load_backbone(model, device="meta"))
    listed, *grids = table_of(schedule, backbone)
    assert len({len(row) for row in listed}) == 1
    stages = ["stage", *(stage.name for stage in backbone.stages)]
    for grid in grids:
        assert [row[0] for row in grid] == stages
        assert all(len(row) == len(grid[0]) for row in grid)
    assert [name for grid in grids for name in grid[0][1:]] == [row[0] for row in listed[1:]]


def test_phases_that_do_not_fit_side_by_side_go_on_in_another_grid() -> None:
    specs = ["head-only", *(f"last-n-stages:n={i % 2 + 1} at {i}ep" for i in range(1, 10))]
    backbone = Backbone(load_backbone("torchvision:resnet18", device="meta"))
    _, *grids = table_of(" then ".join(specs), backbone)
    assert [grid[0][1:] for grid in grids] == [list("12345678"), ["9", "10"]]


def test_rates_are_those_of_the_first_and_the_last_step() -> None:
    backbone = Backbone(load_backbone("torchvision:resnet18", device="meta"))
    _, grid, *_ = table_of("freeze-out:t0=0.5,how=linear", backbone, epochs=4)
    cells = {row[0]: row[1] for row in grid[1:]}
    assert cells["stem"] == "x 2 to 0.00308"  # 2 cos²(39/40 π/2), one step before it is frozen
    assert re.fullmatch(r"x 1 to 0\.5\d*", cells["head"])
    _, grid, *_ = table_of("freeze-out", backbone)
    assert grid[1][1] == "x 1.95 to ~0"


def test_a_schedule_that_observes_says_what_is_not_known() -> None:
    result = run(*RESNET, "--schedule", "plasticity")
    assert "observes outputs and rate: the later phases depend on the training." in result.stdout
    data = phases_of(*RESNET, "--schedule", "on-plateau", "--steps-per-epoch", "5")
    assert data["observes"] == ["metrics"]
    assert [(phase["spec"], phase["steps"]) for phase in data["phases"]] == [("head-only", None)]


def test_what_cannot_be_staged_is_listed_by_its_modules(tmp_path: Path) -> None:
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
    result = run(f"{source}:Net", "--schedule", "by-name:contains=a. then full at 1ep")
    assert result.exit_code == 0, result.output
    _, grid = tables(result.stdout)
    assert grid[1:] == [["a", "-", "train"], ["b", "train", "train"], ["fc", "train", "train"]]
    assert "listed by top-level module" in result.stdout
    refused = run(f"{source}:Net", "--schedule", "freeze-out")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "what it uses first depends on what it uses last" in refused.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("head-only then full at 500step",),
            "the time 500step needs the number of optimizer steps of an epoch: give "
            "--steps-per-epoch",
        ),
        (
            ("chain-thaw:every=5step",),
            "the time 5step needs the number of optimizer steps of an epoch: give "
            "--steps-per-epoch",
        ),
        (
            ("head-only then full at 12ep",),
            "begins at 12ep, but the training ends after 10 epoch(s) of 100 step(s); give it an "
            "earlier time, or leave it out; --epochs was not given: 10 is taken; "
            "--steps-per-epoch was not given: 100 is taken",
        ),
        (
            ("one-cycle-unfreeze", "--epochs", "1", "--steps-per-epoch", "7"),
            "the training has only 1 epoch(s); give more epochs, or a shorter time as frozen",
        ),
        (
            ("lp-ft", "--epochs", "1000001"),
            "too long to be followed step by step; give --epochs and --steps-per-epoch of at most "
            "1,000,000 steps together",
        ),
        (("lp-fd",), "unknown schedule 'lp-fd', did you mean 'lp-ft'?"),
        (("head-only then ful at 1ep",), "unknown strategy 'ful', did you mean 'full'?"),
        (("full then head-only",), "phase 'head-only' has no time"),
        (
            ("head-only then first-n-stages:n=99 at 1ep",),
            "the phase that begins after 100 step(s) and 1 epoch(s), with 'first-n-stages:n=99'",
        ),
    ],
)
def test_errors_are_one_line_that_names_options(args: tuple[str, ...], message: str) -> None:
    result = run(*RESNET, "--schedule", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "epochs=" not in result.stderr
    assert "steps_per_epoch" not in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--epochs", "3"), "without --schedule there is no run: leave out --epochs"),
        (("--steps-per-epoch", "3"), "there is no run: leave out --steps-per-epoch"),
        (("--schedule", "lp-ft", "-s", "full"), "is about several plans: leave out -s"),
        (("--schedule", "lp-ft", "--params"), "is about several plans: leave out --params"),
        (("--schedule", "lp-ft", "--explain"), "stages of a model: leave out --schedule"),
        (("--schedule", "lp-ft", "--epochs", "0"), "'--epochs': 0 is not in the range x>=1"),
    ],
)
def test_options_that_do_not_go_together(args: tuple[str, ...], message: str) -> None:
    result = run(*RESNET, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
