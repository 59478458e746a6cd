"""Gates are read as they are meant, and an error shows the place."""

from __future__ import annotations

import pytest

from freezekit.errors import GateError
from freezekit.gate.judge import Gate
from freezekit.gate.language import parse
from freezekit.gate.tree import Comparison, Constant, Figure, Logic, Negation
from freezekit.gate.values import UNITS


def test_and_binds_closer_than_or_and_not_closest() -> None:
    node = parse("not lean and peak_bytes > 1 or lean", UNITS)
    assert isinstance(node, Logic)
    assert node.word == "or"
    assert isinstance(node.left, Logic)
    assert isinstance(node.left.left, Negation)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("peak_bytes > 2GiB", 2**31, "bytes"),
        ("peak_bytes > .5kB", 500.0, "bytes"),
        ("peak_bytes > 1.5 ", 1.5, None),
        ("flops > 1e3", 1e3, None),
        ("time.ratio > 60%", 0.6, "ratio"),
        ("time.step_seconds.median > 10ms", 0.01, "seconds"),
    ],
)
def test_numbers_have_units(text: str, value: float, unit: str | None) -> None:
    node = parse(text, UNITS)
    assert isinstance(node, Comparison)
    assert node.right == Constant(pytest.approx(value), unit, text.index(">") + 2)


@pytest.mark.parametrize(
    "text",
    [
        "peak_bytes / full > 60%",
        "peak_bytes / full.peak_bytes > 0.6",
        "peak_bytes > full * 60%",
        "peak_bytes > parameters.total * 4 + 2MiB",
        "peak_bytes / parameters.total > 0.5",
        "time.ratio - 1 > 0.05",
        "time.step_seconds.median > 0.5",
        "time.step_seconds.median > full.time.step_seconds.median * time.ratio",
    ],
)
def test_arithmetic_makes_figures_comparable(text: str) -> None:
    assert isinstance(parse(text, UNITS), Comparison)


def test_a_row_alone_takes_the_figure_of_the_comparison() -> None:
    for text in ("peak_bytes > full", "full < peak_bytes", "peak_bytes - full > 3"):
        found = parse(text, UNITS)
        assert isinstance(found, Comparison)
        assert "Figure(name='peak_bytes', of='full'" in repr(found)


def test_the_path_in_the_result_file_is_a_name_too() -> None:
    node = parse("memory.peak_bytes > full.memory.saved_activations_bytes", UNITS)
    assert isinstance(node, Comparison)
    assert node.left == Figure("peak_bytes", None, 0)
    assert node.right == Figure("saved_activations_bytes", "full", 20)


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("peek_bytes > 1", "unknown figure 'peek_bytes', did you mean 'peak_bytes'", "peek_bytes"),
        ("full.tim.ratio > 1", "unknown figure 'tim.ratio', did you mean 'time.ratio'", "full"),
        ("x > 1", "unknown figure 'x'; expected one of trainable_fraction, peak_bytes, ", "x"),
        ("peak_bytes > 3Q", "unknown unit 'Q'; expected one of KiB", "3Q"),
        (
            "peak_bytes > 60%",
            "60% is a ratio, compared with bytes; did you mean 'full * 0.6'",
            "60%",
        ),
        ("0.25 < flops", "0.25 is a ratio, compared with operations; did you mean", "0.25"),
        ("lean and full + 5% > peak_bytes", "did you mean 'full * 0.05'", "5%"),
        ("time.step_seconds.p90 > 110%", "did you mean 'full * 1.1'", "110%"),
        ("peak_bytes > 2s", "bytes and seconds are not compared", "2s"),
        ("time.ratio > (peak_bytes - 1)", "a ratio and bytes are not compared", "peak_bytes"),
        ("peak_bytes > 1e999", "1e999 is more than a number can hold", "1e999"),
        ("peak_bytes > -2e308GiB", "2e308GiB is more than a number can hold", "2e308GiB"),
        ("peak_bytes > inf", "unknown figure 'inf'", "inf"),
        ("peak_bytes >", "unexpected end; expected a figure", ""),
        ("peak_bytes > 1 1", "unexpected '1'; expected 'and', 'or' or the end", "1"),
        ("peak_bytes $ 1", "unexpected '$'", "$"),
        ("peak_bytes = 1", "unexpected '='", "="),
        ("(peak_bytes > 1", "a bracket is open", ""),
        ("peak_bytes", "expected a condition", ""),
        ("1 < peak_bytes < 3", "comparisons do not chain", "<"),
        ("strategy > 'a'", "texts are compared with '==' and '!='", ">"),
        ("strategy == 1", "'==' compares two numbers or two texts", "=="),
        ("strategy + 1 > 2", "'+' takes numbers", "+"),
        ("lean > 1", "'>' compares two numbers or two texts", ">"),
        ("full > 1", "'full' alone takes the one figure of the comparison, and none is", "full"),
        ("peak_bytes > flops + full", "and flops, peak_bytes are named; say which", "full"),
        ("   ", "a gate is empty", ""),
        ("(" * 60 + "lean" + ")" * 60, "more than 50 brackets deep", "("),
        ("-" * 60 + "1 > 2", "more than 50 brackets deep", "-"),
        ("not " * 60 + "lean", "more than 50 brackets deep", "not"),
        ("__import__('os') > 1", "unknown figure '__import__'", "__import__"),
        ("peak_bytes.__class__ > 1", "unknown figure 'peak_bytes.__class__'", "peak_bytes"),
    ],
)
def test_an_error_points_at_the_place(text: str, message: str, place: str) -> None:
    with pytest.raises(GateError) as caught:
        Gate.read(text)
    first, line, mark = str(caught.value).split("\n")
    assert message in first
    assert line == f"  {text}"
    assert mark.strip("^ ") == ""
    start = mark.index("^") - 2
    assert text[start : start + len(place)] == place


@pytest.mark.parametrize("text", ["(" * 9999, "lean and " * 999 + "$" + " and lean" * 999])
def test_an_error_in_a_very_long_gate_shows_what_is_around(text: str) -> None:
    with pytest.raises(GateError) as caught:
        Gate.read(text)
    _, line, mark = str(caught.value).split("\n")
    assert len(line) < 320
    assert line.endswith("...")
    assert line[mark.index("^")] == ("$" if "$" in text else "(")
