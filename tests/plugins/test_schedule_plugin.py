"""A third party's schedule, found through a real entry point, in each command and in a training."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner, Result

from freezekit import PluginError, UnknownScheduleError, freeze_, load_registry
from freezekit.cli import main
from freezekit.testing import MODELS, ScheduleContract
from freezekit.testing.models import images

BUILT_IN = {
    "auto-rgn",
    "chain-thaw",
    "freeze-out",
    "gradual-unfreeze",
    "lp-ft",
    "on-plateau",
    "one-cycle-unfreeze",
    "plasticity",
}


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def ran(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code, result.output
    return result


def test_schedules_lists_name_summary_and_origin(site) -> None:
    site.add_late()
    result = ran("schedules")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["schedule", "summary", "from"]
    names = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert names == [*sorted(BUILT_IN), "late"]
    assert lines[-1].split() == ["late", "thaw", "everything", "late", "late-plugin", "1.2"]
    assert max(map(len, lines)) <= 80
    assert result.stderr == ""


def test_schedules_as_json(site) -> None:
    site.add_late()
    site.add("bad-plugin", {"bad": "1 / 0"})
    result = ran("schedules", "--json")
    data = json.loads(result.stdout)
    assert list(data) == ["schedules", "notes"]
    assert {each["name"] for each in data["schedules"]} == {*BUILT_IN, "late"}
    (late,) = (each for each in data["schedules"] if each["name"] == "late")
    assert late == json.loads(ran("schedules", "late", "--json").stdout)
    assert late["plugin"] == {"name": "slow", "distribution": "late-plugin", "version": "1.2"}
    assert "note: 1 plugin(s) failed" in ran("schedules").stderr


def test_one_schedule_in_full(site) -> None:
    site.add_late()
    assert ran("schedules", "late").stdout.splitlines() == [
        "late: thaw everything late",
        "from late-plugin 1.2 (slow)",
        "",
        "Thaw late.",
        "",
        "As in `late:at=3ep`.",
        "",
        "option  takes  default  help",
        "at      time   50%      when all is thawed",
        "",
        "As a schedule: late:at=3ep",
    ]


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_each_built_in_schedule_is_described_in_80_columns(name: str) -> None:
    lines = ran("schedules", name).stdout.splitlines()
    assert lines[0].startswith(f"{name}: ")
    assert lines[-1].startswith(f"As a schedule: {name}")
    assert max(len(line) for line in lines if not line.startswith(" ")) <= 80  # but for examples


def test_an_unknown_schedule_and_a_strategy_are_no_schedules() -> None:
    for name, said in (("lpft", "did you mean 'lp-ft'"), ("head-only", "head-only")):
        result = CliRunner().invoke(main, ["schedules", name])
        assert result.exit_code == UnknownScheduleError.exit_code, result.output
        assert f"unknown schedule {name!r}" in result.stderr
        assert said in result.stderr


def test_plugins_shows_it_and_it_can_be_blocked(site) -> None:
    site.add_late()
    assert ran("plugins").stdout.splitlines()[-1].split() == [
        "slow", "late-plugin", "1.2", "ok", "late"
    ]  # fmt: skip
    assert "late-plugin" not in ran("schedules", "--block", "slow").stdout
    refused = ran("show", "timm:test_resnet", "--schedule", "late", "--block", "slow", code=2)
    assert "unknown schedule 'late'" in refused.stderr


def test_show_follows_it(site) -> None:
    site.add_late()
    args = ("timm:test_resnet", "--image-size", "64", "--schedule", "late:at=3ep", "--epochs", "4")
    data = json.loads(ran("show", *args, "--json").stdout)
    assert [(p["spec"], p["begins"]["epoch"], p["reason"]) for p in data["phases"]] == [
        ("head-only", 0, ""),
        ("full", 3, "it is late"),
    ]


def test_a_training_follows_it_and_it_keeps_the_contract(site) -> None:
    site.add_late()
    registry = load_registry()
    frozen = freeze_(MODELS["tied"](), "full", registry=registry, example_input=images())
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    run = frozen.follow("late", optimizer, epochs=2)
    assert "fc.weight" not in run.plan.frozen
    assert "conv.weight" in run.plan.frozen
    run.epoch()
    assert not run.plan.frozen
    made = registry.schedule("late:at=7step")
    contract = ScheduleContract()
    contract.test_decisions_are_valid_and_pure(made, "residual")
    contract.test_a_short_training_follows_it(made, "tied")


def test_one_that_fails_is_named_with_its_plugin(site) -> None:
    site.add_late()
    source = (site.path / "slow.py").read_text()
    (site.path / "slow.py").write_text(source.replace("is_late =", "1 / 0; is_late ="))
    result = ran("show", "timm:test_resnet", "--schedule", "late", code=PluginError.exit_code)
    assert "schedule 'late' (plugin 'slow' of late-plugin 1.2) failed: ZeroDiv" in result.stderr
