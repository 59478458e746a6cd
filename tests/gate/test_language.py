"""Gates are read as they are meant, and an error shows the place."""

from __future__ import annotations

import pytest

from freezekit.errors import GateError
from freezekit.gate.judge import Gate
from freezekit.gate.language import parse
from freezekit.gate.tree import Constant, Figure, Operation, walk
from freezekit.gate.values import UNITS


def test_and_binds_closer_than_or_and_not_closest() -> None:
    lean = Figure("lean", None)
    above = Operation(">", (Figure("peak_bytes", None), Constant(1.0, None)))
    both = Operation("and", (Operation("not", (lean,)), above))
    assert parse("not lean and peak_bytes > 1 or lean", UNITS) == Operation("or", (both, lean))
    assert parse("lean or lean and lean", UNITS) == Operation(
        "or", (lean, Operation("and", (lean, lean)))
    )


def test_arithmetic_binds_as_in_python() -> None:
    a, b = Figure("flops", None), Figure("flops", "full")
    product, quotient = Operation("*", (a, b)), Operation("/", (a, b))
    for text, left in (
        ("flops - flops * full", Operation("-", (a, product))),
        ("flops - full - flops", Operation("-", (Operation("-", (a, b)), a))),
        ("flops - (full - flops)", Operation("-", (a, Operation("-", (b, a))))),
        ("-flops * full", Operation("*", (Operation("-", (a,)), b))),
        ("flops / full / full", Operation("/", (quotient, b))),
    ):
        assert parse(f"{text} > flops", UNITS) == Operation(">", (left, a))


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
    assert isinstance(node, Operation)
    assert node.parts[1] == Constant(pytest.approx(value), unit)
    number = text.split()[-1]
    assert _refused(f"lean and {number}")[1] == number, "its unit belongs to its place"


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
    node = parse(text, UNITS)
    assert isinstance(node, Operation)
    assert node.sign == ">"


def test_a_row_alone_takes_the_figure_of_the_comparison() -> None:
    for text in ("peak_bytes > full", "full < peak_bytes", "peak_bytes - full > 3"):
        found = parse(text, UNITS)
        assert isinstance(found, Operation)
        assert found.sign in ("<", ">")
        assert Figure("peak_bytes", "full") in walk(found)


def test_the_path_in_the_result_file_is_a_name_too() -> None:
    node = parse("memory.peak_bytes > full.memory.saved_activations_bytes", UNITS)
    saved = Figure("saved_activations_bytes", "full")
    assert node == Operation(">", (Figure("peak_bytes", None), saved))
    for name in ("memory.peek_bytes", "full.memory.saved_activation_bytes"):
        assert _refused(f"peak_bytes > {name}")[1] == name, "its path belongs to its place"


