"""freezekit bench, as a person runs it: real processes, real files, real interruptions."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from freezekit.results.store import load
from tests.fork_server import run
from tests.sampled import exhaustive, sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    Invoke = Callable[..., subprocess.CompletedProcess[str]]

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "sliced_resnet.py")
TINY = ("timm:test_resnet", "--image-size", "32", "--batch-size", "2", "--threads", "1")

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from freezekit import FreezePlan, Strategy, hookimpl

@dataclass(frozen=True)
class Faulty(Strategy):
    name: ClassVar[str] = "faulty"
    summary: ClassVar[str] = "raises in plan()"
    def plan(self, backbone):
        raise KeyError("oh dear")

@hookimpl
def freezekit_strategies():
    return [Faulty]
"""


def bench(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `freezekit bench`: in a process of its own where it is given an environment."""
    if env is None:
        return run("bench", *args)
    return subprocess.run(
        [sys.executable, "-m", "freezekit", "bench", *args],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | env,
    )


def rows(path: Path) -> dict[str, dict]:
    return {row["strategy"]: row for row in json.loads(path.read_text())["rows"]}


@pytest.fixture
def faulty(tmp_path: Path) -> dict[str, str]:
    """The environment in which a distribution with a faulty strategy is installed."""
    info = tmp_path / "site" / "faulty_plugin-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-plugin\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[freezekit]\nfaulty = faulty_module\n")
    (tmp_path / "site" / "faulty_module.py").write_text(PLUGIN)
    return {"PYTHONPATH": str(tmp_path / "site")}


def test_static_figures_of_all_strategies_in_all_formats(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("r.json", "r.csv", "r.md", "r.html")]
    outputs = [arg for file in files for arg in ("-o", str(file))]
    done = bench(*TINY, "--static", *outputs, env={})
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    found = rows(files[0])
    assert list(found)[:2] == ["full", "head-only"]
    assert len(found) == 6
    saved = {spec: row["memory"]["saved_activations_bytes"] for spec, row in found.items()}
    assert saved["head-only"] < saved["first-n-stages:n=2"] < saved["full"]
    assert found["head-only"]["flops"]["backward"] < found["full"]["flops"]["backward"]
    assert "5 of 15 norm layers" in str(found["by-name:contains=bn"]["warnings"])
    with files[1].open(newline="") as lines:
        assert [line["strategy"] for line in csv.DictReader(lines)] == list(found)
    assert "| head-only |" in files[2].read_text().replace("`", "")
    assert '<th scope="row">head-only</th>' in files[3].read_text()


def labels(path: Path) -> list[str]:
    (result,) = load(path)
    return [row.label for row in result.rows]


@pytest.mark.exhaustive
def test_static_figures_in_stock_and_lean_side_by_side(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("r.json", "r.csv")]
    outputs = [arg for file in files for arg in ("-o", str(file))]
    done = bench(*TINY, "--static", "--explain", "--lean", "both", "-s", "batch-norm", *outputs)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    (result,) = load(files[0])
    assert labels(files[0]) == ["full", "full [lean]", "batch-norm", "batch-norm [lean]"]
    stock, lean = result.rows[2:]
    assert (stock.strategy, stock.parameters, stock.plugin) == (
        lean.strategy,
        lean.parameters,
        lean.plugin,
    )
    assert lean.memory.saved_activations_bytes < stock.memory.saved_activations_bytes
    said = " ".join(done.stdout.split())
    assert "batch-norm [lean] keeps" in said
    with files[1].open(newline="") as lines:
        found = [(line["strategy"], line["lean"]) for line in csv.DictReader(lines)]
    assert found[1:3] == [("full", "true"), ("batch-norm", "false")]


def test_with_lean_on_the_baseline_alone_is_stock(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    args = ("--static", "--lean", "on", "-s", "batch-norm", "-o", str(file), "--threads", "64")
    done = bench(*TINY, *args)
    assert done.returncode == 0, done.stderr
    assert "step times" not in done.stdout, "none are taken: however busy the machine is"
    assert labels(file) == ["full", "batch-norm [lean]"]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_default_strategies_with_lean_on(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    done = bench("timm:test_vit", "--static", "--lean", "on", "-o", str(file))
    assert done.returncode == 0, done.stderr
    assert labels(file)[:3] == ["full", "full [lean]", "head-only [lean]"]
    (result,) = load(file)
    left_out = [note for note in result.notes if note.startswith("left out")]
    assert sum(note.startswith("left out batch-norm [lean]: ") for note in left_out) == 1
    done = bench("timm:test_vit", "--static", "--lean", "both", "-o", str(file))
    (result,) = load(file)
    assert [note for note in result.notes if note.startswith("left out")] == [
        note.replace(" [lean]", "") for note in left_out
    ], "what is refused in stock and lean alike is told once"


@pytest.mark.slow
def test_a_whole_run_in_stock_and_lean(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    args = ("--lean", "both", "--explain", "-s", "batch-norm", "-o", str(file), "--budget", "1")
    done = bench(*TINY, *args)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    (result,) = load(file)
    assert result.raw is not None
    for row in result.rows:
        memory = row.memory
        assert memory.peak_method == "measured", row.label
        assert memory.tracker_peak_bytes == memory.predicted_peak_bytes, row.label
        assert row.time is not None
        assert (row.time.ratio_to_stock_ci is not None) is row.lean, row.label
        assert all(row.label in turns for rounds in result.raw.steps for turns in rounds)
    assert re.search(
        r"batch-norm \[lean\] keeps .* MiB \(-?.*\) and takes .* \[.*\] of the step time of stock",
        " ".join(done.stdout.split()),
    )


def test_static_figures_of_cached_rows(tmp_path: Path) -> None:
    """A strategy whose prefix cannot be cached has a row that says why."""
    file = tmp_path / "r.json"
    strategies = ("-s", "head-only", "-s", "batch-norm")
    done = bench(*TINY, "--static", "--cache", "both", *strategies, "-o", str(file))
    assert done.returncode == 4, done.stderr
    said = " ".join(done.stdout.split())
    assert "batch-norm [cache]: error" in said
    assert "no call of a module comes before all that is trained" in said
    assert labels(file) == [
        "full", "head-only", "head-only [cache]", "batch-norm", "batch-norm [cache]",
    ]  # fmt: skip
    (result,) = load(file)
    full, plain, cached, refused, error = result.rows
    assert (refused.status, error.status) == ("ok", "error")
    for row in (plain, cached):
        assert row.cache is not None
        assert (row.cache.bytes_per_sample, row.cache.boundary) == (384, ("global_pool",))
    assert full.cache is not None
    assert full.cache.reason is not None
    assert cached.flops is not None
    assert plain.flops is not None
    assert plain.cache is not None
    skipped = 2 * (plain.cache.skipped_flops or 0)  # two samples
    assert cached.flops.forward == plain.flops.forward - skipped
    # Rows, labels, and a number for each of nine outputs that nobody needs.
    assert cached.memory.inputs_bytes == 2 * 384 + 2 * 8 + 9 * 4
    assert (cached.memory.peak_bytes or 0) < (plain.memory.peak_bytes or 0)


@pytest.mark.slow
def test_a_whole_run_with_and_without_a_cache(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    args = ("--cache", "both", "--explain", "-s", "head-only", "-o", str(file), "--budget", "1")
    done = bench(*TINY, *args)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    (result,) = load(file)
    plain, cached = result.rows[1:]
    assert plain.filling is None
    filling = cached.filling
    assert filling is not None
    assert filling.fill_seconds_per_1000_samples > 0
    assert filling.ratio_to_uncached_ci is not None
    assert (filling.verdict == "faster") is (filling.pays_after_epochs is not None)
    assert result.raw is not None
    assert len(result.raw.fill) == len(result.raw.steps)
    assert "1,000 samples take" in " ".join(done.stdout.split())


def test_a_model_that_runs_in_stock_alone_costs_its_lean_rows(tmp_path: Path) -> None:
    (tmp_path / "stock.py").write_text(
        "from torch import nn\n"
        "class Stock(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        if 'forward' in vars(self):\n            raise ValueError('no stand-in')\n"
        "        return self.fc(self.conv(x).mean((2, 3)))\n"
    )
    file = tmp_path / "r.json"
    args = ("--image-size", "16", "--static", "--lean", "both", "-s", "head-only", "-o", str(file))
    done = bench(f"{tmp_path / 'stock.py'}:Stock", *args)
    assert done.returncode == 4, done.stderr
    (result,) = load(file)
    assert [row.status for row in result.rows] == ["ok", "error", "ok", "error"]
    assert all("no stand-in" in row.error for row in result.rows if row.error)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_lean_row_that_fails_is_an_error_row_like_any_other(
    tmp_path: Path, faulty: dict[str, str]
) -> None:
    file = tmp_path / "r.json"
    args = ("--static", "--lean", "both", "-s", "faulty", "-s", "batch-norm", "-o", str(file))
    done = bench(*TINY, *args, env=faulty)
    assert done.returncode == 4, done.stderr
    (result,) = load(file)
    status = {row.label: row.status for row in result.rows}
    assert status["faulty [lean]"] == status["faulty"] == "error"
    assert status["batch-norm [lean]"] == status["batch-norm"] == "ok"
    assert "faulty [lean]: error (plugin faulty, faulty-plugin 1.2)" in " ".join(
        done.stdout.split()
    )


@pytest.mark.slow
def test_a_whole_run_with_a_strategy_that_fails(tmp_path: Path, faulty: dict[str, str]) -> None:
    file = tmp_path / "r.json"
    done = bench(
        *TINY, "-s", "head-only", "-s", "faulty", "-o", str(file), "--budget", "1", env=faulty
    )
    assert done.returncode == 4, done.stderr
    found = rows(file)
    assert found["faulty"]["status"] == "error"
    assert "faulty-plugin 1.2" in found["faulty"]["error"]
    assert "KeyError: 'oh dear'" in found["faulty"]["error"]
    for spec in ("full", "head-only"):
        memory = found[spec]["memory"]
        assert found[spec]["status"] == "ok"
        assert memory["tracker_peak_bytes"] == memory["predicted_peak_bytes"]
        assert memory["peak_bytes"] == memory["tracker_peak_bytes"] + memory["workspace_bytes"]
        assert found[spec]["time"]["step_seconds"]["median"] > 0
    assert found["full"]["time"]["verdict"] == "baseline"
    (result,) = load(file)
    assert result.complete
    assert result.control is not None
    assert result.raw is not None
    assert len(result.raw.steps) == result.timing_design["blocks"] >= 5


@pytest.mark.exhaustive
def test_the_example_with_a_loss_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    args = ("--image-size", "64", "--batch-size", "2", "--static", "--explain", "-o", str(file))
    done = bench(f"{EXAMPLE}:factory", "-s", "batch-norm", "-s", "by-name:contains=bn", *args)
    assert done.returncode == 0, done.stderr
    assert "cross-entropy over 64 classes of output 2 of 6" in " ".join(done.stdout.split())
    found = rows(file)
    assert (
        found["batch-norm"]["parameters"]["trainable"]
        < (found["by-name:contains=bn"]["parameters"]["trainable"])
    )
    done = bench(f"{EXAMPLE}:factory", "-s", "head-only", *args, "--loss", f"{EXAMPLE}:loss")
    assert done.returncode == 0, done.stderr
    assert f"{EXAMPLE}:loss" in "".join(done.stdout.split())


@pytest.mark.slow
def test_two_models_make_one_file(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    done = bench("timm:test_resnet", "timm:test_vit", "--static", "-o", str(file))
    assert done.returncode == 0, done.stderr
    first, second = load(file)
    assert (first.workload.model, second.workload.model) == ("timm:test_resnet", "timm:test_vit")
    # A default strategy that a model cannot take is left out with a note, and is no failure.
    assert "batch-norm" not in [row.strategy for row in second.rows]
    assert any("left out batch-norm" in note for note in second.notes)


def test_a_model_that_cannot_be_had_costs_itself_alone(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    (tmp_path / "own.py").write_text("def build(): raise KeyError('oh dear')\n")
    models = (f"{tmp_path / 'own.py'}:build", "timm:test_resnet", "torchvision:alexnet")
    done = bench(*models, "--image-size", "16", "--static", "-s", "head-only", "-o", str(file))
    assert done.returncode == 2
    assert "KeyError: 'oh dear'" in done.stderr
    assert "try another --image-size" in done.stderr
    (result,) = load(file)
    assert result.workload.model == "timm:test_resnet"
    bench(models[0], "-o", str(tmp_path / "none.json"))
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("timm:no_such_model", "timm has no model 'no_such_model'"),
        exhaustive(("no_such.py:build", "there is no file 'no_such.py'")),
        exhaustive(("resnet18", "did you mean 'torchvision:resnet18' or")),
    ],
)
def test_all_names_are_looked_up_before_anything_is_measured(
    model: str, message: str, invoke: Invoke
) -> None:
    done = invoke("bench", *TINY, model, "--static", "-s", "head-only")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "nothing was measured" in done.stderr
    assert "counting memory" not in done.stderr


@pytest.mark.exhaustive
def test_a_model_whose_process_dies_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "dead.py").write_text(
        "import os, signal\ndef dead(): os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    file, dead = tmp_path / "r.json", f"{tmp_path / 'dead.py'}:dead"
    options = ("--static", "-s", "head-only", "-o", str(file), "--fail-if", "peak_bytes > full")
    done = bench(dead, *TINY, *options)
    assert done.returncode == 4, done.stderr
    assert f"Error: the process that measures {dead} was ended by SIGSEGV" in done.stderr
    assert "pass: peak_bytes > full (1 of 1 rows)" in done.stdout
    assert list(rows(file)) == ["full", "head-only"]
    done = bench(dead, "torchvision:alexnet", *TINY, *options)
    assert done.returncode == 2, "a model that does not take the images is wrong usage"
    assert "was ended by SIGSEGV" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("timm:test_resnett",), "timm has no model 'test_resnett', did you mean 'test_resnet'"),
        (("-s", "batchnorm"), "unknown strategy 'batchnorm', did you mean 'batch-norm'"),
        (("-s", "first-n-stages"), "first-n-stages: option 'n' is missing"),
        (("-s", "first-n-stages:m=1"), "unknown option 'm'"),
        (("-s", "first-n-stages:n=two"), "option 'n'"),
        (("-o", "/no/such/folder/r.json"), "there is no folder '/no/such/folder'"),
        (("-o", "/tmp"), "it is a folder"),
        (("--lean", "yes"), "'yes' is not one of 'off', 'on', 'both'"),
        (("-o", "r.xlsx"), "expected .json, .csv, .md, "),
        (("torchvision:alexnet", "--image-size", "16"), "try another --image-size"),
        (("timm:test_resnet", "--loss", "no.py:f"), "there is no file 'no.py'"),
        (("--batch-size", "0"), "--batch-size"),
        pytest.param(
            ("--device", "cuda"),
            "torch sees no CUDA device here; use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    args: tuple[str, ...], message: str, invoke: Invoke
) -> None:
    done = invoke("bench", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def started(*args: str, until: str) -> subprocess.Popen[str]:
    """Start a run that is in the middle of a phase."""
    process = subprocess.Popen(
        [sys.executable, "-m", "freezekit", "bench", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    next(line for line in process.stderr if until in line)
    return process


def test_the_help_fits_a_terminal_of_80_columns() -> None:
    done = bench("--help", env={"COLUMNS": "80"})
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Where several apply: the first of 130, 2, 4, 1 and 3" in " ".join(done.stdout.split())


def test_ctrl_c_before_anything_is_measured_names_no_file(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    process = started(*TINY, "-o", str(file), until="importing torch")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    *printed, last = err.splitlines()
    assert last == "interrupted; the same command with --resume continues"
    importing = "timm:test_resnet: importing torch, torchvision, timm"
    assert set(printed) <= {importing}  # rich may repeat it
    assert not file.exists()


@pytest.mark.exhaustive
def test_ctrl_c_without_resume_keeps_a_whole_run_that_was_there(
    tmp_path: Path, earlier_run: str
) -> None:
    path = tmp_path / "r.json"
    path.write_text(earlier_run)
    whole = load(path)
    process = started(*TINY, "-s", "bias-only", "-o", str(path), until="measuring memory")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert load(path)[:1] == whole
    assert [row.label for row in load(path)[1].rows] == ["full", "bias-only"]
    assert "no complete run is lost from the file" in err
    assert bench(*TINY, "--static", "-s", "bias-only", "-o", str(path)).returncode == 0
    assert [row.label for row in load(path)[0].rows] == ["full", "bias-only"], (
        "a whole run takes the file"
    )


@pytest.mark.slow
@pytest.mark.parametrize("phase", sampled(["timing steps", "measuring memory"], every=2))
def test_ctrl_c_stops_and_keeps_what_is_done(tmp_path: Path, phase: str) -> None:
    file, page = tmp_path / "r.json", tmp_path / "r.html"
    outputs = ("-o", str(file), "-o", str(page))
    process = started("timm:test_vit", *TINY, "-s", "head-only", *outputs, until=phase)
    assert not page.exists(), "drawing charts would take the cores that steps are timed on"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        f"interrupted; what was measured is in {file}, {page}; not started: timm:test_resnet; "
        "the same command with --resume continues"
    )
    assert "head-only" in out
    (result,) = load(file)
    assert not result.complete
    assert all(row.flops for row in result.rows)
    measured = [row.memory.peak_method == "measured" for row in result.rows]
    assert all(measured) == (phase == "timing steps")
    assert "interrupted: the run did not finish" in page.read_text()


@pytest.mark.slow
def test_a_model_that_kills_its_process_costs_its_rows(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os, signal\nfrom torch import nn, Tensor\n"
        "class Deadly(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        if type(x) is Tensor and not x.is_meta and x.requires_grad is False:\n"
        "            if not self.conv.weight.requires_grad:\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self.fc(self.conv(x).mean((2, 3)))\n"
    )
    file = tmp_path / "r.json"
    model = f"{tmp_path / 'deadly.py'}:Deadly"
    done = bench(model, "-s", "head-only", "-o", str(file), "--image-size", "16", "--budget", "1")
    assert done.returncode == 4, done.stderr
    found = rows(file)
    assert found["head-only"]["status"] == "oom"
    assert "killed (SIGKILL)" in found["head-only"]["error"]
    assert found["full"]["status"] == "ok"
    assert found["full"]["time"]["verdict"] == "baseline"


@pytest.mark.slow
def test_a_timing_process_that_dies_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(
        "import os\nfrom torch import nn, Tensor\n"
        "class Dying(nn.Module):\n"
        "    calls = 0\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        Dying.calls += type(x) is Tensor and not x.is_meta\n"
        "        if Dying.calls > 6:\n            os._exit(9)\n"
        "        return self.fc(self.conv(x).mean((2, 3)))\n"
    )
    file = tmp_path / "r.json"
    model = f"{tmp_path / 'dying.py'}:Dying"
    done = bench(model, "-s", "head-only", "-o", str(file), "--image-size", "16", "--budget", "1")
    assert done.returncode == 4, done.stdout
    found = rows(file)
    assert all("ended with code 9" in row["error"] for row in found.values())
    assert all(row["memory"]["peak_method"] == "measured" for row in found.values())


def test_a_model_that_reads_values_can_be_staged_and_measured(tmp_path: Path) -> None:
    (tmp_path / "reads.py").write_text(
        "from torch import nn\n"
        "class Reads(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        x = self.conv(x)\n"
        "        x = x * 2 if x.sum().item() > 0 else x\n"
        "        return self.fc(x.mean((2, 3)))\n"
    )
    file = tmp_path / "r.json"
    model = f"{tmp_path / 'reads.py'}:Reads"
    done = bench(model, "-s", "head-only", "-o", str(file), "--image-size", "16", "--static")
    assert done.returncode == 0, done.stdout + done.stderr
    row = rows(file)["head-only"]
    assert row["parameters"]["trainable"] == 8
    assert "needs real numbers" in str(row["warnings"])
