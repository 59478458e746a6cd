"""A training as engines run it: from JSON to JSON, in parts, and where it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from freezekit import Recipe, Trial
from freezekit.engines.local import LocalEngine
from freezekit.engines.records import Task
from freezekit.training.storage import names
from freezekit.training.task import run
from tests.fork_server import SERVER
from tests.training.trainings import VIT, facts, recipe

if TYPE_CHECKING:
    from pathlib import Path

HEAD = recipe(model=VIT, epochs=3)


def asked(photos: Path, storage: object, case: Recipe = HEAD, **more: Any) -> Any:
    data = {"text": str(photos), "skipped": [], **more.pop("data", {})}
    argument = {"recipe": msgspec.to_builtins(case), "data": data, "storage": str(storage), **more}
    return json.loads(json.dumps(argument))


def ran(argument: Any, report: list[Any] | None = None) -> Trial:
    answer = run(argument, (report if report is not None else []).append)
    return msgspec.convert(json.loads(json.dumps(answer)), Trial)


def test_in_parts_it_answers_as_in_one(photos: Path, tmp_path: Path) -> None:
    told: list[Any] = []
    whole = ran(asked(photos, tmp_path / "a", peak_bytes=7), told)
    assert [len(trial["epochs"]) for trial in told] == [1, 2, 3]
    assert (whole.status, whole.peak_bytes, len(whole.epochs)) == ("ok", 7, 3)
    parts = [ran(asked(photos, "memory://parts/b", until=until)) for until in (1, 2, None)]
    assert [(part.status, len(part.epochs)) for part in parts] == [
        ("running", 1),
        ("running", 2),
        ("ok", 3),
    ]
    assert facts(parts[-1]) == facts(whole)
    again: list[Any] = []
    assert ran(asked(photos, "memory://parts/b"), again) == parts[-1]
    assert again == []
    assert names("memory://parts/b") == ("checkpoint.pt",)


def test_a_pilot_does_not_see_the_validation_images(photos: Path, tmp_path: Path) -> None:
    whole = ran(asked(photos, tmp_path / "a"))
    pilot = ran(asked(photos, tmp_path / "b", data={"hold_out": 0.25}))
    assert pilot.status == "ok"
    assert facts(pilot) != facts(whole)


def test_what_fails_is_in_the_record(photos: Path, tmp_path: Path) -> None:
    bad = recipe("first-n-stages:n=99", model=VIT)
    failed = ran(asked(photos, tmp_path / "a", bad))
    assert (failed.status, failed.epochs) == ("error", ())
    assert "n is 99" in str(failed.error)
    gone = ran(asked(photos / "nowhere", tmp_path / "a"))
    assert (gone.status, gone.recipe) == ("error", HEAD)


def test_out_of_memory_is_told_with_the_epochs_that_are_kept(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(
        "import torch, timm\n"
        "def build(num_classes):\n"
        "    model, seen = timm.create_model('test_vit', num_classes=num_classes), []\n"
        "    def greedy(*_):\n"
        "        seen.append(1)\n"
        "        if len(seen) > 30: torch.empty(2**60)\n"
        "    model.norm.register_forward_hook(greedy)\n"
        "    return model\n"
    )
    case = recipe(model=f"{tmp_path}/greedy.py:build", image_size=None, epochs=9, cache="off")
    failed = ran(asked(photos, tmp_path / "kept", case))
    assert failed.status == "oom"
    assert len(failed.epochs) > 0


@pytest.mark.slow
def test_an_engine_runs_it(photos: Path, tmp_path: Path) -> None:
    engine = LocalEngine(at_once=1, threads=1, server=SERVER)
    try:
        task = Task("one", "freezekit.training.task:run", asked(photos, tmp_path / "a"))
        outcomes = list(engine.run([task]))
    finally:
        engine.close()
    assert [outcome.status for outcome in outcomes] == ["message"] * 3 + ["ok"]
    there = msgspec.convert(outcomes[-1].answer, Trial)
    assert facts(there) == facts(ran(asked(photos, tmp_path / "b")))
