"""Specs: which texts are read or refused, with which message, and round trips of text and value."""

from __future__ import annotations

import dataclasses
import itertools
import random
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Optional

import pytest

from freezekit import PluginError, SpecError, Strategy
from freezekit.spec.grammar import Part, build, format_named, parse
from freezekit.spec.option_types import option_type
from freezekit.spec.options import option_infos


@dataclass(frozen=True)
class Everything(Strategy):
    name: ClassVar[str] = "everything"
    summary: ClassVar[str] = "one option of each type"

    n: Annotated[int, "how many"]
    rate: float = 0.5
    deep: bool = False
    text: str = ""
    mode: Literal["fixed", "live", 3] = "fixed"
    regex: str | None = None
    limit: Optional[int] = None  # noqa: UP045  # the old spelling is supported too
    parts: tuple[str, ...] = ()
    range_of: tuple[int, float] = (0, 1.0)
    stages: tuple[int | None, ...] = dataclasses.field(default=(1,))
    maybe: tuple[str, ...] | None = None
    modes: tuple[Literal["a", "b"], ...] = ()
    seen: int = dataclasses.field(default=0, init=False)


@dataclass(frozen=True)
class Texts(Strategy):
    name: ClassVar[str] = "texts"
    summary: ClassVar[str] = "options that hold any text"

    text: str
    regex: str | None
    parts: tuple[str, ...]
    maybe: tuple[str, ...] | None


