"""The page about lean says what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.lean import batch, cores, cuda, partition_table, steps
from benchmarks.lean.records import OUT
from benchmarks.lean.show import as_page
from benchmarks.lean.targets import checked
from benchmarks.zoo.sweep import read

PAGES = Path(__file__).parents[1] / "docs" / "explanation"
PAGE = PAGES / "lean.md"


def test_the_tables_are_those_of_the_results():
    rows = json.loads(OUT.read_text())["rows"]
    page = PAGE.read_text()
    assert all(table in page for table in as_page(rows).split("\n\n"))


def test_the_page_about_memory_has_the_same_figures():
    stock = {
        row["strategy"]: f"{row['stock']['saved_activations_bytes'] / 2**20:.1f} MiB"
        for row in json.loads(OUT.read_text())["rows"]
        if row["model"] == "resnet50" and "stock" in row
    }
    page = (PAGES / "memory.md").read_text()
    said = dict(re.findall(r"^\| `(.*?)`.* \| (.* MiB) \|$", page, re.MULTILINE))
    assert len(said) == 6
    assert said == {strategy: stock[strategy] for strategy in said}


def test_the_step_times_are_those_of_the_results():
    assert steps.as_page() in PAGE.read_text()


def test_the_largest_batches_are_those_of_the_results():
    assert batch.as_page() in PAGE.read_text()


def test_what_was_measured_on_cuda_is_what_the_results_hold():
    lines = [json.loads(line) for line in cuda.OUT.read_text().splitlines()]
    page = PAGE.read_text()
    assert all(table in page for table in cuda.as_page(lines).split("\n\n"))
    pairs = [line for line in lines if line["part"] == "memory" and "lean" in line]
    assert f"all {len(pairs)} pairs" in page
    assert all(line["exact"] for line in pairs)
    assert all(
        line["lean"]["measured_peak_bytes"] <= line["stock"]["measured_peak_bytes"]
        for line in pairs
    )


def test_what_compiled_models_save_is_what_the_results_hold():
    lines = read(partition_table.OUT)[1]
    page = PAGE.read_text()
    assert partition_table.as_page(lines) in page
    assert "In no case is a convolution or a matrix product computed again" in page
    assert not any(line["lean"]["again_matrices"] for line in lines if "lean" in line)


def test_every_target_of_memory_is_reached():
    missed = [f"{label}: {said}" for label, said in checked(json.loads(OUT.read_text())["rows"])
              if said.startswith("MISSED")]  # fmt: skip
    assert missed == []


def test_the_cores_are_compared_as_in_the_results():
    page = PAGE.read_text()
    assert all(table in page for table in cores.as_page().split("\n\n"))
    assert all(line["equal_bits"] for line in cores.lines())