def _refused(text: str, shown: str = "") -> tuple[str, str]:
    """Return why a gate is refused, and which part of it is marked."""
    with pytest.raises(GateError) as caught:
        Gate.read(text)
    message, line, mark = str(caught.value).split("\n")
    assert line == f"  {shown or text}"
    assert mark.strip("^ ") == ""
    return message, text[mark.index("^") - 2 : mark.rindex("^") - 1]


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("peak_bytes > -60%", "60% is a ratio, and cannot be compared with bytes", "60%"),
        ("-peak_bytes > time.ratio", "a ratio cannot be compared with bytes", "time.ratio"),
        ("peek_bytes > 1", "unknown figure 'peek_bytes', did you mean 'peak_bytes'", "peek_bytes"),
        (
            "full.tim.ratio > 1",
            "unknown figure 'tim.ratio', did you mean 'time.ratio'",
            "full.tim.ratio",
        ),
        ("x > 1", "unknown figure 'x'; expected one of trainable_fraction, peak_bytes, ", "x"),
        ("peak_bytes > old", "; for the figure of another row, full, stock, baseline", "old"),
        ("peak_bytes > base", "unknown figure 'base', did you mean 'baseline'", "base"),
        ("peak_bytes > 3Q", "unknown unit 'Q'; expected one of KiB", "3Q"),
        (
            "peak_bytes > 60%",
            "60% is a ratio, and cannot be compared with bytes; did you mean 'full * 0.6'",
            "60%",
        ),
        (
            "0.25 < flops",
            "0.25 is a ratio, and cannot be compared with operations; did you mean",
            "0.25",
        ),
        (
            "lean and full + 5% > peak_bytes",
            "5% is a ratio, and cannot be added to bytes; did you mean 'full * 0.05'",
            "5%",
        ),
        ("time.step_seconds.p90 > 110%", "did you mean 'full * 1.1'", "110%"),
        ("peak_bytes > 2s", "seconds cannot be compared with bytes", "2s"),
        (
            "time.ratio > (peak_bytes - 1)",
            "bytes cannot be compared with a ratio",
            "peak_bytes - 1",
        ),
        ("peak_bytes > 1e999", "1e999 is too large for a number", "1e999"),
        ("peak_bytes > -2e308GiB", "2e308GiB is too large for a number", "2e308GiB"),
        ("peak_bytes > inf", "unknown figure 'inf'", "inf"),
        ("peak_bytes >", "unexpected end; expected a figure", ""),
        (
            "peak_bytes > 1 1",
            "unexpected '1'; expected an operator such as '>' or 'and', or the end",
            "1",
        ),
        ("peak_bytes $ 1", "unexpected '$'", "$"),
        ("peak_bytes = 1", "unexpected '='", "="),
        ("(peak_bytes > 1", "unexpected end; expected ')', because a bracket is open", ""),
        ("peak_bytes", "expected a condition, such as", "peak_bytes"),
        ("1 < peak_bytes < 3", "comparisons do not chain", "<"),
        ("strategy > 'a'", "texts are compared with '==' and '!='", ">"),
        ("strategy == 1", "'==' compares two numbers or two texts", "=="),
        ("strategy + 1 > 2", "'+' takes numbers", "+"),
        ("lean > 1", "'>' compares two numbers or two texts", ">"),
        ("full > 1", "'full' alone takes the one figure of the comparison, and none is", "full"),
        ("peak_bytes > flops + full", "and flops, peak_bytes are named; say which", "full"),
        ("   ", "a gate is empty", ""),
        (
            "(" * 60 + "lean" + ")" * 60,
            "more than 50 brackets and operators in one condition",
            "(",
        ),
        ("-" * 60 + "1 > 2", "more than 50 brackets and operators in one condition", "-"),
        ("not " * 60 + "lean", "more than 50 brackets and operators in one condition", "not"),
        ("__import__('os') > 1", "unknown figure '__import__'", "__import__"),
        (
            "peak_bytes.__class__ > 1",
            "unknown figure 'peak_bytes.__class__'",
            "peak_bytes.__class__",
        ),
    ],
)
def test_an_error_points_at_the_place(text: str, message: str, place: str) -> None:
    found, marked = _refused(text)
    assert message in found
    assert marked.strip() == place


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("peak_bytes(1) > 2", "unexpected '('; expected an operator", "("),
        ("lean()", "unexpected '('; expected an operator", "("),
        ("()", "unexpected ')'; expected a figure", ")"),
        ("(lean, lean)", "unexpected ','; a gate is made of", ","),
        ("[lean]", "unexpected '['", "["),
        ("flops[0] > 1", "unexpected '['", "["),
        ("(lean for x in lean)", "unexpected 'for'; expected an operator", "for"),
        ("lambda: lean", "unexpected ':'", ":"),
        ("(lean := lean)", "unexpected ':'", ":"),
        ("lean = lean", "unexpected '='; a gate is made of", "="),
        ("lean; lean", "unexpected ';'", ";"),
        ("lean # and more", "unexpected '#'", "#"),
        ("lean \\", "unexpected '\\\\'", "\\"),
        ("lean if lean else lean", "unexpected 'if'; expected an operator", "if"),
        ("lean is lean", "unexpected 'is'; expected an operator", "is"),
        ("strategy in 'full'", "unexpected 'in'; expected an operator", "in"),
        ("strategy not in 'full'", "unexpected 'not'; expected an operator", "not"),
        ("flops > not lean", "unexpected 'not'; expected a figure", "not"),
        ("await flops > 1", "unknown figure 'await'", "await"),
        ("True", "unknown figure 'True'", "True"),
        ("*flops > 1", "unexpected '*'; expected a figure", "*"),
        ("+flops > 1", "unexpected '+'; expected a figure", "+"),
        ("flops // 2 > 1", "unexpected '/'; expected a figure", "/"),
        ("flops ** 2 > 1", "unexpected '*'; expected a figure", "*"),
        ("flops << 2 > 1", "unexpected '<'; expected a figure", "<"),
        ("flops <> 1", "unexpected '>'; expected a figure", ">"),
        ("lean & lean", "unexpected '&'", "&"),
        ("~flops > 1", "unexpected '~'", "~"),
        ("flops % 2 > 1", "unexpected '%'", "%"),
        ("f'{flops}' == strategy", "unknown figure 'f'", "f"),
        ("b'full' == strategy", "unknown figure 'b'", "b"),
        ("strategy == 'fu' 'll'", "unexpected \"'ll'\"; expected an operator", "'ll'"),
        ("strategy == '''full'''", "unexpected \"'full'\"; expected an operator", "'full'"),
        ("strategy == 'full", 'unexpected "\'"', "'"),
        ("strategy == full'", 'unexpected "\'"', "'"),
        ("flops > 60%5", "unexpected '5'; expected an operator", "5"),
        ("flops > 1_000", "'1_000' is not a number; write one such as", "1_000"),
        ("flops > 0x10", "'0x10' is not a number", "0x10"),
        ("flops > 1.5.5", "'1.5.5' is not a number", "1.5.5"),
        ("flops > 3j", "unknown unit 'j'", "3j"),
        ("flops > full .flops", "unexpected '.'", "."),
        ("lean)", "unexpected ')'; expected an operator", ")"),
        ("lean) or (lean", "unexpected ')'; expected an operator", ")"),
        ("lean and", "unexpected end; expected a figure", ""),
        ("peek_bytes > 1 1", "unknown figure 'peek_bytes'", "peek_bytes"),
        ("'é' == strategy and é", "unexpected 'é'", "é"),
        ("'日本' == strategy and peek > 1", "unknown figure 'peek'", "peek"),
        ("flops > ²", "unexpected '²'", "²"),
        ("ﬂops > 1", "unexpected 'ﬂ'", "ﬂ"),
        ("flops >\0 1", "unexpected '\\x00'", "\0"),
        ("flops > \udc80", "unexpected '\\udc80'", "\udc80"),
    ],
)
def test_what_only_python_knows_is_refused_at_its_place(
    text: str, message: str, place: str
) -> None:
    found, marked = _refused(text, shown=text.replace("\0", " ").replace("\udc80", " "))
    assert message in found
    assert marked.strip() == place


