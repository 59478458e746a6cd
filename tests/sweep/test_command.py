"""`freezekit sweep` on real images: what it trains, keeps, prints and refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from msgspec.structs import replace

from freezekit.sweep.store import load_sweep
from tests.sampled import sampled

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from freezekit.sweep.records import Sweep

    Invoke = Callable[..., subprocess.CompletedProcess[str]]

TINY = (
    *("sweep", "timm:test_resnet", "--no-pretrained", "--image-size", "32", "--batch-size", "8"),
    *("--jobs", "1"),
)
QUICK = ("--lr", "1e-3", "--epochs", "1", "--seeds", "2")


def same(sweep: Sweep) -> Sweep:
    """Return a sweep without times, and without how often a trial went on."""

    def trials(some):
        return tuple(
            replace(
                each,
                resumed=0,
                epochs=tuple(replace(e, train_seconds=0, val_seconds=0) for e in each.epochs),
            )
            for each in some
        )

    rows = tuple(
        replace(
            row,
            trials=trials(row.trials),
            pilots=trials(row.pilots),
            train_seconds=None,
            train_seconds_to_baseline=None,
        )
        for row in sweep.rows
    )
    return replace(sweep, rows=rows, env={}, seconds=None, sentences=())


def test_a_sweep_of_real_trainings(invoke: Invoke, photos: Path, tmp_path: Path):
    path = tmp_path / "s.json"
    where = ("--data", str(photos), "-s", "head-only", "--seeds", "2", "-o", str(path))
    how = ("--epochs", "1", "--lr", "1e-3")
    done = invoke(*TINY, *where, *how)
    assert done.returncode == 0, done.stderr
    assert "2 candidates x 2 seeds = 4 trainings of 1 epoch, on random weights" in done.stderr
    found = load_sweep(path)
    assert found.complete
    full, head = found.rows
    assert full.status == head.status == "ok"
    assert len(full.trials) == 2
    assert full.metric.low <= full.metric.value <= full.metric.high
    assert 0 < head.peak_bytes_to_baseline < 1
    assert 0 < head.gflops_to_baseline < 1
    assert len(found.sentences) == 1
    assert found.recommended in ("full", "head-only")
    assert {trial.peak_bytes for trial in head.trials} == {head.peak_bytes}
    assert not any((tmp_path / "s.trials" / "checkpoints").iterdir()), "all trainings have ended"

    again = invoke(*TINY, *where, *how)
    assert again.returncode == 2
    assert "holds what an earlier sweep has trained: give --resume" in again.stderr
    again = invoke(*TINY, *where, *how, "--resume")
    assert again.returncode == 0, again.stderr
    assert "training 2 candidates" not in again.stderr
    assert same(load_sweep(path)) == same(found)


def test_a_strategy_that_refuses_the_model_costs_its_row(
    invoke: Invoke, photos: Path, tmp_path: Path
):
    path = tmp_path / "s.json"
    given = ("--data", str(photos), "-s", "attention-only", "-o", str(path), *QUICK[:4])
    done = invoke(*TINY, *given, "--seeds", "1")
    assert done.returncode == 4, done.stderr
    full, refused = load_sweep(path).rows
    assert full.status == "ok"
    assert refused.status == "error"
    assert "attention" in refused.error
    assert refused.metric_to_baseline is None


def test_a_training_that_diverges_costs_its_row(invoke: Invoke, photos: Path, tmp_path: Path):
    path = tmp_path / "s.json"
    given = ("--data", str(photos), "-s", "full", "-o", str(path), "--epochs", "2")
    done = invoke(*TINY, *given, "--lr", "1e6", "--seeds", "1", "--optimizer", "sgd")
    assert done.returncode == 4, done.stderr
    row = load_sweep(path).rows[0]
    assert row.status == "diverged"
    assert row.error.startswith("seed 0: the loss is ")


def test_a_budget_is_kept(invoke: Invoke, photos: Path, tmp_path: Path):
    path = tmp_path / "s.json"
    given = ("--data", str(photos), "-s", "head-only", "-o", str(path), "--lr", "1e-3")
    done = invoke(*TINY, *given, "--budget", "6s", "--seeds", "2")
    found = load_sweep(path)
    assert done.returncode == (0 if found.complete else 4), done.stderr
    assert found.settings.budget_seconds == 6
    again = invoke(*TINY, *given, "--budget", "60s", "--seeds", "2", "--resume")
    assert again.returncode == 0, again.stderr
    choice = found.settings.budget_choice
    assert choice is not None
    said = "allows " if choice.fits else "is too short for one epoch"
    assert found.notes[0].startswith(f"the budget of 6 s {said}")
    if choice.fits and any(trial.epochs for row in found.rows for trial in row.trials):
        assert load_sweep(path).settings.epochs == found.settings.epochs
        first = found.notes[0].removeprefix("the budget of ")
        assert load_sweep(path).notes[0] == f"the budget of 60 s goes on; that of {first}"
    else:  # a busy machine
        assert load_sweep(path).notes[0].startswith("the budget of 60 s ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "no images are given; expected a folder"),
        (("--data", "nowhere"), "nowhere"),
        (("--data", "DATA", "-s", "head-onyl"), "did you mean 'head-only'"),
        (("--data", "DATA", "--lr", "fast"), "'fast' is no learning rate"),
        (("--data", "DATA", "--lr", "1e9"), "a number above 0 and up to 1e6 such as 1e-3"),
        (("--data", "DATA", "--trials", "/proc/x"), "name a place where files can be made"),
        (("--data", "DATA", "--epochs", "2", "--budget", "1h"), "leave out --epochs or --budget"),
        (("--data", "DATA", "--budget", "soon"), "'soon' is no time; expected such as 90s, 30min"),
        (("--data", "DATA", "--metric", "f1"), "the metric 'f1' is unknown"),
        (
            ("--data", "DATA", "-o", "s.txt"),
            "the extension '.txt' is none that this command writes",
        ),
        (("--data", "DATA", "timm:no_such"), "timm has no model 'no_such'"),
        pytest.param(
            ("--data", "DATA", "--device", "cuda"),
            "--device cuda: torch finds no CUDA device on this machine",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (("--data", "DATA", "my.py:build"), "there is no file 'my.py'"),
    ],
)
def test_bad_input_is_one_line_and_trains_nothing(
    invoke: Invoke, photos: Path, tmp_path: Path, monkeypatch, given, said: str
):
    monkeypatch.chdir(tmp_path)
    given = tuple(str(photos) if each == "DATA" else each for each in given)
    done = invoke(*TINY[:2], *given, *TINY[3:])
    assert done.returncode == 2
    assert said in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) == 1
    assert not list(tmp_path.iterdir())


def test_images_that_change_meanwhile_are_told(photos: Path, tmp_path: Path):
    import shutil

    from freezekit.training.task import run

    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    recipe = {"model": "timm:test_resnet", "strategy": "full", "epochs": 1, "image_size": 32}
    data = {"text": str(copy), "digest": "of other images"}
    done = run({"recipe": recipe, "data": data, "storage": str(tmp_path / "c")}, lambda _: None)
    assert done["status"] == "error"
    assert "are not those that the task was made for" in done["error"]


def test_drafts_of_a_killed_sweep_are_removed_and_nothing_else(tmp_path: Path):
    from freezekit.sweep.folder import opened

    (tmp_path / "answers").mkdir()
    drafts = [
        tmp_path / ".sweep.json.0123abcd.tmp",
        tmp_path / "answers" / ".a-2.json.00000000.tmp",
    ]
    others = [tmp_path / ".mine.json.tmp", tmp_path / "sweep.json.0123abcd.tmp"]
    for path in (*drafts, *others):
        path.touch()
    with opened(tmp_path, None, resume=True):
        assert not any(path.exists() for path in drafts)
    assert all(path.exists() for path in others)


def test_two_sweeps_in_one_folder_are_refused(invoke: Invoke, photos: Path, tmp_path: Path):
    from freezekit.results.locking import locked

    folder = tmp_path / "t"
    with locked([str(folder)]):
        done = invoke(*TINY, "--data", str(photos), "--trials", str(folder))
    assert done.returncode == 2
    assert f"another run is writing '{folder}'" in done.stderr


@pytest.mark.parametrize("rates", sampled(["1e-3", "1e-3,1e-2"], every=2))
def test_a_metric_that_fails_fails_the_sweep(
    invoke: Invoke, photos: Path, tmp_path: Path, rates: str
):
    own = tmp_path / "own.py"
    own.write_text("def nan(logits, labels):\n    return float('nan')\n")
    given = ("--data", str(photos), "-s", "full", "--trials", str(tmp_path / "t"), "--lr", rates)
    done = invoke(*TINY, *given, "--metric", f"{own}:nan", *QUICK[2:4], "--seeds", "1")
    assert done.returncode == 4, done.stderr
    assert "1 candidate x 1 seed = 1 training of 1 epoch" in done.stderr
    said = "no candidate has a" if rates == "1e-3" else "full: error: no pilot has a"
    assert f"{said} value of 'nan': the metric 'nan' returned nan" in " ".join(done.stdout.split())


def test_a_metric_of_ones_own(invoke: Invoke, photos: Path, tmp_path: Path):
    own = tmp_path / "own.py"
    own.write_text("def right(logits, labels):\n    return (logits.argmax(1) == labels).sum()\n")
    path = tmp_path / "s.json"
    given = (
        "--data",
        str(photos),
        "-s",
        "head-only",
        "-o",
        str(path),
        "--epochs",
        "1",
        "--seeds",
        "1",
    )
    gates = ("--fail-if", "gflops < 0", "--fail-if", "peak_bytes > 1")
    done = invoke(
        *TINY, *given, *gates, "--metric", f"{own}:right", *QUICK[2:4], "--lr", "1e-3,1e-2"
    )
    assert done.returncode == 1, done.stderr
    assert "pass: gflops < 0" in done.stdout
    assert "FAIL: peak_bytes > 1" in done.stderr
    found = load_sweep(path)
    assert found.settings.metric == "right"
    assert "candidates are compared by right: higher is better" in done.stderr
    assert "4 pilots choose learning rates of 0.001, 0.01, in 1 epoch " in done.stderr
    assert [len(row.pilots) for row in found.rows] == [2, 2]
    assert {row.lr for row in found.rows} <= {1e-3, 1e-2}
    assert found.rows[0].metric.value > 0
    assert json.loads(path.read_text())["rows"][0]["trials"][0]["epochs"][0]["val"]["right"] >= 0
