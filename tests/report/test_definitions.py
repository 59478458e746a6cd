"""What words mean is said where they are used, and in the docs in the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from freezekit.report.cells import COLUMNS
from freezekit.report.definitions import DEFINITIONS, definitions
from freezekit.results.figures import FIGURES
from freezekit.results.records import Result, Row

MakeResult = Callable[..., Result]
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "figures.md").read_text()


def test_the_docs_define_each_word_in_the_same_words() -> None:
    for one in DEFINITIONS:
        assert f"| {one.term} | {one.meaning} |" in PAGE
    for figure in FIGURES:
        assert f"| `{figure.name}` | {figure.unit} | {figure.explanation} |" in PAGE
    rows = len(DEFINITIONS) + len(FIGURES)
    assert PAGE.count("\n| ") == rows + 2, "nothing else, but two headers"


def test_each_column_is_defined() -> None:
    terms = " ".join(one.term for one in DEFINITIONS)
    for column in COLUMNS:
        assert column.title.split(",")[0] in terms, column.title


def test_words_that_a_result_does_not_use_are_not_defined(make_result: MakeResult) -> None:
    told = [text.split(":")[0] for text in definitions(make_result())]
    unused = ("[lean]", "[budget:SIZE]", "[cache]", "[compiled]", "whole run")
    assert told == [one.term for one in DEFINITIONS if one.term not in unused]
    lean = tuple(replace(row, lean=True) for row in make_result().rows)
    assert definitions(make_result(rows=lean))[-1].startswith("[lean]: Frozen with lean=True")
    budget = tuple(replace(row, lean="budget:2GiB") for row in make_result().rows)
    assert definitions(make_result(rows=budget))[-1].startswith("[budget:SIZE]: Lean, and backward")
    cached = tuple(replace(row, cached=True) for row in make_result().rows)
    assert definitions(make_result(rows=cached))[-1].startswith("[cache]: Steps took features")
    assert definitions(make_result(rows=(Row("full"),))) == ()
