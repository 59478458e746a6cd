"""freezekit fit, as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from freezekit.bench.static import static_figures
from freezekit.report.markdown import render_markdown
from freezekit.results.locking import locked
from freezekit.results.records import Result, Row, StepSeconds, Time, Workload
from freezekit.results.store import to_json
from tests.fork_server import run
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Invoke = Callable[..., subprocess.CompletedProcess[str]]

TINY = ("timm:test_resnet", "--image-size", "32", "--threads", "1")


def fit(*args: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return run("fit", *args, columns=columns)


def test_the_largest_batch_fits_and_the_next_does_not(tmp_path: Path) -> None:
    out, page = tmp_path / "fit.json", tmp_path / "fit.md"
    files = ("-o", str(out), "-o", str(page))
    done = fit(*TINY, "--memory", "20MB", "-s", "head-only", *files, columns=60)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout, "a pipe has no colour"
    assert max(map(len, done.stdout.splitlines())) <= 60
    found = json.loads(out.read_text())
    assert (found["kind"], found["memory_bytes"]) == ("freezekit fit", 20_000_000)
    labels = [(row["strategy"], row["lean"]) for row in found["rows"]]
    assert labels == [("full", False), ("full", True), ("head-only", False), ("head-only", True)]
    for row in found["rows"]:
        peaks = [
            static_figures(
                Workload("timm:test_resnet", batch_size=batch, image_size=32),
                row["strategy"],
                lean=row["lean"],
                flops=False,
                workspace=True,
            ).memory.peak_bytes
            for batch in (row["batch_size"], row["batch_size"] + 1)
        ]
        assert peaks == [row["memory"]["peak_bytes"], row["next_peak_bytes"]]
        assert peaks[0] * 1.0005 <= 20_000_000 < peaks[1] * 1.0005
    assert "| `head-only` |" in page.read_text()
    refused = subprocess.run(
        [sys.executable, "-m", "freezekit", "compare", str(out), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "it is what `freezekit fit` wrote" in refused.stderr


@pytest.mark.parametrize("options", [(), exhaustive((("--batch-size", "32"),))])
def test_what_fits_replaces_what_fitted(tmp_path: Path, options: tuple[str, ...]) -> None:
    out, page = tmp_path / "fit.json", tmp_path / "fit.md"
    page.touch()
    asked = (*TINY, "--memory", "20MB", "-s", "full", "--lean", "off", *options)
    files = ("-o", str(out), "-o", str(page))
    assert fit(*asked, *files).returncode == 0
    first = page.read_text()
    assert fit(*asked, *files, "--margin", "50").returncode == 0
    assert page.read_text() != first
    assert json.loads(out.read_text())["margin"] == 0.5


@pytest.mark.parametrize("name", ["r.json", "r.md"])
def test_another_file_is_not_replaced(tmp_path: Path, name: str, invoke: Invoke) -> None:
    path = tmp_path / name
    run = to_json([timed()])
    for text in (run, render_markdown([timed()]), "# Read me\n", '{"kind": "freezekit', "[1]"):
        path.write_text(text)
        done = invoke("fit", *TINY, "-o", str(path))
        assert done.returncode == 2
        assert (
            f"is no {path.suffix} that this command of freezekit wrote; name another" in done.stderr
        )
        assert path.read_text() == text
    path.write_bytes(b"\xff\xfe\x00")
    assert invoke("fit", *TINY, "-o", str(path)).returncode == 2


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    with locked([str(path)]):
        done = fit(*TINY, "-o", str(path))
    assert done.returncode == 2
    assert "another run is writing" in done.stderr
    assert not list(tmp_path.iterdir())


def test_one_batch_is_asked_for() -> None:
    done = fit(*TINY, "--memory", "6MB", "-s", "head-only", "--batch-size", "32", "--lean", "off")
    assert done.returncode == 0, done.stderr
    answers = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "too much" in answers["full"]
    assert "fits" in answers["head-only"]


@pytest.mark.exhaustive
def test_the_largest_batch_on_features(tmp_path: Path) -> None:
    out = tmp_path / "fit.json"
    args = ("-s", "first-n-stages:n=1", "--lean", "off", "--cache", "both", "--samples", "50000")
    done = fit(*TINY, "--memory", "12MB", *args, "-o", str(out))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "first-n-stages:n=1 [cache]: 8 KiB a sample, 391 MiB for 50,000 samples" in said
    _, plain, cached = json.loads(out.read_text())["rows"]
    assert (plain["cache_bytes_per_sample"], cached["cache_bytes_per_sample"]) == (None, 8 * 1024)
    assert cached["batch_size"] > plain["batch_size"]
    step = Workload("timm:test_resnet", batch_size=cached["batch_size"], image_size=32)
    alone = static_figures(step, "first-n-stages:n=1", cached=True, flops=False, workspace=True)
    assert alone.memory.peak_bytes == cached["memory"]["peak_bytes"]


def test_samples_are_those_of_a_cache() -> None:
    done = fit(*TINY, "--samples", "9")
    assert done.returncode == 2
    assert "--samples tells the size of a cache: give --cache too" in done.stderr


def test_there_is_a_most_that_is_tried() -> None:
    done = fit(*TINY, "--memory", "4000GiB", "-s", "head-only", "--lean", "off")
    assert done.returncode == 0
    assert "head-only: 65536 images fit; no larger batch was predicted" in done.stdout


@pytest.mark.parametrize("pixels", ["32", "64"])
def test_not_even_the_smallest_batch(pixels: str) -> None:
    """At 32 px the model's last batch norm takes no batch of one."""
    model = "timm:test_resnet", "--image-size", pixels
    done = fit(*model, "--memory", "1MB", "-s", "full", "--lean", "off")
    assert done.returncode == 0
    assert "full: not even the smallest batch fits: a step takes" in done.stdout