def test_a_text_is_taken_as_it_is() -> None:
    for text in ("a\\n", "# 'and' (60%", "é", "{flops}", "\\N{x}", ""):
        node = parse(f'strategy == "{text}" and lean', UNITS)
        equal = Operation("==", (Figure("strategy", None), Constant(text, "text")))
        assert node == Operation("and", (equal, Figure("lean", None)))


def test_a_gate_may_stand_on_several_lines() -> None:
    text = "  strategy == 'head-only'\n\tand (peak_bytes\n > full)\n"
    assert parse(text, UNITS) == parse(" ".join(text.split()), UNITS)


@pytest.mark.parametrize("depth", [60, 9999])
@pytest.mark.parametrize(
    ("start", "place"),
    [
        ("(", "("),
        ("-", "-"),
        ("not ", "not"),
        ("(lean or ", "("),
        ("lean and not (", "not"),
        ("1 + ", "+"),
        ("1 < ", "<"),
        ("lean or (1 - ", "-"),
    ],
)
def test_a_gate_too_deep_for_a_parser_is_refused(start: str, place: str, depth: int) -> None:
    with pytest.raises(GateError) as caught:
        Gate.read(start * depth + "1")
    message, line, mark = str(caught.value).split("\n")
    assert message == "more than 50 brackets and operators in one condition"
    assert line[mark.index("^") : mark.rindex("^") + 1] == place


def test_a_long_gate_is_no_deep_one() -> None:
    condition = "(not lean or flops > full * -1)"
    node = parse(" and ".join([condition] * 500), UNITS)
    assert node == Operation("and", (parse(condition, UNITS),) * 500)
    with pytest.raises(GateError, match="unexpected 'lean'; expected an operator"):
        parse("lean " * 9999, UNITS)


@pytest.mark.parametrize("text", ["(" * 9999, "lean and " * 999 + "$" + " and lean" * 999])
def test_an_error_in_a_very_long_gate_shows_what_is_around(text: str) -> None:
    with pytest.raises(GateError) as caught:
        Gate.read(text)
    _, line, mark = str(caught.value).split("\n")
    assert len(line) < 320
    assert line.endswith("...")
    assert line[mark.index("^")] == ("$" if "$" in text else "(")


def test_a_very_long_piece_is_quoted_in_part() -> None:
    for text in ("peak_bytes > " + "9" * 5000, "p" * 5000 + " > 1", "peak_bytes > 1" + "q" * 5000):
        with pytest.raises(GateError) as caught:
            parse(text, UNITS)
        assert len(str(caught.value).splitlines()[0]) < 2000
        assert "..." in str(caught.value).splitlines()[0]