def made(options: str) -> Everything:
    return build(Everything, parse(f"everything:{options}")[0].options)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("full", (Part("full"),)),
        ("  full  ", (Part("full"),)),
        ("a:x=1,y=2", (Part("a", (("x", "1"), ("y", "2"))),)),
        (" a : x = 1 , y = 2 + b ", (Part("a", (("x", "1"), ("y", "2"))), Part("b"))),
        ("a + b\n+\tc", (Part("a"), Part("b"), Part("c"))),
        (r"a:x=layer\d+ + b", (Part("a", (("x", r"layer\d+"),)), Part("b"))),
        ("a:x=1e+3", (Part("a", (("x", "1e+3"),)),)),
        ("a:x=bn|norm", (Part("a", (("x", "bn|norm"),)),)),
        ("a:x='p, q + r'|s + b", (Part("a", (("x", "'p, q + r'|s"),)), Part("b"))),
        ("a:x=p=q:r", (Part("a", (("x", "p=q:r"),)),)),
        ("a:x=it's,y=2", (Part("a", (("x", "it's"), ("y", "2"))),)),
        ("a:x=, y=2 + b", (Part("a", (("x", ""), ("y", "2"))), Part("b"))),
        ("a:x= + b", (Part("a", (("x", ""),)), Part("b"))),
        ("a | b", (Part("a"), Part("b", unites=True))),
        ("a + b\n|\tc + d", (Part("a"), Part("b"), Part("c", unites=True), Part("d"))),
        ("a:x=1 | b:y=2", (Part("a", (("x", "1"),)), Part("b", (("y", "2"),), unites=True))),
        ("a:x=p|q | b", (Part("a", (("x", "p|q"),)), Part("b", unites=True))),
        ("a:x=p |q| r | b", (Part("a", (("x", "p |q| r"),)), Part("b", unites=True))),
        ("a:x='p | q' | b", (Part("a", (("x", "'p | q'"),)), Part("b", unites=True))),
        ("a:x= | b", (Part("a", (("x", ""),)), Part("b", unites=True))),
    ],
)
def test_grammar(text: str, parts: tuple[Part, ...]) -> None:
    assert parse(text) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the spec is empty; expected text such as 'full'"),
        ("  ", "the spec is empty"),
        ("+ full", "'+ full' at character 1, '+ full': expected the name of a strategy"),
        ("full +", "'full +' at its end: expected the name of a strategy"),
        ("full + + b", "at character 8, '+ b': expected the name of a strategy"),
        ("full+b", r"at character 5, '+b': expected ':' and options, ' + ' (with spaces) and"),
        ("full b", "at character 6, 'b': expected ':' and options, ' + ' (with spaces) and"),
        ("full, b", "at character 5, ', b': expected ':' and options, ' + ' (with spaces) and"),
        ("full:", "'full:' at its end: expected option=value"),
        ("a:n", "at character 3, 'n': expected option=value"),
        ("a:2", "at character 3, '2': expected option=value"),
        (
            "a:x=1,",
            "at its end: expected option=value; put quotes around a value that contains a comma",
        ),
        ("a:x=b{1,2}", "at character 9, '2}': expected option=value; put quotes around"),
        ("a:x='b", "at character 5, \"'b\": expected the quote ' to be closed"),
        ('a:x=b|"c,y=2', "at character 7, '\"c,y=2': expected the quote \" to be closed"),
        ("a |", "'a |' at its end: expected the name of a strategy"),
        ("| a", "'| a' at character 1, '| a': expected the name of a strategy"),
        ("a | | b", "at character 5, '| b': expected the name of a strategy"),
        ("a + | b", "at character 5, '| b': expected the name of a strategy"),
        ("a|b", "at character 2, '|b': expected ':' and options, ' + ' (with spaces) and"),
        ("a|b", "or nothing more; ' | ' (with spaces) unites what two strategies train"),
        ("a:x=b | 'c'", "at character 9, \"'c'\": expected the name of a strategy. A bar with a"),
        ("a:x=b | c, y=2", "write the bar without spaces, as in 'contains=bn|norm'"),
        ("a:x='b'c", "at character 8, 'c': expected ',' and an option, ' + ' (with spaces) and"),
        ("a:x='b'+ c", "at character 8, '+ c': expected ',' and an option, ' + ' (with spaces)"),
    ],
)
def test_bad_grammar_gives_the_position(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("n=3", "n", 3),
        ("n='3'", "n", 3),
        ("n=-3", "n", -3),
        ("n=1,rate=1e-3", "rate", 1e-3),
        ("n=1,rate=2", "rate", 2.0),
        ("n=1,deep=yes", "deep", True),
        ("n=1,deep=False", "deep", False),
        ("n=1,text=a|b", "text", "a|b"),
        ("n=1,text='a, b'", "text", "a, b"),
        ("n=1,text='it''s'", "text", "it's"),
        ('n=1,text="it\'s"', "text", "it's"),
        ("n=1,text=''", "text", ""),
        ("n=1,text=none", "text", "none"),
        (r"n=1,text=\d\+", "text", r"\d\+"),
        ("n=1,mode=live", "mode", "live"),
        ("n=1,mode=3", "mode", 3),
        ("n=1,regex=none", "regex", None),
        ("n=1,regex='none'", "regex", "none"),
        ("n=1,limit=None", "limit", None),
        ("n=1,limit=4", "limit", 4),
        ("n=1,parts=bn |norm", "parts", ("bn", "norm")),
        ("n=1,parts='a|b'|c", "parts", ("a|b", "c")),
        ("n=1,parts=", "parts", ()),
        ("n=1,parts=''", "parts", ("",)),
        ("n=1,range_of=1|2.5", "range_of", (1, 2.5)),
        ("n=1,range-of=1|2.5", "range_of", (1, 2.5)),
        ("n=1,stages=1|none|3", "stages", (1, None, 3)),
        ("n=1,maybe=none", "maybe", None),
        ("n=1,maybe='none'", "maybe", ("none",)),
        ("n=1,modes=a|b|a", "modes", ("a", "b", "a")),
    ],
)
def test_values(options: str, field: str, value: object) -> None:
    got = getattr(made(options), field)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("n=two", "everything: option 'n' takes an int, got 'two'"),
        ("n=1.5", "everything: option 'n' takes an int, got '1.5'"),
        ("n=", "everything: option 'n' takes an int, got ''"),
        ("n=1|2", "everything: option 'n' takes an int, got '1|2'"),
        ("n=2+full", "takes an int, got '2+full'. To compose strategies, put spaces around '+'"),
        (
            "n=2,mode=live+full",
            "got 'live+full', did you mean 'live'? To compose strategies, put spaces around '+'",
        ),
        ("n=1,rate=fast", "option 'rate' takes a float, got 'fast'"),
        ("n=1,rate=nan", "option 'rate' takes a float, got 'nan'"),
        ("n=1,deep=maybe", "option 'deep' takes true or false, got 'maybe'"),
        ("n=1,text=", "option 'text' has no value; write '' for an empty text"),
        ("n=1,text='a'|b", "option 'text' takes one value, got \"'a'|b\"; put quotes around all"),
        (
            "n=1,mode=fixd",
            "'mode' takes 'fixed' or 'live' or '3', got 'fixd', did you mean 'fixed'?",
        ),
        ("n=1,limit=x", "option 'limit' takes an int, or none, got 'x'"),
        ("n=1,parts=a||b", "option 'parts' has no value; write '' for an empty text"),
        ("n=1,range_of=1", "takes 2 items separated by '|' (int|float), got '1'"),
        ("n=1,stages=1|x", "option 'stages' takes an int, or none, got 'x'"),
        (
            "n=1,m=2",
            "everything: unknown option 'm'. Its options are: n, rate, deep, text, mode, regex",
        ),
        (
            "n=1,range-off=2",
            "unknown option 'range-off', did you mean 'range_of'? Its options are: n, rate,",
        ),
        ("n=1,seen=2", "unknown option 'seen'"),
        ("n=1,n=2", "everything: option 'n' is given twice"),
        ("n=1,range_of=1|2,range-of=1|2", "option 'range_of' is given twice"),
        ("rate=1", "option 'n' is missing, expected 'everything:n=<int>' (how many)"),
    ],
)
def test_bad_options(options: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        made(options)
    assert message in str(caught.value)


def test_an_option_of_a_strategy_without_options() -> None:
    with pytest.raises(SpecError, match=r"full: unknown option 'n'\. It has no options"):
        build(Plain, (("n", "1"),))


def test_the_message_of_a_failed_check_names_the_strategy() -> None:
    @dataclass(frozen=True)
    class Checked(Strategy):
        name = "checked"
        n: int

        def __post_init__(self) -> None:
            raise ValueError(f"n is {self.n}, expected less")

    with pytest.raises(SpecError, match="checked: n is 7, expected less"):
        build(Checked, (("n", "7"),))


@dataclass(frozen=True)
class Plain(Strategy):
    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "nothing"


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (Plain(), "full"),
        (Everything(2), "everything:n=2"),
        (Everything(2, rate=0.5, deep=True), "everything:n=2,deep=true"),
        (Everything(2, rate=1e-7, mode=3), "everything:n=2,rate=1e-07,mode=3"),
        (Everything(2, text=r"layer[12]\."), r"everything:n=2,text=layer[12]\."),
        (Everything(2, text="a, b"), "everything:n=2,text='a, b'"),
        (Everything(2, text="it's"), 'everything:n=2,text="it\'s"'),
        (Everything(2, regex="none"), "everything:n=2,regex='none'"),
        (Everything(2, text="none"), "everything:n=2,text=none"),
        (Everything(2, parts=("bn", "a|b")), "everything:n=2,parts=bn|'a|b'"),
        (Everything(2, stages=()), "everything:n=2,stages="),
        (Everything(2, stages=(None,)), "everything:n=2,stages=none"),
        (Everything(2, maybe=("none", "x")), "everything:n=2,maybe='none'|x"),
    ],
)
def test_canonical_text(strategy: Strategy, text: str) -> None:
    assert format_named(strategy) == text
    assert build(type(strategy), parse(text)[0].options) == strategy


