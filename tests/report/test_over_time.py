"""What reports say of a training under a schedule."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from rich.console import Console

from freezekit.bench.over_run import totals
from freezekit.compare.pairing import pair
from freezekit.compare.show import comparison_markdown
from freezekit.gate.judge import Gate, check_gates, judge
from freezekit.report.html.page import render_html
from freezekit.report.markdown import render_markdown
from freezekit.report.over_time import whole_run
from freezekit.report.table import render_table
from freezekit.report.trackers import render_bencher
from freezekit.results.records import Memory, PhaseOf, Result, ScheduleCost, SchedulePhase
from freezekit.results.variant import BASELINE, Variant

MakeResult = Callable[..., Result]
TEXT = "first-n-stages:n=2 then 'a|b' at 1ep then full at 50%"
ROW = f"{TEXT} @ 1ep"


@pytest.fixture
def trained(make_result: MakeResult) -> Result:
    """A result with a schedule of three phases: of one other row, of its own, and of `full`."""
    result = make_result()
    head = next(row for row in result.rows if row.strategy == "head-only")
    own = replace(head, strategy=ROW, phase=PhaseOf(TEXT, 2, "1ep", 400))
    phases = (
        SchedulePhase("0ep", 100, "first-n-stages:n=2", "first-n-stages:n=2"),
        SchedulePhase("1ep", 400, None, ROW),
        SchedulePhase("5ep", 500, "full", "full"),
    )
    asked = ScheduleCost(TEXT, False, 10, 100, phases)
    result = replace(result, rows=(*result.rows, own), schedules=(asked,), raw=None)
    return replace(result, schedules=totals(result))


def printed(result: Result, width: int) -> list[str]:
    console = Console(width=width, no_color=True, record=True)
    console.print(render_table(result, width))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_has_a_block_for_the_schedule(trained: Result, width: int) -> None:
    lines = printed(trained, width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert f"{TEXT}: 10 epochs of 100 steps" in text
    start = next(i for i, line in enumerate(lines) if line.startswith("first-n-stages:n=2 then"))
    assert not any(line.startswith(ROW) for line in lines[:start]), "not among the strategies"
    numbered = [line.partition(":")[0] for line in lines if line[:2] in ("1:", "2:", "3:")]
    assert numbered == ["1", "2", "3"]
    assert "2: a plan" in text, "where the schedule gave no text"
    assert "whole run: 1,000 steps; highest peak 242.0 MiB (0% vs full); " in text


def test_what_is_not_known_of_the_run_is_left_out(trained: Result) -> None:
    rows = tuple(replace(row, memory=Memory(), flops=None, time=None) for row in trained.rows)
    bare = replace(trained, rows=rows)
    (one,) = totals(bare)
    assert whole_run(bare, one) == "whole run: 1,000 steps"
    assert whole_run(trained, trained.schedules[0]).count(";") == 3


def test_markdown_and_html_have_it_too(trained: Result) -> None:
    text = render_markdown([trained])
    assert "| `2: a plan` | 1ep | 400 |" in text
    assert f"**{TEXT.replace('|', chr(92) + '|')}: 10 epochs of 100 steps**" in text
    assert text.index("whole run: 1,000 steps") < text.index("noise floor")
    page = render_html([trained])
    assert '<a href="#r1-schedules">Schedules</a>' in page
    assert "<p>whole run: 1,000 steps; " in page
    assert "Schedules</a>" not in render_html([replace(trained, schedules=())])


def test_rows_of_phases_are_rows_to_services_gates_and_comparisons(trained: Result) -> None:
    assert f'"torchvision:resnet18 {ROW}"' in render_bencher([trained])
    assert f"`{ROW}`".replace("|", "\\|") in comparison_markdown(pair([trained], [trained])[0])
    labels = [found.label for found in judge([Gate.read("peak_bytes > full")], trained)]
    assert ROW in labels


def test_a_comparison_tells_what_changed_in_the_totals(trained: Result) -> None:
    (one,) = trained.schedules
    assert one.peak_bytes is not None
    assert "whole run" not in comparison_markdown(pair([trained], [trained])[0])
    higher = replace(one, peak_bytes=one.peak_bytes + 4, flops=None)
    text = comparison_markdown(pair([trained], [replace(trained, schedules=(higher,))])[0])
    assert f"highest peak {one.peak_bytes:,} -\\> {one.peak_bytes + 4:,} bytes (+4)" in text
    assert f"work {one.flops:,} -\\> - FLOP" in text
    longer = replace(one, epochs=20, peak_bytes=1)
    others = pair([trained], [replace(trained, schedules=(longer,))])[0]
    assert "whole run" not in comparison_markdown(others), "another training"


def test_a_gate_can_name_a_phase_before_it_is_known() -> None:
    schedules = [Variant("lp-ft")]
    for when in ("0ep", "5ep"):
        gate = Gate.read(f"strategy == 'lp-ft @ {when}' and peak_bytes > full")
        check_gates([gate], [BASELINE], schedules=schedules)
