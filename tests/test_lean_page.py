"""The page about lean says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.lean import steps
from benchmarks.lean.records import OUT
from benchmarks.lean.show import as_page
from benchmarks.lean.targets import checked

PAGE = Path(__file__).parents[1] / "docs" / "lean.md"


def test_the_tables_are_those_of_the_results():
    rows = json.loads(OUT.read_text())["rows"]
    page = PAGE.read_text()
    assert all(table in page for table in as_page(rows).split("\n\n"))


def test_the_step_times_are_those_of_the_results():
    assert steps.as_page() in PAGE.read_text()


def test_every_target_of_memory_is_reached():
    missed = [f"{label}: {said}" for label, said in checked(json.loads(OUT.read_text())["rows"])
              if said.startswith("MISSED")]  # fmt: skip
    assert missed == []
