"""`freezekit bench --engine`: models as tasks, and one result file as ever."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from freezekit.bench import task
from freezekit.bench.run import BenchOptions
from freezekit.bench.task import answered, argument_of, measure
from freezekit.errors import ModelError
from freezekit.results.records import Workload
from freezekit.results.store import load
from freezekit.results.variant import Variant
from tests.fork_server import SERVER, run

if TYPE_CHECKING:
    from pathlib import Path

SIZE = ("--image-size", "32", "--batch-size", "2", "--threads", "1")
ROWS = ("-s", "by-name:contains=weight", "--static")


def models(folder: Path) -> tuple[str, ...]:
    """Two models that are measured, and one that cannot be had."""
    (folder / "own.py").write_text(
        "from torch import nn\n"
        "def small():\n"
        "    layers = nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 2)\n"
        "    return nn.Sequential(*layers)\n"
        "def absent(): raise ValueError('no weights here')\n"
    )
    return f"{folder}/own.py:small", f"{folder}/own.py:absent", "timm:test_resnet"


def both(names: tuple[str, ...], folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Measure models on an engine and without, into two files."""
    return [
        run("bench", *names, *SIZE, *ROWS, *more, "-o", str(folder / f"{name}.json"))
        for name, more in (("engine", ("--engine", "local")), ("here", ()))
    ]


def compared(folder: Path) -> None:
    """Check that both files hold the same but for the facts of the run."""
    found, expected = (load(folder / f"{name}.json") for name in ("engine", "here"))
    assert [one.workload for one in found] == [one.workload for one in expected]
    assert [one.rows for one in found] == [one.rows for one in expected]
    assert [one.env.keys() for one in found] == [one.env.keys() | {"host"} for one in expected]
    assert all(one.complete and one.env["host"] == platform.node() for one in found)


@pytest.mark.cluster
def test_models_keep_their_order_and_one_that_fails_costs_itself_alone(tmp_path: Path) -> None:
    names = models(tmp_path)
    for done in both(names, tmp_path):
        assert done.returncode == 2
        assert "no weights here" in done.stderr.splitlines()[-1]
    compared(tmp_path)
    file = tmp_path / "engine.json"
    before = load(file)
    resumed = ("--engine", "local", "--resume", "-o", str(file))
    again = run("bench", names[0], names[2], *SIZE, *ROWS, *resumed)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing is left to measure") == 2
    assert load(file) == before


def test_what_a_task_answers_says_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "ForkServer", lambda: nullcontext(SERVER))
    small, absent, _ = models(tmp_path)
    options = BenchOptions((Variant("full"), Variant("head-only")), threads=1, static_only=True)
    said: list[str] = []
    workload = Workload(small, batch_size=2, image_size=32)
    answer = json.loads(json.dumps(measure(argument_of(workload, options), said.append)))
    result, asked = answered(answer, options)
    assert result is not None
    assert asked == ((result, frozenset(options.variants)),)
    assert said[-1] == "counting memory and FLOPs"
    failed = measure(argument_of(Workload(absent), options), said.append)
    with pytest.raises(ModelError, match="no weights here"):
        answered(failed, options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--address", "auto"), "--address is that of an engine's cluster: name it with --engine"),
        (("--engine", "local", "--address", "x"), "the engine 'local' has no address, and 'x' was"),
        (("--engine", "ray", "--address", "127.0.0.1:1"), "no Ray cluster can be reached at"),
        (("--engine", "tune"), "'tune' is not one of 'local', 'ray', 'slurm'"),
    ],
)
def test_bad_engines_are_one_line(options: tuple[str, ...], text: str) -> None:
    done = run("bench", "timm:test_resnet", *SIZE, *ROWS, *options)
    assert done.returncode == 2
    assert text in done.stderr.splitlines()[-1]


@pytest.mark.cluster
def test_ctrl_c_keeps_the_models_that_are_done(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time\ndef build(): time.sleep(1000)\n")
    waits, file = f"{tmp_path}/waits.py:build", tmp_path / "r.json"
    command = ("-m", "freezekit", "bench", "timm:test_resnet", waits, *SIZE, *ROWS)
    bench = subprocess.Popen(
        [sys.executable, *command, "--engine", "local", "-o", str(file)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert bench.stderr is not None
    with bench:
        for line in bench.stderr:
            if f"{waits}: counting" in line:
                break
        bench.send_signal(signal.SIGINT)
        rest = bench.stderr.read()
    assert bench.returncode == 130
    assert rest.splitlines()[-1] == (
        f"interrupted; what was measured is in {file}; not started: {waits}; the same command with "
        "--resume continues"
    )
    assert [one.workload.model for one in load(file)] == ["timm:test_resnet"]
