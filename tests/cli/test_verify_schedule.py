"""freezekit verify --schedule, in one process and in several."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from torch import distributed

from freezekit.cli import main
from freezekit.cli.verify_schedule import _merged
from freezekit.verify import Check, ScheduleVerification
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "head-only then full at 1ep"
NOTHING = "full then by-name:contains=. + by-name:contains=_ at 1ep"
"""Freezes all parameters of `test_vit` in its second phase."""
SMALL = ("--image-size", "32")
MODELS = """
import os, time
from pathlib import Path
import torch
from torch import distributed
from freezekit.testing import MODELS

class Net(type(MODELS["residual"]())):
    trained = 0

    def forward(self, x):
        in_training = x.device.type == "cpu" and self.training and distributed.is_initialized()
        if in_training:
            Net.trained += 1
            if Net.trained >= 3:
                self.act(distributed.get_rank())
        return super().forward(x)

    def act(self, rank):
        pass

class Dying(Net):
    def act(self, rank):
        if rank == 1:
            os.kill(os.getpid(), 9)

class Raising(Net):
    def act(self, rank):
        if rank == 1:
            raise ValueError("no such token")

class Sleeping(Net):
    def act(self, rank):
        Path(__file__).with_name(f"{rank}.pid").write_text(str(os.getpid()))
        time.sleep(600)

def not_rebuilt():
    from freezekit.schedules import change
    right = change.rebuild_
    change.rebuild_ = lambda ddp: None if ddp.module.conv1.weight.requires_grad else right(ddp)
    return Net()
