"""The page of the benchmarks of trainers shows what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.trainers import beside_table, matrix, overhead

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "benchmarks" / "trainers" / "README.md").read_text(encoding="utf-8")


def rows(name: str) -> list[dict[str, Any]]:
    text = (ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(text)["rows"]
    return found


def test_the_tables_are_those_of_the_results() -> None:
    assert matrix.table(rows("trainers")) in PAGE
    assert overhead.table(rows("trainers-overhead")) in PAGE
    for table in beside_table.tables(rows("trainers-beside")):
        assert table in PAGE


def test_every_training_has_the_bits_of_the_loop_without_freezekit() -> None:
    for row in rows("trainers"):
        where = row["trainer"], row["variant"]
        assert all(not each["differing"] for each in row["apart_from_by_hand"]), where
        for rank in row["ranks"]:
            assert not rank["frozen_that_moved"], where
            assert not rank["trained_that_did_not"], where
            assert rank["steps"] > 0, where
        norms = {
            name.rpartition(".")[2] for name in row.get("ranks_apart", {}).get("differing", ())
        }
        assert norms <= {"running_mean", "running_var"}, where
