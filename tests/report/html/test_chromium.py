"""The page as a browser shows it: charts, sorting, themes, narrow screens; offline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from freezekit.report.html.page import render_html
from freezekit.results.records import Result, Row, Workload

pytestmark = pytest.mark.slow

MakeResult = Callable[..., Result]
Opened = Any  # of conftest, which cannot be imported from here
OpenPage = Callable[..., Opened]

MARKS = """
    const count = (name, kind) =>
      document.querySelectorAll(`#r1-${name}-c svg .${kind} path`).length;
    return {
      tradeoff: count("tradeoff", "mark-symbol"),
      peak: count("peak", "mark-rect"),
      forest: count("forest", "mark-symbol"),
      stages: count("stages", "mark-rect"),
      steps: count("steps", "mark-symbol"),
    };
"""
NO_WORDS = """
    return [...document.querySelectorAll(".chart text")].map((text) => text.textContent)
      .filter((text) => /null|undefined|NaN|Infinity/.test(text));
"""
COLUMN = """
    const [table, column] = [document.getElementById("r1-t"), arguments[0]];
    return [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
"""
SORTED = "return [...document.querySelectorAll('#r1-t th')].map(th => th.ariaSort)"
WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


def column_of(page: Opened, title: str) -> int:
    heads = page.ask(
        "return [...document.querySelectorAll('#r1-t thead th')].map(th => th.textContent)"
    )
    return int(heads.index(title))


def test_all_charts_are_drawn_with_all_their_marks_and_the_console_is_clean(
    make_whole: MakeResult, open_page: OpenPage
) -> None:
    result = make_whole()
    page = open_page(render_html([result]))
    assert page.console == []
    assert (page.charts, page.drawn) == (5, 5)
    marks = page.ask(MARKS)
    assert marks["tradeoff"] == len(result.rows)
    assert marks["forest"] == len(result.rows)
    assert marks["stages"] == sum(len(row.stages) for row in result.rows)
    assert marks["peak"] >= 6 * len(result.rows)
    assert marks["steps"] == 5 * (2 * 3 + 3) * (len(result.rows) + 1)
    assert page.ask(NO_WORDS) == []
    told = page.ask(
        "return [...document.querySelectorAll('.chart')].map("
        "one => [one.parentElement.role, one.parentElement.ariaLabel])"
    )
    assert all(role == "img" and len(text) > 40 for role, text in told)


def test_the_table_sorts_by_click(make_whole: MakeResult, open_page: OpenPage) -> None:
    failed = Row("surgical:stages=stem", status="oom", error="killed")
    page = open_page(render_html([make_whole(rows=(*make_whole().rows, failed))]))
    peak = column_of(page, "peak, MiB")
    button = page.browser.find_elements("css selector", "#r1-t thead button")[peak]
    button.click()
    found = page.ask(COLUMN, peak)
    figures = [float(text) for text in found[:-1]]
    assert figures == sorted(figures), "as numbers: 80.0 before 201.0"
    assert figures[0] == 80.0
    assert found[-1] == "-", "what is missing comes last"
    assert [sort for sort in page.ask(SORTED) if sort] == ["ascending"]
    button.click()
    found = page.ask(COLUMN, peak)
    assert [float(text) for text in found[:-1]] == sorted(figures, reverse=True)
    assert found[-1] == "-"
    assert page.ask(SORTED)[peak] == "descending"
    said = page.ask("return document.querySelector('.said').textContent")
    assert said == "Sorted by peak, MiB, largest first."


def test_the_table_sorts_by_keyboard_and_the_page_is_no_trap(
    make_whole: MakeResult, open_page: OpenPage
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = open_page(render_html([make_whole()]))
    column = column_of(page, "trainable")
    button = page.browser.find_elements("css selector", "#r1-t thead button")[column]
    page.ask("arguments[0].focus()", button)
    ActionChains(page.browser).send_keys(Keys.ENTER).perform()
    assert page.ask(SORTED)[column] == "ascending"
    assert page.ask(COLUMN, column)[0] == "4.4%"
    ActionChains(page.browser).send_keys(Keys.SPACE).perform()
    assert page.ask(SORTED)[column] == "descending"
    assert page.ask("return document.activeElement === arguments[0]", button)

    page = open_page(render_html([make_whole()]))
    seen = []
    for _ in range(80):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        at = page.ask(
            "const e = document.activeElement; return e.id || e.className || e.textContent"
        )
        seen.append(at)
        if at == "save":
            break
    assert seen[0] == "skip"
    assert seen[-1] == "save", "Tab leads through the page to its end"
    reached = page.ask(
        "return [...document.querySelectorAll('a, button, input, summary')]"
        ".filter(one => one.offsetParent).length"
    )
    assert len(seen) >= reached - 2  # of the three radio buttons one is enough


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_colour_page_and_charts(
    make_whole: MakeResult, open_page: OpenPage, scheme: str
) -> None:
    page = open_page(render_html([make_whole()]), scheme=scheme)
    assert page.console == []

    def brightness(selector: str, what: str) -> float:
        colour = page.ask(
            "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]",
            selector,
            what,
        )
        numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        return sum(numbers) / 3

    paper = brightness(".card", "backgroundColor")
    assert (paper > 200) == (scheme == "light")
    for selector in (
        "#r1-peak-c .mark-text text",
        "#r1-tradeoff-c .role-axis-title text",
        "#r1-tradeoff-c .role-axis-label text",
        "#r1-forest-c .mark-text text",
    ):
        assert abs(brightness(selector, "fill") - paper) > 80, selector
    fills = page.ask(
        "return [...document.querySelectorAll('#r1-peak-c .mark-rect path')]"
        ".map(path => path.getAttribute('fill'))"
    )
    assert all(fill.startswith("url(#fill-") for fill in fills), "hatched, not coloured alone"


@pytest.mark.parametrize("width", [400, 320])
def test_a_narrow_screen_needs_no_sideways_scrolling(
    make_whole: MakeResult, open_page: OpenPage, width: int
) -> None:
    long = replace(make_whole().rows[1], strategy="by-name:contains=" + "a_very_long_name." * 12)
    other = make_whole(workload=Workload("timm:" + "vit_" * 30))
    text = render_html([make_whole(rows=(*make_whole().rows, long)), other])
    page = open_page(text, width=width)
    assert page.ask(WIDE) == 0
    assert page.console == []
    widest = page.ask(
        "return Math.max(...[...document.querySelectorAll('.chart svg')]"
        ".map(svg => svg.getBoundingClientRect().right))"
    )
    assert widest <= width


def test_the_map_follows_the_switch(make_whole: MakeResult, open_page: OpenPage) -> None:
    page = open_page(render_html([make_whole()]))
    first = """
        const boxes = [...document.querySelectorAll("#r1-stages-c .mark-rect path")];
        return boxes.slice(0, 4).map((box) => box.getBoundingClientRect().width);
    """
    even = page.ask(first)
    assert max(even) - min(even) < 2
    (choice,) = page.browser.find_elements("css selector", "input[value=parameters]")
    choice.click()
    stem, _, last, _ = page.browser.execute_async_script(
        f"const done = arguments[0]; const look = () => {{ {first} }};"
        "setTimeout(() => done(look()), 500)"
    )
    assert last > 100 * max(stem, 1)


def test_what_comes_from_elsewhere_does_nothing(
    make_whole: MakeResult, open_page: OpenPage, nasty: Row
) -> None:
    full = make_whole().rows[0]
    timed = replace(full, strategy=nasty.strategy)
    result = make_whole(
        rows=(full, timed, nasty), workload=Workload(f"a.py:{nasty.error}"), notes=(nasty.error,)
    )
    page = open_page(render_html([result]))
    assert page.console == []
    assert page.ask(NO_WORDS) == []
    assert page.drawn == page.charts == 5
    assert page.ask("return document.querySelectorAll('img').length") == 0
    assert nasty.strategy.replace("\u2028", "") in page.ask(
        "return document.querySelector('#r1-t tbody tr:nth-child(2) th').textContent"
    ).replace("\u2028", "")


def test_the_result_can_be_saved(make_whole: MakeResult, open_page: OpenPage) -> None:
    from freezekit.results.store import from_json

    result = make_whole()
    page = open_page(render_html([result]))
    saved = page.browser.execute_async_script(
        """
        const done = arguments[0];
        URL.createObjectURL = (blob) => {
          blob.text().then((text) => { window.saved = text; });
          return "blob:none";
        };
        HTMLAnchorElement.prototype.click = function () { window.named = this.download; };
        document.getElementById("save").click();
        setTimeout(() => done([window.named, window.saved]), 300);
        """
    )
    assert saved[0] == "torchvision-resnet18.json"
    assert from_json(saved[1]) == (result,)


def test_a_result_with_nothing_to_draw_opens_too(
    make_whole: MakeResult, open_page: OpenPage
) -> None:
    page = open_page(render_html([make_whole(rows=(Row("full", status="oom", error="killed"),))]))
    assert (page.charts, page.drawn) == (0, 0)
    assert page.console == []


def test_forty_rows_are_drawn(make_whole: MakeResult, open_page: OpenPage) -> None:
    full, *others = make_whole().rows
    many = [replace(row, strategy=f"{row.strategy}-{i}") for i in range(7) for row in others[:6]]
    page = open_page(render_html([make_whole(rows=(full, *many[:39]))]))
    assert page.console == []
    assert page.drawn == 5
    assert page.ask(MARKS)["forest"] == 40
    assert page.ask(NO_WORDS) == []
