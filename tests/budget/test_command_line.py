"""`--lean budget:SIZE` of the commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from freezekit.cli import main
from freezekit.fit.advice import within_budget
from freezekit.results.records import Workload
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

MODEL = "timm:test_vit", "-s", "bias-only"


def run(*args: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(main, args)


@pytest.mark.exhaustive
def test_bench_has_a_row_with_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    done = run("bench", *MODEL, "--static", "--lean", "budget:1GiB", "-o", str(path))
    assert done.exit_code == 0, done.output
    rows = json.loads(path.read_text())["rows"]
    assert [row["lean"] for row in rows] == [False, "budget:1GiB"]
    assert "bias-only [budget:1GiB]" in done.output
    shown = run("report", str(path))
    assert shown.exit_code == 0
    assert "budget:1GiB" in shown.output


@pytest.mark.exhaustive
def test_bench_says_what_does_not_fit_and_takes_features_and_schedules() -> None:
    spec = "-s", "first-n-stages:n=3", "--schedule", "head-only then full at 50%"
    step = "--static", "--image-size", "96", "--batch-size", "8"
    done = run("bench", MODEL[0], *spec, *step, "--lean", "budget:4MiB", "--cache", "both")
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "first-n-stages:n=3 [budget:4MiB]: a step of this VisionTransformer does not fit" in said
    assert "cannot be predicted" not in said
    assert "head-only then full at 50% [budget:4MiB]: 10 epochs" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("budget:", "'' is no size"),
        ("budget:abc", "'abc' is no size; expected such as 8GiB"),
        ("budget:0", "'0' is no size of a memory"),
        ("budget:3KiX", "units: KiB"),
        ("yes", "'yes' is not one of 'off', 'on', 'both' or a budget such as budget:2GiB"),
    ],
)
@pytest.mark.parametrize("command", ["bench", "fit"])
def test_refuses_what_is_no_budget(command: str, given: str, said: str) -> None:
    done = run(command, *MODEL, "--lean", given)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("args", "lean"),
    [
        (("--lean", *MODEL), True),
        exhaustive(((*MODEL, "--lean"), True)),
        ((*MODEL, "--lean", "budget:1GiB"), "budget:1GiB"),
        exhaustive((("--lean=budget:1GiB", *MODEL), "budget:1GiB")),
    ],
)
def test_verify_takes_lean_alone_or_with_a_budget(args: tuple[str, ...], lean: object) -> None:
    done = run("verify", *args, "--json", "--steps", "1")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["lean"] == lean


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("budget:abc", "'--lean': 'budget:abc': 'abc' is no size"),
        ("both", "'--lean': 'both' is no budget such as budget:2GiB; --lean alone has none"),
    ],
)
def test_verify_refuses_what_is_no_budget(given: str, said: str) -> None:
    done = run("verify", *MODEL, f"--lean={given}")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("command", "compiled"),
    [("bench", ("--compile", "both")), ("fit", ("--compile", "on")), ("verify", ("--compile",))],
)
def test_a_compiled_model_has_no_budget(command: str, compiled: tuple[str, ...]) -> None:
    done = run(command, *MODEL, "--lean", "budget:1GiB", *compiled)
    assert done.exit_code == 2
    assert "torch.compile runs a model without a budget" in " ".join(done.stderr.split())


def test_fit_proposes_a_budget(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    asked = "-s", "full", "--memory", "15MB", "--batch-size", "8", "--lean", "on", "-o", str(path)
    done = run("fit", MODEL[0], *asked)
    assert done.exit_code == 0, done.output
    row = json.loads(path.read_text())["rows"][-1]
    assert row["memory"]["peak_bytes"] > 15_000_000
    advice = row["within_budget"]
    assert advice["peak_bytes"] <= 15_000_000
    assert advice["more_flops"] > 0
    said = " ".join(done.stdout.split())
    assert f"batch 8 does not fit; with --lean {advice['lean']} it fits at +" in said


def test_fit_proposes_none_where_nothing_helps() -> None:
    step = Workload("timm:test_vit", image_size=160)
    assert within_budget(step, "full", None, 2, 2**20) is None