"""

on_ranks = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="this build of torch has no gloo",
)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ("verify", *args))


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return str(path)


def test_each_phase_is_proved_within_80_columns() -> None:
    result = run("timm:test_resnet", "--schedule", TEXT, *SMALL)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:6] == [
        "timm:test_resnet",
        TEXT,
        "",
        "phase  begins  steps    trained  plan",
        "    1     0ep      2    2 of 47  head-only",
        "    2     1ep      2   47 of 47  full",
    ]
    assert lines[-1] == "proved on 2 phases, 4 steps of SGD in 2 epochs, input (2, 3, 32, 32)"


def test_json_has_the_phases_and_warnings_do_not_mix() -> None:
    text = "by-name:contains=bn then full at 1ep"
    args = ("--lean", "--json", "--epochs", "2", "--steps-per-epoch", "1", "--num-classes", "4")
    result = run("timm:test_resnet", "--schedule", text, *args, *SMALL)
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    asked = {
        name: data[name] for name in ("schedule", "lean", "epochs", "steps_per_epoch", "nproc")
    }
    assert asked == {
        "schedule": text,
        "lean": True,
        "epochs": 2,
        "steps_per_epoch": 1,
        "nproc": 1,
    }
    assert [(p["spec"], p["begins_step"]) for p in data["phases"]] == [
        ("by-name:contains=bn", 0),
        ("full", 1),
    ]
    assert data["passed"]
    assert re.match(r"warning: .*looks like a norm's", result.stderr)
    assert result.stderr.count("warning:") == 1


def test_a_loss_of_ones_own_and_what_a_factory_froze(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "from freezekit.testing import MODELS\n"
        "def build():\n"
        "    model = MODELS['residual']()\n"
        "    model.conv1.requires_grad_(False)\n"
        "    return model\n"
        "def loss(output):\n"
        "    print('called')\n"
        "    return output.square().mean()\n"
    )
    args = ("--schedule", TEXT, "--loss", f"{path}:loss", "--json", *SMALL)
    result = run(f"{path}:build", *args)
    assert result.exit_code == 0, result.output
    frozen = [phase["frozen_parameters"] for phase in json.loads(result.stdout)["phases"]]
    assert frozen == [24, 1]
    assert "called" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--schedule", TEXT, "-s", "full"), "--schedule says what is frozen when: leave out -s"),
        (("--schedule", TEXT, "--steps", "3"), "leave out --steps; give --epochs and"),
        (("--schedule", TEXT, "--nproc", "1"), "--nproc 1: one process has no other"),
        (("--schedule", TEXT, "--nproc", "2", "--device", "cuda"), "leave out --device cuda"),
        (("--nproc", "2", "-s", "full"), "without --schedule there is no training over time"),
        (("--epochs", "2", "-s", "full"), "over time: leave out --epochs"),
        (("--steps-per-epoch", "2"), "over time: leave out --steps-per-epoch"),
        (("--schedule", "gradual-unfreze"), "did you mean 'gradual-unfreeze'"),
        (("--schedule", "head-only then fll at 1ep"), "unknown strategy 'fll'"),
        (("--schedule", NOTHING), "nothing is left to train"),
        (("--schedule", "full then head-only at 3ep", "--epochs", "2"), "ends after 2 epoch(s)"),
        (("--schedule", "full then head-only at 500step"), "at most 100 steps; give that number"),
        (("--schedule", TEXT, "--image-size", "7"), "refuses images of 7"),
    ],
)
def test_errors_are_one_line_and_exit_2(args: tuple[str, ...], message: str) -> None:
    result = run("timm:test_vit", *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_what_one_rank_alone_found_is_kept() -> None:
    good, bad = Check("gradients", True, "all"), Check("gradients", False, "1 lost", ("a",))
    found = {f"rank {i}": ScheduleVerification((check,), "") for i, check in enumerate([good, bad])}
    assert _merged(found).checks == (Check("gradients", False, "on rank 1: 1 lost", ("a",)),)


def start(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "freezekit", "verify", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.slow
@on_ranks
@pytest.mark.exhaustive
def test_ranks_stay_equal_through_all_phases(models: str) -> None:
    args = ("--schedule", TEXT, "--nproc", "2", "--json", *SMALL)
    done = run(f"{models}:Net", *args)
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["nproc"], len(data["phases"])) == (2, 2)
    assert "in 2 epochs on 2 ranks" in data["conditions"]
    (check,) = (c for c in data["checks"] if c["name"] == "equal-on-all-ranks")
    assert check["passed"]


@pytest.mark.slow
@on_ranks
def test_a_thaw_that_the_wrapper_does_not_learn_is_found(models: str) -> None:
    args = ("--schedule", TEXT, "--nproc", "2", *SMALL)
    code, out, err = finish(start(f"{models}:not_rebuilt", *args))
    assert code == 1, err
    assert "FAIL  equal-on-all-ranks      phase 2: unlike rank 0, on rank 1: another value" in out
    assert "        conv1.weight\n" in out
    assert max(map(len, out.splitlines()[1:])) <= 80


@pytest.mark.slow
@on_ranks
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Dying", "Error: rank 1 was killed (SIGKILL), as the system does when memory runs out"),
        exhaustive(
            (
                "Raising",
                "Error: rank 1: Raising does not take an input of shape (2, 3, 32, 32): Value",
            )
        ),
    ],
)
def test_a_rank_that_fails_ends_all_with_its_message(models: str, name: str, message: str) -> None:
    done = run(f"{models}:{name}", "--schedule", TEXT, "--nproc", "2", *SMALL)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(message), done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@on_ranks
def test_an_interrupt_ends_all_processes(models: str, tmp_path: Path) -> None:
    process = start(f"{models}:Sleeping", "--schedule", TEXT, "--nproc", "2", *SMALL)
    files = [tmp_path / f"{rank}.pid" for rank in range(2)]
    try:
        while not all(file.exists() and file.read_text() for file in files):
            assert process.poll() is None, finish(process)
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
    finally:
        process.kill()
    assert (code, err) == (130, "\ninterrupted\n")
    for file in files:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), 0)
            pytest.fail("a rank lives on")


def test_help_imports_no_torch() -> None:
    script = (
        "import sys, freezekit.cli.verify_schedule\n"
        "assert 'torch' not in sys.modules, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