def test_a_strategy_that_is_refused_costs_its_row() -> None:
    done = fit("timm:test_vit", "--memory", "50MB", "-s", "batch-norm", "--lean", "off")
    assert done.returncode == 4
    assert "batch-norm" in done.stdout
    assert "has no batch norm" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("timm:no_such_model",), "no_such_model"),
        ((*TINY, "--memory", "8gigs"), "'8gigs' is no size; expected such as 8GiB"),
        ((*TINY, "--memory", ""), "'' is no size; expected such as 8GiB"),
        ((*TINY, "--timing", ""), "cannot read ''"),
        ((*TINY, "-s", "bach-norm"), "did you mean 'batch-norm'"),
        ((*TINY, "-o", "r.csv"), "expected .json or .md"),
        ((*TINY, "--timing", "missing.json"), "cannot read 'missing.json'"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], message: str, invoke: Invoke) -> None:
    done = invoke("fit", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def timed(**fields: object) -> Result:
    """Return a bench run of TINY at batch 16 with a step time for `full`."""
    step = Workload("timm:test_resnet", 16, 32, (16, 3, 32, 32))
    row = Row("full", time=Time(StepSeconds(0.5, 0.4, 0.6), 1.0, None, "baseline"))
    return Result("0.1.0", replace(step, **fields), {}, (row,), complete=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model", "timm:test_vit", "no run of 'timm:test_resnet', only of timm:test_vit"),
        ("image_size", 64, "another image_size (64 -> 32)"),
        ("dtype", "bfloat16", "another dtype (bfloat16 -> float32)"),
        ("amp", "bfloat16", "another amp (bfloat16 -> None)"),
        ("optimizer", "adamw", "another optimizer (adamw -> sgd)"),
        ("channels_last", True, "another channels_last (True -> False)"),
        ("device", "cuda", "another device (cuda -> cpu)"),
    ],
)
def test_speeds_of_another_step_are_refused(
    tmp_path: Path, field: str, value: object, said: str, invoke: Invoke
) -> None:
    path = tmp_path / "r.json"
    path.write_text(to_json([timed(**{field: value})]))
    done = invoke("fit", *TINY, "--memory", "20MB", "--timing", str(path))
    assert done.returncode == 2
    assert f"{str(path)!r} h" in done.stderr
    assert said in done.stderr


def test_speeds_of_another_size_are_refused_once_the_models_own_is_known(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(to_json([timed()]))
    done = fit("timm:test_resnet", "--memory", "20MB", "--timing", str(path))
    assert done.returncode == 2
    assert "another image_size (32 -> 160)" in done.stderr


def test_speeds_of_the_same_step_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    others = [timed(image_size=64), timed(pretrained=True), timed(optimizer="adam")]
    path.write_text(to_json(others))
    asked = ("--memory", "6MB", "-s", "head-only", "--batch-size", "32", "--lean", "off")
    done = fit(*TINY, *asked, "--timing", str(path))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "32.0" in next(line for line in done.stdout.splitlines() if line.startswith("full"))
    assert "images/s: as measured at batch 16; another batch may differ; measured with" in said
    assert "another device (None -> cpu), cpu (None ->" in said


def test_a_file_without_step_times_has_no_speeds(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(to_json([replace(timed(), rows=(Row("full"),))]))
    done = fit(*TINY, "--timing", str(path))
    assert done.returncode == 2
    assert "holds no step times: --timing needs a run of `freezekit bench`" in done.stderr


@pytest.mark.slow
@pytest.mark.exhaustive
def test_images_a_second_and_a_real_step(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert run("bench", *TINY, "--budget", "1", "-s", "full", "-o", str(path)).returncode == 0
    verified = ("--memory", "20MB", "-s", "full", "--lean", "off", "--verify", "--margin", "5")
    done = fit(*TINY, *verified, "--timing", str(path))
    assert done.returncode == 0, done.stdout
    assert "images/s: as measured at batch 8" in done.stdout
    assert "full: a real step of batch" in done.stdout
    assert fit("timm:test_vit", "--timing", str(path)).returncode == 2


@pytest.mark.slow
def test_the_default_margin_holds_where_workspace_makes_the_peak() -> None:
    """Of `head-only` the peak is in a convolution, 20 % above what tensors show."""
    asked = ("--memory", "40MB", "-s", "full", "-s", "head-only", "--lean", "off")
    done = fit("timm:test_resnet", "--image-size", "64", "--threads", "1", *asked, "--verify")
    assert done.returncode == 0, done.stdout
    assert "more than there is" not in done.stdout


@pytest.mark.slow
def test_verify_refuses_what_the_machine_has_not() -> None:
    asked = ("--image-size", "256", "--memory", "4000GiB", "-s", "full", "--lean", "off")
    done = fit("timm:test_resnet", *asked, "--verify")
    assert done.returncode == 2
    assert "--verify would need" in done.stderr
