from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from freezekit.bench.design import Design, block_order
from freezekit.bench.statistics import append_block, summarise
from freezekit.bench.timing import run_timing
from freezekit.results.records import Raw, Workload
from freezekit.results.variant import Variant
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEM, FC = "by-name:contains=stem", "by-name:contains=fc"
VARIANTS = {spec: Variant(spec) for spec in ("full", STEM, FC)}
FULL = {"full": Variant("full")}
SHORT = Design(blocks=2, rounds=2)

# A model that does `fault` from its n-th forward pass with a frozen (or trained) stem on; every
# block builds it anew, so it counts in a file.
FAULTY = """
import gc
from pathlib import Path

import torch
from torch import nn

PASSES = Path(__file__).with_suffix(".passes")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 10)

    def forward(self, x):
        assert not gc.isenabled()
        if self.stem.weight.requires_grad == {trained}:
            with PASSES.open("a") as file:
                file.write(".")
            if PASSES.stat().st_size > {passes}:
                {fault}
        return self.fc(self.stem(x).mean((2, 3)))
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def workload(folder: Path, fault: str = "pass", passes: int = 0, trained: bool = False) -> Workload:
    path = folder / "net.py"
    path.write_text(FAULTY.format(fault=fault, passes=passes, trained=trained))
    return Workload(f"{path}:Net", batch_size=2, image_size=8)


def only(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def raw_of(events: list[dict[str, Any]]) -> Raw:
    raw = Raw()
    for event in only(events, "block"):
        raw = append_block(raw, json.loads(json.dumps(event)))
    return raw


def test_a_run_keeps_to_its_design(tmp_path):
    events = list(run_timing(workload(tmp_path), VARIANTS, design=SHORT, seed=5))
    assert events[0] == {"event": "design", "design": SHORT.record()}
    assert events[-1] == {"event": "done"}
    assert only(events, "failed") == []
    raw = raw_of(events)
    names = [*VARIANTS, "control"]
    assert raw.order == [
        [list(names) for names in block_order(names, block, seed=5).rounds[:2]] for block in (0, 1)
    ]
    for block in raw.steps:
        for turns in block:
            assert sorted(turns) == sorted(names)
            assert all(len(steps) == 3 and min(steps) > 0 for steps in turns.values())
    assert all(
        sorted(warmup) == sorted(names) and {len(steps) for steps in warmup.values()} == {3}
        for warmup in raw.warmup
    )
    summary = summarise(raw, list(VARIANTS))
    assert list(summary.times) == list(VARIANTS)
    assert all(time.ratio_ci is not None and time.split is None for time in summary.times.values())
    assert summary.control is not None


def test_progress_counts_every_turn(tmp_path):
    events = list(run_timing(workload(tmp_path), VARIANTS, design=SHORT))
    progress = only(events, "progress")
    assert {event["total"] for event in progress} == {2 * 2 * 4}
    done = [e["done"] for e in progress if e["doing"].startswith("timing")]
    assert done == list(range(1, 17))
    assert sum(event["doing"] == "building full" for event in progress) == 2


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (
            "raise torch.OutOfMemoryError('no\\nmore')",
            "oom",
            "models in memory: no",
        ),
        ("torch.empty(2**60)", "oom", "can't allocate memory"),
        exhaustive(("raise MemoryError", "oom", "models in memory: MemoryError")),
        ("raise KeyError('x')", "error", "KeyError: 'x'"),
        exhaustive(("raise SystemExit('bye')", "error", "SystemExit: bye")),
    ],
)
def test_a_strategy_that_fails_is_dropped_and_the_others_go_on(tmp_path, fault, status, said):
    # 3 passes of warm-up and 6 of turns make a block: this fails in its first turn of block 1.
    load = workload(tmp_path, fault, passes=12)
    events = list(run_timing(load, VARIANTS, design=SHORT))
    (failed,) = only(events, "failed")
    assert (failed["label"], failed["status"], failed["block"]) == (STEM, status, 1)
    assert said in failed["error"]
    assert "\n" not in failed["error"]
    raw = raw_of(events)
    assert all(STEM in turns for turns in raw.steps[0])
    assert not any(STEM in turns for turns in raw.steps[1])
    assert all({"full", FC, "control"} == set(turns) for turns in raw.steps[1])
    assert only(events, "progress")[-1]["done"] == only(events, "progress")[-1]["total"] == 14
    summary = summarise(raw, list(VARIANTS))
    assert summary.warnings[STEM][0] == "timed in one block only: no interval"
    assert summary.times[FC].ratio_ci is not None


def test_a_strategy_that_cannot_be_built_costs_its_rows_only(tmp_path):
    variants = {**VARIANTS, "unknown": Variant("by-name:contains=stem + no-such")}
    events = list(run_timing(workload(tmp_path), variants, design=SHORT))
    (failed,) = only(events, "failed")
    assert (failed["label"], failed["status"]) == ("unknown", "error")
    assert "'no-such'" in failed["error"]
    assert len(raw_of(events).steps) == 2


@pytest.mark.parametrize("passes", [0, 20])
def test_without_the_baseline_the_others_get_their_seconds(tmp_path, passes):
    load = workload(tmp_path, "raise MemoryError", passes=passes, trained=True)
    events = list(run_timing(load, {**FULL, STEM: Variant(STEM)}, design=SHORT))
    assert only(events, "failed")[0]["label"] in ("full", "control")
    raw = raw_of(events)
    assert len(raw.steps) == 2
    assert all(list(turns) == [STEM] for turns in raw.steps[-1])
    summary = summarise(raw, ["full", STEM])
    assert summary.times[STEM].step_seconds.median > 0
    if passes == 0:
        assert summary.times[STEM].ratio is None
        assert summary.notes == ("the baseline 'full' was not measured: no ratios of step time",)


def test_a_run_in_which_all_fail_ends(tmp_path):
    load = workload(tmp_path, "raise MemoryError", trained=True)
    events = list(run_timing(load, FULL, design=SHORT))
    assert [event["event"] for event in events] == ["design", "failed", "done"]


@pytest.mark.parametrize("budget", [None, 60.0])
def test_a_block_in_which_all_fail_is_no_block(tmp_path, budget):
    # The rehearsal makes 3 passes; the baseline and the control fail in the first block.
    load = workload(tmp_path, "raise MemoryError", passes=3, trained=True)
    events = list(run_timing(load, FULL, budget_seconds=budget))
    assert only(events, "block") == []
    assert [event["status"] for event in only(events, "failed")][:1] == ["oom"]
    assert events[-1] == {"event": "done"}


def test_an_interrupt_keeps_whole_blocks_and_leaves_the_collector_as_it_was(tmp_path):
    load = workload(tmp_path, "raise KeyboardInterrupt", passes=12)
    events: list[dict[str, Any]] = []
    with pytest.raises(KeyboardInterrupt):
        events.extend(run_timing(load, VARIANTS, design=SHORT))
    assert len(raw_of(events).steps) == 1
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_budget_is_kept_to_the_least_design(tmp_path):
    events = list(run_timing(workload(tmp_path), FULL, budget_seconds=0.001))
    last = only(events, "design")[-1]["design"]
    assert (last["blocks"], last["rounds"], last["warmup"]) == (5, 1, 3)
    assert last["cut"].startswith("to come near 0.001 s, 5 blocks instead of 8 and 1 round instead")
    assert "; it takes about " in last["cut"]
    raw = raw_of(events)
    assert len(raw.steps) == 5
    assert {len(rounds) for rounds in raw.steps} == {1}
    assert only(events, "progress")[0]["total"] is None


def test_a_budget_that_is_spent_leaves_the_least(tmp_path):
    spent = {"budget_seconds": 2, "spent_seconds": 60.0, "least_seconds": 3600.0}
    last = only(list(run_timing(workload(tmp_path), FULL, **spent)), "design")[-1]["design"]
    assert (last["blocks"], last["rounds"], last["cut"]) == (8, 3, None)
    assert last["budget_seconds"] == 2
    assert last["expected_seconds"] > last["overhead_seconds"] > 60


def test_a_budget_with_time_to_spare_cuts_nothing(tmp_path):
    events = list(run_timing(workload(tmp_path), FULL, budget_seconds=3600))
    last = only(events, "design")[-1]["design"]
    assert (last["blocks"], last["rounds"], last["cut"]) == (8, 3, None)
    assert last["overhead_seconds"] > 0
    assert len(raw_of(events).steps) == 8


def test_real_models_and_strategies_that_warn():
    load = Workload("torchvision:resnet18", batch_size=2, image_size=32)
    variants = {spec: Variant(spec) for spec in ("full", "by-name:contains=bn")}
    events = list(run_timing(load, variants, design=Design(blocks=1, rounds=1)))
    assert only(events, "failed") == []
    assert list(summarise(raw_of(events), list(variants)).times) == list(variants)


def test_a_lean_row_is_timed_beside_its_stock_row():
    load = Workload("timm:test_resnet", batch_size=2, image_size=32)
    kinds = (Variant("full"), Variant("batch-norm"), Variant("batch-norm", lean=True))
    variants = {variant.label: variant for variant in kinds}
    events = list(run_timing(load, variants, design=Design(blocks=2, rounds=1)))
    assert only(events, "failed") == []
    raw = raw_of(events)
    assert all(sorted(turns) == sorted([*variants, "control"]) for (turns,) in raw.steps)
    pairs = {"batch-norm [lean]": "batch-norm"}
    times = summarise(raw, list(variants), pairs).times
    assert times["batch-norm [lean]"].ratio_to_stock_ci is not None
    assert times["batch-norm"].ratio_to_stock is None


def test_what_cannot_be_run_is_refused(tmp_path):
    load = workload(tmp_path)
    with pytest.raises(ValueError, match="a design or a budget, not both"):
        next(run_timing(load, VARIANTS, design=SHORT, budget_seconds=1.0))
    with pytest.raises(ValueError, match=r"labels are \['control'\]"):
        next(run_timing(load, {"control": Variant("full")}))
    with pytest.raises(ValueError, match=r"labels are \[\]"):
        next(run_timing(load, {}))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_warm_up_is_longer_and_the_step_is_split():
    load = Workload("torchvision:resnet18", batch_size=2, image_size=64, device="cuda")
    events = list(
        run_timing(load, {**FULL, "head-only": Variant("head-only")}, budget_seconds=0.01)
    )
    assert only(events, "failed") == []
    raw = raw_of(events)
    assert {len(steps) for block in raw.warmup for steps in block.values()} == {10}
    assert len(raw.split) == 5
    for time in summarise(raw, ["full", "head-only"]).times.values():
        assert set(time.split) == {"forward", "backward", "optimizer"}
        assert min(time.split.values()) > 0
