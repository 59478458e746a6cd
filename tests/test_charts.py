"""The committed charts are those that the code draws of the committed results."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from benchmarks.charts import CHARTS, OUT
from freezekit.results.store import load


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_current(name: str) -> None:
    current = (OUT / f"{name}.svg").read_text(encoding="utf-8") == CHARTS[name]()
    assert current, "not what the results say now: run python -m benchmarks.charts"


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_whole_and_fetches_nothing(name: str) -> None:
    text = (OUT / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in text
    addresses = set(re.findall(r"https?://[^\"' )]+", text))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    used = set(re.findall(r"var\((--\w+)\)", text))
    assert used
    for scheme in re.findall(r":root{(.*?)}", text):
        assert used <= set(re.findall(r"--\w+(?=:)", scheme))


def test_the_chart_of_readme_names_each_strategy() -> None:
    (result,) = load(OUT.parents[1] / "benchmarks" / "results" / "readme-bench.json")
    text = (OUT / "memory-and-time.svg").read_text(encoding="utf-8")
    for row in result.rows:
        assert f" {row.label}</text>" in text


def test_nothing_else_is_drawn() -> None:
    assert {path.stem for path in OUT.iterdir()} == set(CHARTS)
