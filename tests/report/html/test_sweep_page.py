"""The page of a sweep: what it holds, and how a browser shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from freezekit.report.html.accuracy_cost import draw
from freezekit.report.html.cost_points import COSTS
from freezekit.report.html.learning_curves import mean_curve
from freezekit.report.html.sweep_page import render_sweep_html, sortable_sweep
from freezekit.sweep.records import Settings, Sweep
from freezekit.sweep.store import from_json
from tests.report.example_sweep import example, facts, row, with_failures

OpenPage = Callable[..., Any]

NO_WORDS = """
    return [...document.querySelectorAll(".chart text")].map((text) => text.textContent)
      .filter((text) => /null|undefined|NaN|Infinity/.test(text));
"""
WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
POINTS = "return document.querySelectorAll('#r1-cost-c svg .mark-symbol path').length"
AXIS = "return [...document.querySelectorAll('#r1-cost-c text')].map((text) => text.textContent)"


def test_the_page_holds_the_sweep_and_its_sentences() -> None:
    sweep = with_failures()
    page = render_sweep_html(sweep)
    found = re.search(r'<script type="application/json" id="result">(.*?)</script>', page)
    assert found is not None
    assert from_json(json.dumps(json.loads(found[1]))) == sweep
    for text in (*sweep.sentences, "recommended: head-only", "0123456789abcdef"):
        assert text in page
    assert render_sweep_html(sweep) == page


def test_a_sweep_with_nothing_done_has_a_page() -> None:
    page = render_sweep_html(Sweep("0.1.0", facts(), Settings(5, (0, 1)), {}))
    assert "No chart: no epoch is done yet." in page
    assert "vegaEmbed = " not in page


def test_names_are_escaped() -> None:
    bad = row(1, label="<script>alert(1)</script>", error="<b>")
    page = render_sweep_html(example(rows=(row(0), bad)))
    assert "<script>alert(1)" not in page


def test_rows_without_counted_work_are_drawn_by_the_other_costs() -> None:
    bare = tuple(replace(one, gflops=None) for one in example().rows)
    drawing = draw(replace(example(), rows=bare))
    assert [name for name, _ in drawing.switch] == ["peak_bytes", "train_seconds"]
    assert len(COSTS) == 3


def test_a_mean_curve_has_the_epochs_that_all_seeds_have() -> None:
    sweep, one = example(), example().rows[0]
    shorter = replace(one.trials[0], epochs=one.trials[0].epochs[:2])
    assert [n for n, _ in mean_curve(sweep, replace(one, trials=(shorter, *one.trials[1:])))] == [
        1,
        2,
    ]


def test_the_table_sorts_by_figures() -> None:
    found = sortable_sweep(example())
    place = [head.title for head in found.heads].index("time, ratio to full")
    values = [float(line.cells[place].value) for line in found.lines]
    assert values[0] == 1
    assert values[1] == pytest.approx(0.0615, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("make", [example, with_failures, lambda: example(seeds=1)])
def test_a_browser_draws_it_all(make: Callable[[], Sweep], open_page: OpenPage) -> None:
    page = open_page(render_sweep_html(make()))
    assert page.console == []
    assert (page.charts, page.drawn) == (2, 2)
    assert page.ask(NO_WORDS) == []
    assert page.ask(POINTS) == sum(one.status == "ok" for one in make().rows)
    assert "GFLOP of a training" in page.ask(AXIS)
    choices = page.browser.find_elements("css selector", "#r1-cost fieldset input")
    choices[2].click()
    page.browser.implicitly_wait(2)
    assert page.browser.execute_async_script(
        "const told = arguments[0]; setTimeout(() => told("
        "[...document.querySelectorAll('#r1-cost-c text')]"
        ".some((text) => text.textContent === 'time of a training, s')), 500)"
    )
    assert page.ask(WIDE) == 0