def test_the_canonical_text_does_not_depend_on_the_spelling() -> None:
    given = ["n=1,range-of=3|4, deep = on", "deep=1 , range_of = 3 |4.0 , n='1', rate=.5"]
    texts = {format_named(made(options)) for options in given}
    assert texts == {"everything:n=1,deep=true,range_of=3|4.0"}


def test_any_text_round_trips() -> None:
    letters = ["a", " ", "+", ",", "|", "'", '"', "=", ":", "\\", "\n", "none", "é", "\x1c"]
    short = ("".join(p) for size in range(4) for p in itertools.product(letters, repeat=size))
    chance = random.Random(0)
    long = ("".join(chance.choices(letters, k=chance.randint(4, 12))) for _ in range(500))
    for text in itertools.chain(short, long):
        strategy = Texts(text=text, regex=text, parts=(text, "x"), maybe=(text,))
        written = format_named(strategy)
        parts = parse(f"{written} + full")
        assert [part.name for part in parts] == ["texts", "full"], written
        assert build(Texts, parts[0].options) == strategy, written


def test_numbers_round_trip() -> None:
    chance = random.Random(0)
    for _ in range(200):
        number = chance.choice([-1, 1]) * chance.random() * 10 ** chance.randint(-300, 300)
        strategy = Everything(int(number) % 10**9, rate=number, range_of=(-1, number))
        assert build(Everything, parse(format_named(strategy))[0].options) == strategy


def test_option_infos_describe_each_option() -> None:
    rows = [
        (o.name, o.type_text, o.default_text, o.required, o.help) for o in option_infos(Everything)
    ]
    assert rows == [
        ("n", "int", None, True, "how many"),
        ("rate", "float", "0.5", False, ""),
        ("deep", "bool", "false", False, ""),
        ("text", "str", "''", False, ""),
        ("mode", "fixed or live or 3", "fixed", False, ""),
        ("regex", "str or none", "none", False, ""),
        ("limit", "int or none", "none", False, ""),
        ("parts", "str|...", "", False, ""),
        ("range_of", "int|float", "0|1.0", False, ""),
        ("stages", "(int or none)|...", "1", False, ""),
        ("maybe", "str|... or none", "none", False, ""),
        ("modes", "(a or b)|...", "", False, ""),
    ]


@pytest.mark.parametrize(
    "hint",
    [
        list[str],
        dict,
        bytes,
        object,
        int | str,
        int | str | None,
        tuple[()],
        tuple[tuple[int, ...], ...],
        tuple[list[int], ...],
        tuple[int | None, ...] | None,
        None,
    ],
)
def test_types_that_a_spec_cannot_write(hint: object) -> None:
    assert option_type(hint) is None


def test_errors_of_a_class_are_reported_as_the_plugins_fault() -> None:
    @dataclass(frozen=True)
    class Listed(Strategy):
        name = "listed"
        parts: list[str] = dataclasses.field(default_factory=list)

    @dataclass(frozen=True)
    class Unset(Strategy):
        name = "unset"
        rate: float = None  # type: ignore[assignment]  # the mistake in question

    @dataclass(frozen=True)
    class Hidden(Strategy):
        name = "hidden"
        mode: Nowhere = 1  # type: ignore[name-defined]  # noqa: F821  # as above

    with pytest.raises(PluginError, match=r"option 'parts' of .*Listed' has the type list\[str\]"):
        option_infos(Listed)
    with pytest.raises(PluginError, match=r"option 'rate' of .*Unset' has the default None, expec"):
        option_infos(Unset)
    with pytest.raises(PluginError, match="'Nowhere' is not defined; import them at the top"):
        option_infos(Hidden)
